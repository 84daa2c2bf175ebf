"""Writes test/fixtures/adapters/NAME.json: adapter_config.json as PEFT saves it, the tensors' names and shapes, and what
PEFT computes (f32, eager attention) with the tiny model of a family for a prompt and its greedy continuation.

    pip install torch transformers peft numpy && python scripts/model-fixtures/adapters.py [NAME …]
"""
import base64
import json
import pathlib
import sys
import tempfile

import peft
import torch
from generate import GENERATED, PROMPT, build
from safetensors import safe_open
from weights import values_of

OUT = pathlib.Path(__file__).parents[2] / 'test/fixtures/adapters'
WATCHED = [0, 69, 92]
ALL = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj']

# name: (family, LoraConfig, stored dtype)
ADAPTERS = {
    'all': ('llama', dict(r=20, lora_alpha=10, target_modules=ALL, rank_pattern={'q_proj': 4, 'layers.1.mlp.down_proj': 33},
                          alpha_pattern={'k_proj': 20, 'layers.2.self_attn.q_proj': 1}), 'bfloat16'),
    'rslora': ('llama', dict(r=5, lora_alpha=1.5, target_modules=['q_proj', 'v_proj'], use_rslora=True), 'float32'),
    'one-layer': ('llama', dict(r=8, lora_alpha=8, target_modules=['down_proj', 'gate_proj'], layers_to_transform=[1]), 'float16'),
    'biases': ('qwen2', dict(r=8, lora_alpha=4, target_modules=['k_proj', 'up_proj', 'o_proj']), 'float16'),
    'fused': ('phi3', dict(r=6, lora_alpha=3, target_modules=['qkv_proj', 'gate_up_proj', 'o_proj', 'down_proj']), 'bfloat16'),
    'norms': ('gemma2', dict(r=16, lora_alpha=8, target_modules=ALL), 'float32'),
    'scaled': ('granite', dict(r=4, lora_alpha=4, target_modules=ALL), 'float32'),
    'beside-experts': ('mixtral', dict(r=8, lora_alpha=4, target_modules=['q_proj', 'o_proj']), 'float32'),
}


@torch.no_grad()
def generate(name):
    family, given, dtype = ADAPTERS[name]
    model, config, _, _ = build(family)
    model = peft.get_peft_model(model, peft.LoraConfig(task_type='CAUSAL_LM', **given)).eval()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        saved = json.loads((pathlib.Path(folder) / 'adapter_config.json').read_text())
        with safe_open(f'{folder}/adapter_model.safetensors', 'pt') as f:
            tensors = {n: list(f.get_slice(n).get_shape()) for n in f.keys()}
    # each adapter has values of its own
    state = {n: values_of(f'{name}/{n}', s, False) for n, s in tensors.items()}
    result = peft.set_peft_model_state_dict(model, state)
    assert not result.unexpected_keys and not any('lora' in m for m in result.missing_keys), result
    vocab = config['vocab_size']
    ids = [1] + [(i * 7919 + 13 * i * i) % vocab for i in range(1, PROMPT)]
    for _ in range(GENERATED):
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
        ids.append(int(logits[-1].argmax()))
    logits = model(input_ids=torch.tensor([ids[:-1]]), use_cache=False).logits[0].float()
    with model.disable_adapter():
        alone = model(input_ids=torch.tensor([ids[:-1]]), use_cache=False).logits[0].float()
    top = logits.topk(2).values
    saved = {k: sorted(v) if k == 'target_modules' else v for k, v in saved.items() if k != 'base_model_name_or_path'}
    fixture = {
        'peft': peft.__version__, 'family': family, 'dtype': dtype, 'config': saved, 'tensors': tensors,
        'prompt': PROMPT, 'ids': ids, 'argmax': logits.argmax(-1).tolist(),
        'gap': [round(float(a - b), 4) for a, b in top], 'watched': WATCHED,
        'logits': base64.b64encode(logits[WATCHED].numpy().astype('<f4').tobytes()).decode(),
    }
    OUT.mkdir(exist_ok=True)
    (OUT / f'{name}.json').write_text(json.dumps(fixture, separators=(',', ':')) + '\n')
    other = float((logits.argmax(-1) != alone.argmax(-1)).float().mean())
    print(name, 'std', round(float(logits.std()), 2), 'argmax differs from the model alone at', round(other, 2),
          'different tokens', len(set(ids[PROMPT:])))


if __name__ == '__main__':
    for wanted in sys.argv[1:] or ADAPTERS:
        generate(wanted)
