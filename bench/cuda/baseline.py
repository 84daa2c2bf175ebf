"""PyTorch on the same card: decode steps of the same shapes, bf16, one CUDA graph a step (cuBLAS products, SDPA over a contiguous cache, argmax).
python3 baseline.py OUT.json [SHAPE:BATCH:CONTEXT …]"""
import json, sys
import torch
import torch.nn.functional as F

SHAPES = {'llama8b': (32, 4096, 32, 8, 128, 14336, 128256), 'smollm': (30, 576, 9, 3, 64, 1536, 49152)}
dev, dt = 'cuda', torch.bfloat16


def rand(*s):
    return torch.empty(*s, dtype=dt, device=dev).normal_(0, 0.02)


def step_of(shape, m, context):
    L, D, H, KH, HD, FF, V = SHAPES[shape]
    w = [(rand((H + 2 * KH) * HD, D), rand(D, H * HD), rand(2 * FF, D), rand(D, FF)) for _ in range(L)]
    ones, table, head = torch.ones(D, dtype=dt, device=dev), rand(V, D), rand(V, D)
    kv = [(rand(m, KH, context, HD), rand(m, KH, context, HD)) for _ in range(L)]
    tokens = torch.zeros(m, dtype=torch.long, device=dev)
    cos, sin = torch.ones(HD // 2, dtype=dt, device=dev), torch.zeros(HD // 2, dtype=dt, device=dev)

    def rotate(x):
        a, b = x[..., 0::2], x[..., 1::2]
        return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)

    def step():
        x = table[tokens]
        for (qkv_w, o_w, gu_w, down_w), (k, v) in zip(w, kv):
            qkv = F.linear(F.rms_norm(x, (D,), ones, 1e-5), qkv_w)
            q, kn, vn = qkv.split([H * HD, KH * HD, KH * HD], -1)
            q, kn = rotate(q.view(m, H, 1, HD)), rotate(kn.view(m, KH, 1, HD))
            k[:, :, -1:] = kn
            v[:, :, -1:] = vn.view(m, KH, 1, HD)
            x = x + F.linear(F.scaled_dot_product_attention(q, k, v, enable_gqa=True).reshape(m, -1), o_w)
            gate, up = F.linear(F.rms_norm(x, (D,), ones, 1e-5), gu_w).chunk(2, -1)
            x = x + F.linear(F.silu(gate) * up, down_w)
        tokens.copy_(F.linear(F.rms_norm(x, (D,), ones, 1e-5), head).argmax(-1))
    return step


rows = []
for case in sys.argv[2:] or ['smollm:1:256', 'smollm:1:1024', 'llama8b:1:1024', 'llama8b:64:1024']:
    shape, m, context = case.split(':')
    m, context = int(m), int(context)
    with torch.inference_mode():
        step = step_of(shape, m, context)
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            for _ in range(3):
                step()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        ev = [torch.cuda.Event(enable_timing=True) for _ in range(41)]
        for _ in range(5):
            graph.replay()
        for i in range(41):
            ev[i].record()
            graph.replay()
        torch.cuda.synchronize()
        t = sorted(ev[i].elapsed_time(ev[i + 1]) for i in range(40))[20]
    rows.append(dict(work=f'PyTorch {torch.__version__} {shape} decode {m} x {context}', ms=round(t, 3), tokS=round(1000 * m / t, 1)))
    print(json.dumps(rows[-1]), flush=True)
    del step, graph
    torch.cuda.empty_cache()
    json.dump(rows, open(sys.argv[1], 'w'))
