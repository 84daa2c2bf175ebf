"""Writes test/fixtures/checkpoints/NAME: tiny quantised checkpoints as their tools publish them, packed here from the formats'
descriptions, and what transformers computes (f32) with the same weights dequantised here. What compressed-tensors packs is
compared with its own functions.

    pip install torch transformers safetensors numpy compressed-tensors && python scripts/model-fixtures/checkpoints.py [NAME …]
"""
import base64
import json
import math
import pathlib
import re
import sys

import torch
import transformers
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
from families import BASE
from generate import from_published, has_experts, published, tensors_of
from safetensors.torch import save_file

OUT = pathlib.Path(__file__).parents[2] / 'test/fixtures/checkpoints'
PROMPT, GENERATED = 70, 24
WATCHED = [0, 31, 69, 80, 92]
F16, BF16, F32 = torch.float16, torch.bfloat16, torch.float32


def words(codes, bits):
    """Codes along the last dimension in words of 32 bits, the first code lowest."""
    each = 32 // bits
    pad = -codes.shape[-1] % each
    codes = torch.nn.functional.pad(codes.long(), (0, pad)).reshape(*codes.shape[:-1], -1, each)
    packed = sum(codes[..., k] << (bits * k) for k in range(each))
    return torch.where(packed >= 2**31, packed - 2**32, packed).to(torch.int32)


def rounded(w, bits, group, symmetric, scale_type, order=None):
    """Codes (rows, inputs), zero points and scales (rows, groups), group of each input, and the values that they stand for."""
    rows, inputs = w.shape
    group = inputs if group == -1 else group
    g = torch.arange(inputs) // group if order is None else order
    groups = inputs // group
    middle, top = 2 ** (bits - 1), 2**bits - 1
    scales, zeros = torch.empty(rows, groups), torch.empty(rows, groups, dtype=torch.long)
    for i in range(groups):
        part = w[:, g == i]
        low, high = part.min(1).values.clamp(max=0), part.max(1).values.clamp(min=0)
        scales[:, i] = part.abs().max(1).values / (middle - 0.5) if symmetric else (high - low) / top
        scales[:, i] = scales[:, i].to(scale_type).float()
        zeros[:, i] = middle if symmetric else (-low / scales[:, i]).round().clamp(0, top).long()
    codes = (w / scales[:, g] + zeros[:, g]).round().clamp(0, top).long()
    return codes, zeros, scales, g, (codes - zeros[:, g]).float() * scales[:, g]


def awq(w, o):
    codes, zeros, scales, _, values = rounded(w, 4, o['group'], o.get('sym', False), F16)
    shuffle = lambda x: x.reshape(x.shape[0], -1, 8)[:, :, [0, 2, 4, 6, 1, 3, 5, 7]].reshape(x.shape)
    pack = lambda x: words(shuffle(x.T.contiguous()), 4)
    return {'qweight': pack(codes), 'qzeros': pack(zeros), 'scales': scales.T.to(F16)}, values


def gptq(w, o):
    inputs, bits = w.shape[1], o['bits']
    order = None
    if o.get('act'):
        order = (torch.arange(inputs) // o['group'])[torch.randperm(inputs)]
    codes, zeros, scales, g, values = rounded(w, bits, o['group'], o['sym'], F16, order)
    stored = zeros - (0 if o.get('v2') else 1)
    if not o.get('v2'):
        stored = stored % 2**bits
        values = (codes - (stored + 1)[:, g]).float() * scales[:, g]
    return {'qweight': words(codes, bits).T, 'qzeros': words(stored.T, bits), 'scales': scales.T.to(F16),
            'g_idx': g.to(torch.int32)}, values


def compressed_int(w, o):
    rows, inputs = w.shape
    bits = o['bits']
    order = (torch.arange(inputs) // o['group'])[torch.randperm(inputs)] if o.get('act') else None
    codes, zeros, scales, g, values = rounded(w, bits, o['group'], o['sym'], BF16, order)
    out = {'weight_scale': scales.to(BF16)}
    middle = 2 ** (bits - 1)
    if order is not None:
        out['weight_g_idx'] = g.to(torch.int32)
    if o.get('bytes'):
        out['weight'] = (codes - middle).to(torch.int8)
        if not o['sym']:
            out['weight_zero_point'] = (zeros - middle).to(torch.int8)
        return out, values
    out['weight_packed'] = words(codes, bits)
    assert torch.equal(out['weight_packed'], pack_to_int32((codes - middle).to(torch.int8), bits)), 'not as compressed-tensors'
    out['weight_shape'] = torch.tensor([rows, inputs])
    if not o['sym']:
        out['weight_zero_point'] = words(zeros.T, bits).T
        theirs = pack_to_int32((zeros - middle).to(torch.int8), bits, packed_dim=0)
        assert torch.equal(out['weight_zero_point'], theirs), 'not as compressed-tensors'
    return out, values


def fp8(w, o):
    rows, inputs = w.shape
    kind = o['scales']
    br, bc = (rows, inputs) if kind == 'tensor' else (1, inputs) if kind == 'channel' else (128, 128)
    scales = torch.empty(math.ceil(rows / br), math.ceil(inputs / bc))
    codes, values = torch.empty_like(w), torch.empty_like(w)
    for i in range(scales.shape[0]):
        for j in range(scales.shape[1]):
            at = (slice(i * br, (i + 1) * br), slice(j * bc, (j + 1) * bc))
            scales[i, j] = (w[at].abs().max() / 448).to(o['type']).float()
            codes[at] = (w[at] / scales[i, j]).clamp(-448, 448)
            values[at] = codes[at].to(torch.float8_e4m3fn).float() * scales[i, j]
    if kind == 'tensor':
        scales = scales.reshape([] if o.get('method') else [1])
    name = 'weight_scale_inv' if o.get('method') or (kind == 'block' and o['type'] == F32) else 'weight_scale'
    return {'weight': codes.to(torch.float8_e4m3fn), name: scales.to(o['type']), 'input_scale': torch.ones(1)}, values


def mxfp4(w, o):
    grid = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    blocks = w.reshape(w.shape[0], -1, 32)
    e = torch.floor(torch.log2(blocks.abs().amax(-1))) - 2
    x = blocks / 2 ** e[..., None]
    k = (x.abs()[..., None] - grid).abs().argmin(-1)
    codes = (k + 8 * (x < 0)).reshape(w.shape)
    values = (grid[k] * x.sign() * 2 ** e[..., None]).reshape(w.shape)
    return {'weight_packed': (codes[:, ::2] | codes[:, 1::2] << 4).to(torch.uint8), 'weight_scale': (e + 127).to(torch.uint8)}, values


def mxfp4_experts(w, o):
    """All experts of a layer, as gpt-oss has them."""
    experts, rows, inputs = w.shape
    parts, values = mxfp4(w.reshape(-1, inputs), o)
    return {'_blocks': parts['weight_packed'].reshape(experts, rows, inputs // 32, 16),
            '_scales': parts['weight_scale'].reshape(experts, rows, inputs // 32)}, values.reshape(w.shape)


def ct(form, bits, kind, strategy, group=None, sym=True, **more):
    weights = dict(num_bits=bits, type=kind, symmetric=sym, strategy=strategy, group_size=group, dynamic=False,
                   actorder=None, observer='minmax', observer_kwargs={}, block_structure=[128, 128] if strategy == 'block' else None, **more)
    return dict(quant_method='compressed-tensors', format=form, quantization_status='compressed', ignore=['lm_head'],
                kv_cache_scheme=None, global_compression_ratio=1.5, version='0.10.0', sparsity_config={}, transform_config={},
                config_groups=dict(group_0=dict(targets=['Linear'], weights=weights, input_activations=None,
                                                output_activations=None)))


def gptq_config(bits, group, sym, act=False, v2=False):
    return dict(quant_method='gptq', bits=bits, group_size=group, sym=sym, desc_act=act, true_sequential=True,
                damp_percent=0.01, static_groups=False, lm_head=False, checkpoint_format='gptq_v2' if v2 else 'gptq')


AWQ = dict(quant_method='awq', bits=4, version='gemm', zero_point=True, modules_to_not_convert=None)
FP8 = dict(quant_method='fp8', activation_scheme='dynamic')
SMALL = dict(vocab_size=61, hidden_size=64, intermediate_size=96, num_hidden_layers=2)
WIDE = dict(SMALL, hidden_size=128, intermediate_size=128, head_dim=32, num_hidden_layers=1)
IN64 = dict(SMALL, intermediate_size=128)

EXPERTS = dict(SMALL, intermediate_size=64, num_local_experts=4, num_experts_per_tok=2)
QWEN_MOE = dict(SMALL, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32, mlp_only_layers=[],
                shared_expert_intermediate_size=64, norm_topk_prob=False)
QWEN3_MOE = dict(SMALL, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32, norm_topk_prob=True, head_dim=32)

# name: (class prefix, changes, packing, its options, quantization_config, shards)
CHECKPOINTS = {
    'awq-32': ('Llama', SMALL, awq, dict(group=32), dict(AWQ, group_size=32), 2),
    'awq-128-biases': ('Qwen2', dict(WIDE, tie_word_embeddings=True), awq, dict(group=128), dict(AWQ, group_size=128), 1),
    'awq-symmetric': ('Llama', IN64, awq, dict(group=64, sym=True), dict(AWQ, group_size=64, zero_point=False), 1),
    'gptq4-32': ('Llama', SMALL, gptq, dict(bits=4, group=32, sym=True), gptq_config(4, 32, True), 1),
    'gptq4-64-asymmetric': ('Qwen3', dict(IN64, head_dim=16), gptq, dict(bits=4, group=64, sym=False), gptq_config(4, 64, False), 1),
    'gptq4-128-v2': ('Llama', WIDE, gptq, dict(bits=4, group=128, sym=False, v2=True), gptq_config(4, 128, False, v2=True), 1),
    'gptq4-column-fused': ('Phi3', SMALL, gptq, dict(bits=4, group=-1, sym=True), gptq_config(4, -1, True), 1),
    'gptq4-32-order': ('Llama', SMALL, gptq, dict(bits=4, group=32, sym=True, act=True), gptq_config(4, 32, True, True), 2),
    'gptq8-32': ('Llama', SMALL, gptq, dict(bits=8, group=32, sym=True), gptq_config(8, 32, True), 1),
    'gptq8-order-asymmetric': ('Llama', SMALL, gptq, dict(bits=8, group=32, sym=False, act=True), gptq_config(8, 32, False, True), 1),
    'ct-w4-32': ('Llama', SMALL, compressed_int, dict(bits=4, group=32, sym=True), ct('pack-quantized', 4, 'int', 'group', 32), 2),
    'ct-w4-asymmetric': ('Llama', SMALL, compressed_int, dict(bits=4, group=32, sym=False), ct('pack-quantized', 4, 'int', 'group', 32, False), 1),
    'ct-w4-order': ('Llama', SMALL, compressed_int, dict(bits=4, group=32, sym=True, act=True), ct('pack-quantized', 4, 'int', 'group', 32), 1),
    'ct-w8-channel': ('Llama', SMALL, compressed_int, dict(bits=8, group=-1, sym=True), ct('pack-quantized', 8, 'int', 'channel'), 1),
    'ct-w8a8': ('Qwen2', SMALL, compressed_int, dict(bits=8, group=-1, sym=True, bytes=True), ct('int-quantized', 8, 'int', 'channel'), 1),
    'ct-w8a8-asymmetric': ('Llama', SMALL, compressed_int, dict(bits=8, group=-1, sym=False, bytes=True), ct('int-quantized', 8, 'int', 'channel', None, False), 1),
    'ct-fp8-channel': ('Llama', SMALL, fp8, dict(scales='channel', type=BF16), ct('float-quantized', 8, 'float', 'channel'), 1),
    'ct-fp8-tensor': ('Llama', SMALL, fp8, dict(scales='tensor', type=BF16), ct('float-quantized', 8, 'float', 'tensor'), 1),
    'ct-fp8-blocks': ('Qwen3', dict(SMALL, hidden_size=160, head_dim=32, num_hidden_layers=1), fp8, dict(scales='block', type=BF16), ct('float-quantized', 8, 'float', 'block'), 1),
    'ct-mxfp4': ('Llama', SMALL, mxfp4, {}, ct('mxfp4-pack-quantized', 4, 'float', 'group', 32), 1),
    'fp8-blocks': ('Qwen3', dict(SMALL, hidden_size=160, head_dim=32, num_hidden_layers=1), fp8, dict(scales='block', type=F32), dict(FP8, weight_block_size=[128, 128], fmt='e4m3'), 1),
    'mixtral-awq': ('Mixtral', EXPERTS, awq, dict(group=32), dict(AWQ, group_size=32, modules_to_not_convert=['gate']), 2),
    'mixtral-gptq4-order': ('Mixtral', EXPERTS, gptq, dict(bits=4, group=32, sym=True, act=True), gptq_config(4, 32, True, True), 2),
    'qwen2-moe-ct-w4': ('Qwen2Moe', QWEN_MOE, compressed_int, dict(bits=4, group=32, sym=False), ct('pack-quantized', 4, 'int', 'group', 32, False), 2),
    'qwen3-moe-gptq8': ('Qwen3Moe', QWEN3_MOE, gptq, dict(bits=8, group=32, sym=True), gptq_config(8, 32, True), 1),
    'qwen3-moe-fp8-blocks': ('Qwen3Moe', dict(QWEN3_MOE, hidden_size=160, moe_intermediate_size=160, num_hidden_layers=1), fp8, dict(scales='block', type=F32), dict(FP8, weight_block_size=[128, 128], fmt='e4m3'), 1),
    'qwen3-moe-mxfp4': ('Qwen3Moe', dict(QWEN3_MOE, moe_intermediate_size=96), mxfp4_experts, {}, dict(quant_method='mxfp4', modules_to_not_convert=['model.layers.*.self_attn', 'lm_head']), 1),
    'fp8-tensor-odd': ('Llama', dict(SMALL, intermediate_size=80), fp8, dict(scales='tensor', type=F32, method=True), dict(FP8), 1),
}


@torch.no_grad()
def generate(name):
    kind, changes, pack, options, quantisation, shards = CHECKPOINTS[name]
    torch.manual_seed(sum(name.encode()))
    given = {**BASE, **changes}
    implementation = given.pop('attn_implementation')
    config = getattr(transformers, f'{kind}Config')(**given)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=implementation).float().eval()
    stored, state = {}, {}
    stacked = pack is mxfp4_experts
    single = has_experts(kind) and not stacked
    for key, shape in (published(model) if single else tensors_of(model)).items():
        stem = key.removesuffix('.weight')
        if len(shape) == 1:
            value = 0.5 + torch.rand(shape) if key.endswith('norm.weight') else torch.randn(shape) / 8
        else:
            # a router that chooses clearly: rounding decides little
            spread = 1 / 16 if 'embed' in key else (4 if stem.endswith('.gate') else 1.2) / math.sqrt(shape[-1])
            value = torch.randn(shape) * spread
        if len(shape) == 3 if stacked else re.search(r'(_proj|\.w[123])$', stem):
            parts, state[key] = pack(value, options)
            stored.update({f'{stem}{part}' if stacked else f'{stem}.{part}': t.contiguous() for part, t in parts.items()})
        else:
            stored[key] = value.to(BF16)
            state[key] = stored[key].float()
    if single:
        model = from_published(model, state)
    else:
        missing, unexpected = model.load_state_dict(state, strict=False)
        assert not unexpected and all('lm_head' in m or 'inv_freq' in m for m in missing), (missing, unexpected)
        model.tie_weights()
    ids = [1] + [(i * 7919 + 13 * i * i) % config.vocab_size for i in range(1, PROMPT)]
    for _ in range(GENERATED):
        ids.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    logits = model(torch.tensor([ids[:-1]]), use_cache=False).logits[0].float()
    top = logits.topk(2).values
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    saved = json.loads((folder / 'config.json').read_text())
    (folder / 'config.json').write_text(json.dumps({**saved, 'quantization_config': quantisation}, indent=1) + '\n')
    index = {}
    for shard in range(shards):  # neighbours go to different files
        file = f'model-{shard + 1:05}-of-{shards:05}.safetensors' if shards > 1 else 'model.safetensors'
        part = {key: t for i, (key, t) in enumerate(stored.items()) if i % shards == shard}
        index.update(dict.fromkeys(part, file))
        save_file(part, folder / file, {'format': 'pt'})
    if shards > 1:
        (folder / 'model.safetensors.index.json').write_text(json.dumps({'weight_map': index}) + '\n')
    expected = {'prompt': PROMPT, 'ids': ids, 'argmax': logits.argmax(-1).tolist(),
                'gap': [round(float(a - b), 4) for a, b in top], 'watched': WATCHED,
                'logits': base64.b64encode(logits[WATCHED].numpy().astype('<f4').tobytes()).decode()}
    (folder / 'expected.json').write_text(json.dumps(expected, separators=(',', ':')) + '\n')
    print(name, len(set(ids[PROMPT:])), 'different tokens generated, std', round(float(logits.std()), 2))


for wanted in sys.argv[1:] or CHECKPOINTS:
    generate(wanted)
