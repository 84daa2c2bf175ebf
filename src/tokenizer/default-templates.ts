/** Chat templates for files that bring none, chosen by the special tokens they have. */
import type { Tokenizer } from './types.js';

interface TemplateText {
  text: string;
  /** null: the file's own; else which one was taken instead. */
  instead: string | null;
}

const chatml = `{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}`;

const llama3 = `{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}`;

const llama2 = `{% if messages[0]['role'] == 'system' %}{% set system = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' %}{% set turns = messages[1:] %}{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}{% for message in turns %}{% if message['role'] == 'assistant' %}{{ ' ' + message['content'] + ' ' + eos_token }}{% else %}{{ bos_token + '[INST] ' + (system if loop.first else '') + message['content'] + ' [/INST]' }}{% endif %}{% endfor %}`;

const gemma = `{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] + '\\n\\n' %}{% set turns = messages[1:] %}{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}{% for message in turns %}{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else 'user') + '\\n' + (system if loop.first else '') + message['content'] + '<end_of_turn>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}`;

const plain = `{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}`;

export function chooseTemplate(own: string | null, tokenizer: Tokenizer): TemplateText {
  if (own !== null && own.trim() !== '') return { text: own, instead: null };
  if (tokenizer.tokenId('<|im_start|>') !== null) return { text: chatml, instead: 'ChatML' };
  if (tokenizer.tokenId('<|start_header_id|>') !== null) return { text: llama3, instead: 'Llama 3' };
  if (tokenizer.tokenId('<start_of_turn>') !== null) return { text: gemma, instead: 'Gemma' };
  if (tokenizer.model === 'llama') return { text: llama2, instead: 'Llama 2' };
  return { text: plain, instead: "'role: content' lines" };
}
