"""Writes test/fixtures/models/NAME.json: config.json as transformers saves it, the tensors' names and shapes, and what
transformers computes (f32, eager attention) for a prompt and its greedy continuation.

    pip install torch transformers numpy && python scripts/model-fixtures/generate.py [NAME …]
"""
import base64
import json
import pathlib
import sys
import tempfile

import torch
import transformers
from families import BASE, FAMILIES
from safetensors import safe_open
from safetensors.torch import save_file
from weights import values_of

OUT = pathlib.Path(__file__).parents[2] / 'test/fixtures/models'
PROMPT, GENERATED = 70, 24
WATCHED = [0, 31, 69, 80, 93]


def make(kind, changes):
    config_class = getattr(transformers, f'{kind}Config')
    given = {**BASE, **changes}
    implementation = given.pop('attn_implementation')
    config = config_class(**{k: v for k, v in given.items() if v is not None})
    return transformers.AutoModelForCausalLM.from_config(config, attn_implementation=implementation).float().eval()


def saved_config(model):
    with tempfile.TemporaryDirectory() as folder:
        model.config.save_pretrained(folder)
        return json.loads((pathlib.Path(folder) / 'config.json').read_text())


def tensors_of(model):
    """Names as they are saved: the tied output is not."""
    tied = model.config.tie_word_embeddings
    return {n: list(p.shape) for n, p in model.state_dict().items()
            if not (tied and n == 'lm_head.weight') and 'inv_freq' not in n}


def has_experts(kind):
    return 'Moe' in kind or kind in ('Mixtral', 'Olmoe')


def published(model):
    """Names and shapes as they are saved, where that is not how the model has them: a tensor for each expert."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        with safe_open(f'{folder}/model.safetensors', 'pt') as f:
            return {n: list(f.get_slice(n).get_shape()) for n in f.keys()}


def from_published(model, weights):
    """The model with weights by the names of its files, read as transformers reads them."""
    with tempfile.TemporaryDirectory() as folder:
        model.config.save_pretrained(folder)
        save_file(weights, f'{folder}/model.safetensors', {'format': 'pt'})
        return transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation='eager', dtype=torch.float32).eval()


def internlm2(tensors, config):
    """Of InternLM2, whose code is not part of transformers, the names and the layout: q, k, v of a group lie together."""
    heads, kv, dim = config['num_attention_heads'], config['num_key_value_heads'], config['head_dim']
    rename = {'model.embed_tokens': 'model.tok_embeddings', 'lm_head': 'output', 'self_attn.o_proj': 'attention.wo',
              'input_layernorm': 'attention_norm', 'post_attention_layernorm': 'ffn_norm',
              'mlp.gate_proj': 'feed_forward.w1', 'mlp.up_proj': 'feed_forward.w3', 'mlp.down_proj': 'feed_forward.w2'}
    out, back = {}, {}
    for name, shape in tensors.items():
        if any(f'self_attn.{p}_proj' in name for p in 'kv'):
            continue
        if 'self_attn.q_proj' in name:
            new = name.replace('self_attn.q_proj', 'attention.wqkv')
            shape = [(heads + 2 * kv) * dim, shape[1]]
        else:
            new = name
            for a, b in rename.items():
                new = new.replace(a, b)
        out[new] = shape
        back[new] = name
    return out, back


def load(model, kind, tensors, config, norms_from_one):
    if kind != 'InternLM2':
        state = {n: values_of(n, s, norms_from_one) for n, s in tensors.items()}
    else:
        _, back = internlm2(tensors_of(model), config)
        state = {}
        heads, kv, dim = config['num_attention_heads'], config['num_key_value_heads'], config['head_dim']
        for new, name in back.items():
            value = values_of(new, tensors[new], False)
            if 'wqkv' not in new:
                state[name] = value
                continue
            grouped = value.reshape(kv, heads // kv + 2, dim, -1)
            for part, rows in (('q', grouped[:, :-2]), ('k', grouped[:, -2:-1]), ('v', grouped[:, -1:])):
                state[name.replace('q_proj', f'{part}_proj')] = rows.reshape(-1, value.shape[1])
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and all('lm_head' in m or 'inv_freq' in m for m in missing), (missing, unexpected)
    model.tie_weights()


def build(name):
    """A family's model with its weights; its configuration, and its tensors as they are saved."""
    kind, changes, dtype, shards = FAMILIES[name]
    torch.manual_seed(0)
    model = make('Llama' if kind == 'InternLM2' else kind, changes)
    config = saved_config(model)
    as_published = has_experts(kind) and not name.endswith('-fused')
    tensors = published(model) if as_published else tensors_of(model)
    if kind == 'InternLM2':
        config = {**config, 'model_type': 'internlm2', 'architectures': ['InternLM2ForCausalLM'],
                  'auto_map': {'AutoModelForCausalLM': 'modeling_internlm2.InternLM2ForCausalLM'}}
        tensors, _ = internlm2(tensors, config)
    norms_from_one = kind.startswith('Gemma')
    if as_published:
        model = from_published(model, {n: values_of(n, s, False) for n, s in tensors.items()})
    else:
        load(model, kind, tensors, config, norms_from_one)
    return model, config, tensors, norms_from_one


@torch.no_grad()
def generate(name):
    _, _, dtype, shards = FAMILIES[name]
    model, config, tensors, norms_from_one = build(name)
    vocab = config['vocab_size']
    ids = [1] + [(i * 7919 + 13 * i * i) % vocab for i in range(1, PROMPT)]
    for _ in range(GENERATED):
        logits = model(torch.tensor([ids]), use_cache=False).logits[0]
        ids.append(int(logits[-1].argmax()))
    logits = model(torch.tensor([ids[:-1]]), use_cache=False).logits[0].float()
    top = logits.topk(2).values
    fixture = {
        'transformers': transformers.__version__,
        'dtype': dtype, 'shards': shards, 'normsFromOne': norms_from_one, 'config': config, 'tensors': tensors,
        'prompt': PROMPT, 'ids': ids, 'argmax': logits.argmax(-1).tolist(),
        'gap': [round(float(a - b), 4) for a, b in top], 'watched': WATCHED[:-1] + [len(ids) - 2],
        'logits': base64.b64encode(logits[WATCHED[:-1] + [len(ids) - 2]].numpy().astype('<f4').tobytes()).decode(),
    }
    (OUT / f'{name}.json').write_text(json.dumps(fixture, separators=(',', ':')) + '\n')
    print(name, sum(torch.tensor(s).prod().item() for s in tensors.values()), 'parameters,',
          len(set(ids[PROMPT:])), 'different tokens generated, std', round(float(logits.std()), 2))


if __name__ == '__main__':
    for wanted in sys.argv[1:] or FAMILIES:
        generate(wanted)
