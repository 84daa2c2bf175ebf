"""What PyTorch alone gives on this card, as JSON: Llama-3-8B shapes, random bf16 weights, greedy.

`plain`: PyTorch's own layers (cuBLAS products of q, k, v and of gate, up in one, scaled_dot_product_attention over a KV cache of fixed
place, F.rms_norm), a decode step as one CUDA graph, prefill without one; no torch.compile, no kernels from elsewhere.
`transformers`: LlamaForCausalLM as it comes, with its dynamic cache, eager.   python3 bench/cuda/torch_baseline.py [--transformers]"""
import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F

LAYERS, DIM, HEADS, KV_HEADS, HEAD, FF, VOCAB = 32, 4096, 32, 8, 128, 14336, 128256
GRAPH_STEPS = 60


def normal(*shape):
    return torch.empty(*shape, device="cuda", dtype=torch.bfloat16).normal_(0, 0.02)


class Plain:
    def __init__(self):
        width = (HEADS + 2 * KV_HEADS) * HEAD
        self.layers = [
            dict(qkv=normal(width, DIM), o=normal(DIM, DIM), gate_up=normal(2 * FF, DIM), down=normal(DIM, FF), n1=self.ones(), n2=self.ones())
            for _ in range(LAYERS)
        ]
        self.embedding, self.head, self.norm = normal(VOCAB, DIM), normal(VOCAB, DIM), self.ones()
        angles = torch.arange(8320, device="cuda").float()[:, None] * (500000.0 ** (-torch.arange(0, HEAD, 2, device="cuda") / HEAD))
        self.cos, self.sin = angles.cos().bfloat16(), angles.sin().bfloat16()

    @staticmethod
    def ones():
        return torch.ones(DIM, device="cuda", dtype=torch.bfloat16)

    def cache(self, batch, length):
        shape = (batch, KV_HEADS, length, HEAD)
        self.kv = [(torch.randn(shape, device="cuda", dtype=torch.bfloat16), torch.randn(shape, device="cuda", dtype=torch.bfloat16)) for _ in range(LAYERS)]

    def rope(self, x, positions):
        cos, sin = self.cos[positions], self.sin[positions]
        a, b = x.chunk(2, -1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    @torch.no_grad()
    def step(self, tokens, positions, seen):
        """tokens (batch, n) at positions (n); everything before `seen` is looked at. The likeliest next tokens."""
        batch, n = tokens.shape
        x = self.embedding[tokens]
        for w, (k_cache, v_cache) in zip(self.layers, self.kv):
            qkv = F.linear(F.rms_norm(x, (DIM,), w["n1"], 1e-5), w["qkv"]).view(batch, n, -1, HEAD).transpose(1, 2)
            q, k, v = qkv.split([HEADS, KV_HEADS, KV_HEADS], 1)
            k_cache.index_copy_(2, positions, self.rope(k, positions))
            v_cache.index_copy_(2, positions, v)
            out = F.scaled_dot_product_attention(self.rope(q, positions), k_cache[:, :, :seen], v_cache[:, :, :seen], is_causal=n > 1, enable_gqa=True)
            x = x + F.linear(out.transpose(1, 2).reshape(batch, n, DIM), w["o"])
            gate, up = F.linear(F.rms_norm(x, (DIM,), w["n2"], 1e-5), w["gate_up"]).chunk(2, -1)
            x = x + F.linear(F.silu(gate) * up, w["down"])
        return F.linear(F.rms_norm(x[:, -1], (DIM,), self.norm, 1e-5), self.head).argmax(-1)


def timed(run, count):
    times = []
    for _ in range(count):
        a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        a.record()
        run()
        b.record()
        b.synchronize()
        times.append(a.elapsed_time(b))
    return statistics.median(times)


def decode(model, batch, context):
    model.cache(batch, context + 1)
    tokens = torch.randint(0, VOCAB, (batch, 1), device="cuda")
    positions = torch.tensor([context], device="cuda")
    run = lambda: tokens.copy_(model.step(tokens, positions, context + 1)[:, None])
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    timed(graph.replay, 10)
    ms = timed(graph.replay, GRAPH_STEPS)
    return dict(work=f"BF16 decode {batch} x {context}", value=1000 * batch / ms, unit="tok/s")


def prefill(model, count, length):
    model.cache(count, length)
    tokens = torch.randint(0, VOCAB, (count, length), device="cuda")
    positions = torch.arange(length, device="cuda")
    run = lambda: model.step(tokens, positions, length)
    run()
    ms = timed(run, 5)
    return dict(work=f"BF16 prefill {count} x {length}", value=1000 * count * length / ms, unit="tok/s")


@torch.no_grad()
def transformers_rows():
    import transformers
    from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

    rope = {"rope_type": "default", "rope_theta": 500000.0}
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=DIM, intermediate_size=FF, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS, max_position_embeddings=8192, rope_theta=500000.0, rope_parameters=rope, tie_word_embeddings=False,
    )
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        net = LlamaForCausalLM(config).eval()
    torch.set_default_dtype(torch.float32)
    rows = []
    for batch in (1, 64):
        ids = torch.randint(0, VOCAB, (batch, 1024), device="cuda")
        cache = DynamicCache()
        net(ids, past_key_values=cache, logits_to_keep=1)
        last = ids[:, -1:]
        times = []
        for _ in range(24):
            torch.cuda.synchronize()
            begun = time.perf_counter()
            last = net(last, past_key_values=cache, logits_to_keep=1).logits[:, -1:].argmax(-1)
            torch.cuda.synchronize()
            times.append(1000 * (time.perf_counter() - begun))
        ms = statistics.median(times[4:])
        rows.append(dict(work=f"BF16 decode {batch} x 1024", value=1000 * batch / ms, unit="tok/s"))
        del cache
    ids = torch.randint(0, VOCAB, (1, 8192), device="cuda")
    run = lambda: net(ids, use_cache=True, logits_to_keep=1)
    run()
    rows.append(dict(work="BF16 prefill 1 x 8192", value=1000 * 8192 / timed(run, 5), unit="tok/s"))
    return transformers.__version__, rows


def main():
    torch.manual_seed(0)
    out = dict(torch=torch.__version__, device=torch.cuda.get_device_name())
    model = Plain()
    out["plain"] = [decode(model, 1, 1024), decode(model, 64, 1024), prefill(model, 1, 8192), prefill(model, 4, 2048), prefill(model, 1, 1024)]
    if "--transformers" in sys.argv:
        del model
        torch.cuda.empty_cache()
        try:
            version, out["transformers"] = transformers_rows()
            out["transformersVersion"] = version
        except Exception as e:  # another version may want other arguments: said, not hidden
            out["transformersFailed"] = repr(e)[:500]
    print(json.dumps(out))


main()
