/**
 * The tokenizer's process: long texts and chat templates keep neither the HTTP thread nor the engine waiting, and a
 * template that makes the JavaScript engine give up ends this process alone.
 */
import { beginProcess } from '../base/process.js';
import { type Answers, answer, type CallMessage } from '../base/worker.js';
import { type ChatTemplate, createChatTemplate } from './chat-template.js';
import { metadataString } from './metadata.js';
import { unpackMetadata } from './packed.js';
import type { Calls, TokenizerInfo, WorkerData } from './protocol.js';
import { reasoningTemplateOf } from './reasoning-template.js';
import { createTokenizer } from './tokenizer.js';
import type { Tokenizer } from './types.js';

interface Made {
  tokenizer: Tokenizer;
  template: ChatTemplate;
}

const answers: Answers<Calls, Made> = {
  encode: ({ text, options }, { tokenizer }) => ({ ids: tokenizer.encode(text, options), text: '' }),
  chat: ({ messages, options, continued }, { template }) =>
    continued ? template.continue(messages, options) : template.apply(messages, options),
};

function make({ metadata, modelVocab }: WorkerData): { made: Made; info: TokenizerInfo } {
  const tokenizer = createTokenizer(unpackMetadata(metadata), { modelVocab });
  const own = metadataString(unpackMetadata(metadata), 'tokenizer.chat_template');
  const template = createChatTemplate(unpackMetadata(metadata), tokenizer);
  return { made: { tokenizer, template }, info: infoOf(tokenizer, template, own) };
}

function infoOf(tokenizer: Tokenizer, template: ChatTemplate, own: string | null): TokenizerInfo {
  const { model, vocabSize, special, endTokens, startTokens, tokenBytes, warnings } = tokenizer;
  return {
    model,
    vocabSize,
    special,
    endTokens: [...endTokens],
    startTokens: [...startTokens],
    tokenBytes,
    warnings: [...warnings],
    templateInstead: template.instead,
    reasoning: reasoningTemplateOf(own),
  };
}

beginProcess('longmind tokenizer', make, (port, made) =>
  port.on('message', (m: CallMessage<Calls>) => answer(port, m, answers, made)),
);
