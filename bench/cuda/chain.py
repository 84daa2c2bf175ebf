"""Whole steps of Llama-3-8B shapes as CUDA graphs with programmatic dependent launch: times, and tuning in the chain.
python3 chain.py SECTION… [--shape smollm] [--json FILE]; sections: final, quantLarge:TYPE, small:TYPE (--shape smollm), tune:M:TYPE:SECONDS, decode:M:CONTEXT:BITS[:TYPE], prefill, products, groups, prefillGroups, attention"""
import json, sys, time
import torch
from lm import *

# llama8half, llama70half: what one of two GPUs has of Llama-3-8B, 70B
SHAPES = {'llama8b': (32, 4096, 32, 8, 128, 14336, 128256), 'smollm': (30, 576, 9, 3, 64, 1536, 49152), 'llama8half': (32, 4096, 16, 4, 128, 7168, 64128), 'llama70half': (80, 8192, 32, 4, 128, 14336, 64128)}
SHAPE = sys.argv[sys.argv.index('--shape') + 1] if '--shape' in sys.argv else 'llama8b'
L, D, H, KH, HD, FF, V = SHAPES[SHAPE]
QKV = (H + 2 * KH) * HD
ACT = 0
GEMMS = {'qkv': (QKV, D, 'store'), 'o': (D, H * HD, 'residual'), 'gateup': (2 * FF, D, 'silu'), 'down': (D, FF, 'residual'), 'lm': (V, D, 'logits')}
rows = []


def note(**r):
    rows.append(r)
    print(json.dumps(r), flush=True)


def rand16(*s, spread=0.02, dtype=torch.bfloat16):
    return torch.empty(*s, dtype=dtype, device=dev).normal_(0, spread)


class Model:
    """Random weights, as tiles. quant: a GGML type for all but the embedding."""

    def __init__(self, layers=L, quant=0):
        self.quant, self.layers = quant, layers
        self.w = {}
        for name, (n, k, _) in GEMMS.items():
            count = 1 if name == 'lm' else layers
            if quant:
                qk, unit = UNIT[quant]
                self.w[name] = [self.units(up(n, 64) // 16 * (up(k, qk) // qk), unit) for _ in range(count)]
            else:
                self.w[name] = [rand16(n // 64, k // 64, 4096) for _ in range(count)]
        self.norm = torch.ones(D, device=dev)
        self.table = rand16(V // 64, D // 64, 4096)
        self.inverse = (500000.0 ** (-torch.arange(HD // 2, dtype=torch.float64) / (HD // 2))).float().to(dev)

    def units(self, count, unit):
        u = torch.randint(0, 256, (count, unit), dtype=torch.uint8, device=dev)
        s = {8: 1024, 2: 512, 3: 512, 12: 2304, 13: 2816, 14: 3328}[self.quant]
        h = u[:, s:].contiguous().view(torch.float16)
        h.normal_(0, 1e-4 if self.quant > 8 else 1e-3)
        u[:, s:] = h.view(torch.uint8)
        return u


class State:
    """Activations, KV and step arrays for m tokens: `rows` sequences at context `context` (decode), or chunks of tokens."""

    def __init__(self, m, sequences, context, bits=16, chunk=1, logits=None, layers=L, split=512):
        self.m, self.bits, self.context, self.chunk = m, bits, context, chunk
        self.g = Geometry(HD, H, KH, 64, bits, layers=layers, split=split)
        self.logit_rows = logits or m
        i32 = lambda x: torch.tensor(x, dtype=torch.int32, device=dev)
        self.x = torch.zeros(m, D, device=dev)
        t = up(m, 64) // 64
        self.normed, self.mixed = rand16(t, D // 64, 4096, spread=1), rand16(t, D // 64, 4096, spread=1)
        self.hidden = rand16(t, FF // 64, 4096, spread=1)
        self.qkv = rand16(m, QKV, spread=1, dtype=torch.float16)
        lr = self.logit_rows
        self.last = torch.zeros(up(lr, 64) // 64, D // 64, 4096, dtype=act_type(ACT), device=dev)
        self.logits = torch.zeros(lr, V, device=dev)
        blocks = -(-context // 64)
        self.max_blocks = blocks
        self.tables = torch.randperm(sequences * blocks).int().view(sequences, blocks).to(dev)
        self.kv = torch.empty(sequences * blocks, self.g.block_bytes, dtype=torch.uint8, device=dev)
        for part in self.kv.split(256):
            if bits == 16:
                part.view(torch.float16).normal_(0, 1)
            else:
                part.random_(0, 256)
                h = part.view(len(part), layers * KH, self.g.head_bytes)[:, :, 2 * 64 * self.g.row_bytes:]
                h.copy_((torch.rand(h.shape[0], h.shape[1], h.shape[2] // 2, device=dev) * 0.02).half().view(torch.uint8))
        per = m // sequences
        first = context - per
        self.positions = i32([first + i for _ in range(sequences) for i in range(per)])
        self.slots = i32([s for s in range(sequences) for _ in range(per)])
        self.tasks_of = lambda tokens: i32([(s * per + p, min(tokens, per - p), s, first + p) for p in range(0, per, tokens) for s in range(sequences)])
        self.index = i32([(s + 1) * per - 1 for s in range(sequences)] if lr == sequences else list(range(m)))
        self.count = i32([m])
        self.logit_count = i32([lr])
        self.tokens = torch.randint(0, V, (m,), dtype=torch.int32, device=dev)
        self.angles = torch.zeros(m, HD // 2, 2, device=dev)
        self.splits = -(-context // split)
        self.partial = self.weights = self.arrived = None
        if per == 1:
            self.arrived = torch.zeros(m * KH, dtype=torch.int32, device=dev)
            self.partial = torch.zeros(m, H, self.splits, HD, device=dev)
            self.weights = torch.zeros(m, H, self.splits, 2, device=dev)
        f = lambda v: torch.full((lr,), v, dtype=torch.float32, device=dev)
        n = lambda v: torch.full((lr + 1,), v, dtype=torch.int32, device=dev)
        one = torch.zeros(4, dtype=torch.int32, device=dev)
        self.sampling = dict(logits=self.logits, scratch=torch.empty_like(self.logits), temperature=f(0), topK=n(0), topP=f(1), minP=f(0), repetitionPenalty=f(1),
                             presencePenalty=f(0), frequencyPenalty=f(0), seed=torch.arange(2 * lr, dtype=torch.int32, device=dev), topLogprobs=n(-1), scoreToken=n(-1),
                             historyStart=n(0), historyTokens=one, historyCounts=one, biasStart=n(0), biasTokens=one, biasValues=f(0), maskRow=n(-1), masks=one,
                             logitRows=self.index, positions=self.positions, count=self.logit_count, tokens=n(0), status=n(0), logprobs=f(0), scoreLogprobs=f(0),
                             topTokens=torch.zeros(lr, 20, dtype=torch.int32, device=dev), topLogprobsOut=torch.zeros(lr, 20, device=dev))


def attend(s, kv, tasks, count, pdl, kind, tokens=1, **o):
    return attention(s.g, ACT, kind, kv, s.qkv, s.mixed, s.partial, s.weights, s.arrived, s.tables, tasks, count, QKV, D // 64, s.max_blocks, s.splits, pdl=pdl, **o)


def step(model, s, cfg, pdl=True, skip=(), att=None, prefill=None, fuse=False):
    """The launches of a step. cfg: name → product configuration; att: of decode attention; prefill: of prefill attention;
    fuse: qkv and gateup make their norms themselves."""
    m, lr, g = s.m, s.logit_rows, s.g
    out = []
    add = lambda name, l: out.append((name, l)) if name not in skip else None
    kinds = {k: (v.get('kind'), {a: b for a, b in v.items() if a not in ('kind', 'grid')}, v.get('grid')) for k, v in cfg.items()}

    def normed(name, layer, dst, stride):
        if not fuse:
            add('norm', norm(ACT, D, s.x, model.norm, s.normed, None, m, D, D // 64, 1e-5, pdl=pdl))
        product(name, layer, s.normed, dst, m, stride, **(dict(normed=(s.x, model.norm, D, 1e-5), norm=D) if fuse else {}))

    def product(name, layer, x, dst, rows_, stride, **more):
        kind, o, grid = kinds[name]
        n, k, epi = GEMMS[name]
        add(name, gemm(kind, epi, ACT, model.w[name][layer], x, dst, rows_, n, k // 64, stride, pdl=pdl, grid=grid, **fitting(name, o), **more))

    add('embed', embed(0, ACT, model.table, s.x, s.tokens, s.sampling['tokens'], s.positions, model.inverse, s.angles, m, D, D // 64, D, V, HD // 2, pdl=pdl))
    if prefill:
        tasks = s.tasks_of(prefill['tokens'])
    else:
        tasks = s.tasks_of(1)
    for layer in range(model.layers):
        kv = g.layer(s.kv, layer)
        normed('qkv', layer, s.qkv, QKV)
        add('rope', rope_store(g, s.qkv, s.angles, kv, s.tables, s.positions, s.slots, s.count, m, QKV, s.max_blocks, HD, 0, pdl=pdl))
        if prefill:
            add('attention', attend(s, kv, tasks, len(tasks), pdl, **prefill))
        else:
            add('attention', attend(s, kv, tasks, m, pdl, **(att or dict(kind='decode', stages=2))))
        product('o', layer, s.mixed, s.x, m, D)
        normed('gateup', layer, s.hidden, FF // 64)
        product('down', layer, s.hidden, s.x, m, D)
    add('norm', norm(ACT, D, s.x, model.norm, s.last, s.index if lr != m else None, lr, D, D // 64, 1e-5, pdl=pdl))
    product('lm', 0, s.last, s.logits, lr, V)
    add('sample', sample(s.sampling, lr, V, V, pdl=pdl))
    return out


def time_step(*a, reps=12, warm=2, **k):
    launches = step(*a, **k)
    return time_graph(lambda st: [l(st) for _, l in launches], reps=reps, warm=warm)


def stage_bytes(c, quant=0):
    if c['kind'] == 'mma':
        return c['kt'] * (c['mw'] * 2048 + c['bn'] * 128)
    if c['kind'] == 'wgmma':
        return c['kt'] * (c.get('wgs', 1) * 8192 + c['bn'] * 128)
    qk, unit = UNIT[c['type']]
    return up(c['ku'] * (qk // 64) * c['bn'] * 128 + c['ku'] * c['mw'] * unit, 1024)


def with_ring(c, kb):
    c = dict(c)
    c['stages'] = kb * 1024 // stage_bytes(c)
    warps = c['mw'] * c.get('nw', 1) if c['kind'] != 'wgmma' else 4 * c.get('wgs', 1)
    return c if c['stages'] >= 2 and c['stages'] * stage_bytes(c) + warps * 2560 + 1024 <= 225 * 1024 else None


def candidates(m, quant=0):
    bn = 8 if m <= 8 else 16 if m <= 16 else 32 if m <= 32 else 64 if m <= 64 else 128 if m <= 128 else 256
    out = []
    if quant:
        ku = (1, 2) if quant > 8 else (2, 4, 8)
        for mw in ((1, 2, 4, 8) if m <= 32 else (4, 8)):
            for k in ku:
                for kb in (32, 64, 96, 144, 200):
                    out.append(with_ring(dict(kind='q', type=quant, mw=mw, bn=min(bn, 64), ku=k), kb))
        for mw in (4, 8) if m <= 8 or m > 16 else ():
            for k in ku[: 2 if m <= 8 else 1]:
                for kb in (64, 96, 144, 200) if m <= 8 else (96, 144, 200):
                    out.append(with_ring(dict(kind='q', type=quant, mw=mw, bn=bn, ku=k, wgmma=1), kb))
        return [c for c in out if c]
    shapes = []
    if m <= 16:
        shapes = [dict(kind='mma', mw=1, bn=bn, kt=2), dict(kind='mma', mw=1, bn=bn, kt=4), dict(kind='mma', mw=2, bn=bn, kt=2), dict(kind='mma', mw=2, bn=bn, kt=4),
                  dict(kind='mma', mw=4, bn=bn, kt=1), dict(kind='wgmma', bn=bn, kt=2, whole=1)]
        rings = (30, 48, 72, 96, 144, 192)
    elif m <= 64:
        shapes = [dict(kind='mma', mw=2, nw=4 if bn == 64 else 2, bn=bn, kt=1), dict(kind='mma', mw=2, nw=4 if bn == 64 else 2, bn=bn, kt=2),
                  dict(kind='mma', mw=4, nw=2, bn=bn, kt=1), dict(kind='wgmma', bn=bn, kt=1), dict(kind='wgmma', bn=bn, kt=2, whole=1)]
        rings = (96, 128, 160, 192)
    else:
        shapes = [dict(kind='wgmma', bn=128, kt=1), dict(kind='wgmma', bn=128, kt=1, wgs=2), dict(kind='wgmma', bn=64, kt=1),
                  dict(kind='wgmma', bn=64, kt=2, whole=1), dict(kind='wgmma', bn=128, kt=2, whole=1)]
        if m > 128:
            shapes += [dict(kind='wgmma', bn=256, kt=1), dict(kind='wgmma', bn=256, kt=1, wgs=2)]
        rings = (96, 128, 196, 210)
    for sh in shapes:
        for kb in rings:
            c = with_ring(sh, kb)
            if c and c not in out:
                out.append(c)
                if m > 8:
                    out.append(dict(c, grid=SMS))
    return out


M1, W = dict(kind='mma', mw=1, bn=8, kt=4), dict(kind='wgmma', kt=2, whole=1)
Q4K = dict(kind='q', type=12, ku=1)
START = {  # what tuning in the chain chose; native/cuda/README.md has the same table
    8: dict(qkv=dict(M1, stages=6), o=dict(M1, stages=8), gateup=dict(M1, mw=2, stages=2), down=dict(M1, mw=2, stages=7), lm=dict(M1, mw=2, kt=2, stages=3)),
    16: dict(qkv=dict(M1, bn=16, stages=4), o=dict(M1, mw=2, bn=16, stages=8, grid=132), gateup=dict(W, bn=16, stages=4), down=dict(M1, mw=2, bn=16, stages=6),
             lm=dict(M1, mw=2, bn=16, kt=2, stages=3)),
    32: dict(qkv=dict(W, bn=32, stages=8), o=dict(W, bn=32, stages=8), gateup=dict(W, bn=32, stages=8), down=dict(W, bn=32, stages=6), lm=dict(W, bn=32, stages=4)),
    64: dict(qkv=dict(W, bn=64, stages=4), o=dict(W, bn=64, stages=6, grid=132), gateup=dict(W, bn=64, stages=4, grid=132), down=dict(W, bn=64, stages=6, grid=132),
             lm=dict(W, bn=64, stages=3)),
    128: dict(qkv=dict(kind='wgmma', bn=64, kt=1, stages=6), o=dict(kind='wgmma', bn=64, kt=1, stages=8, grid=132),
              gateup=dict(kind='wgmma', bn=128, kt=1, wgs=2, stages=4, grid=132), down=dict(kind='wgmma', bn=64, kt=1, stages=8, grid=132),
              lm=dict(kind='wgmma', bn=128, kt=1, stages=5)),
    256: dict(qkv=dict(kind='wgmma', bn=256, kt=1, stages=4), o=dict(W, bn=128, stages=4), gateup=dict(kind='wgmma', bn=256, kt=1, wgs=2, stages=4, grid=132),
              down=dict(W, bn=128, stages=4), lm=dict(kind='wgmma', bn=256, kt=1, wgs=2, stages=4)),
}
QUANT = {  # Q4_K
    8: dict(qkv=dict(Q4K, mw=4, bn=8, ku=2, stages=5), o=dict(Q4K, mw=4, bn=8, ku=2, stages=5), gateup=dict(Q4K, mw=8, bn=8, ku=2, stages=2),
            down=dict(Q4K, mw=4, bn=8, ku=2, stages=5) if D >= 8192 else dict(Q4K, mw=2, bn=8, ku=2, stages=11), lm=dict(Q4K, mw=4, bn=8, ku=2, stages=2)),
    64: dict(qkv=dict(Q4K, mw=4, bn=64, wgmma=1, stages=4), o=dict(Q4K, mw=4, bn=64, wgmma=1, stages=3), gateup=dict(Q4K, mw=4, bn=64, wgmma=1, stages=2),
             down=dict(Q4K, mw=4, bn=64, wgmma=1, stages=3), lm=dict(Q4K, mw=4, bn=64, wgmma=1, stages=2)),
}


def start_for(m, quant=0):
    if quant == 12 and m in (1, 8, 64):
        return QUANT[8 if m <= 8 else 64]
    if quant:
        ku = 1 if quant > 8 else 4
        return {n: dict(kind='q', type=quant, mw=2 if m <= 8 else 4, bn=8 if m <= 8 else 64, ku=ku, stages=4 if m <= 8 else 3) for n in GEMMS}
    return START[next(b for b in (8, 16, 32, 64, 128, 256) if m <= b)]


def fitting(name, o):
    """Only inputs that are a multiple of a stage need no branch."""
    return dict(o, whole=0) if o.get('whole') and GEMMS[name][1] // 64 % o['kt'] else o


def key_for(name, c):
    return gemm_key(c['kind'], GEMMS[name][2], ACT, **fitting(name, {k: v for k, v in c.items() if k not in ('kind', 'grid')}))


def tune(model, m, rounds=1, budget=40.0):
    """Coordinate descent in the chain without attention."""
    s = State(m, m, 64)
    cfg = dict(start_for(m, model.quant))
    skip = ('rope', 'attention', 'sample', 'embed')
    cand = candidates(m, model.quant)
    compile_all([key_for(n, c) for n in GEMMS for c in cand + [cfg[n]]])
    best = time_step(model, s, cfg, skip=skip)
    note(tune=m, quant=model.quant, start=best, cfg=cfg)
    t0 = time.time()
    for r in range(rounds):
        for name in ('gateup', 'down', 'qkv', 'o', 'lm'):
            tried = []
            for c in cand:
                if time.time() - t0 > budget:
                    break
                try:
                    t = time_step(model, s, dict(cfg, **{name: c}), skip=skip, reps=6, warm=1)
                except Exception as e:
                    note(failed=str(e)[:100], cfg=c)
                    continue
                tried.append((t, c))
            tried.sort(key=lambda x: x[0])
            for t, c in tried[:3]:
                t = time_step(model, s, dict(cfg, **{name: c}), skip=skip)
                if t < best:
                    best, cfg = t, dict(cfg, **{name: c})
            note(tune=m, name=name, best=best, cfg=cfg[name], tried=[(round(t), {k: v for k, v in c.items()}) for t, c in tried[:4]], worst=tried[-1][0] if tried else None)
    nopdl = time_step(model, s, cfg, skip=skip, pdl=False)
    note(tuned=m, quant=model.quant, us=best, noPdl=nopdl, cfg=cfg)
    return cfg


def decode(model, m, context, cfg, bits=16, att=None, sustained=False, what=''):
    s = State(m, m, context, bits=bits)
    t = time_step(model, s, cfg, att=att, reps=100 if sustained else 20, warm=5)
    r = dict(work=f'decode {what} batch {m} context {context} kv {bits}', us=t, tokS=m / t * 1e6, att=att, sustained=sustained)
    r['noAttention'] = time_step(model, s, cfg, att=att, skip=('attention',))
    r['noSample'] = time_step(model, s, cfg, att=att, skip=('sample',))
    r['noRope'] = time_step(model, s, cfg, att=att, skip=('rope',))
    r['noNorm'] = time_step(model, s, cfg, att=att, skip=('norm',))
    for name in GEMMS:
        r['no ' + name] = round(time_step(model, s, cfg, att=att, skip=(name,)), 1)
    note(**r)
    return s


def attention_decode():
    for m, context, bits in ((1, 1024, 16), (1, 8192, 16), (8, 8192, 16), (64, 1024, 16), (64, 4096, 16), (64, 1024, 8), (64, 4096, 8), (64, 1024, 4), (256, 1024, 16), (256, 1024, 8)):
        layers = 8 if m * context <= 131072 else 4
        s = State(m, m, context, bits=bits, layers=layers)
        tasks = s.tasks_of(1)
        size = m * context * 2 * KH * (HD * bits // 8 + (0 if bits == 16 else 4))
        for att in [dict(kind='decode', stages=st) for st in (2, 3, 4)]:
            ls = [attend(s, s.g.layer(s.kv, layer), tasks, m, True, **att) for layer in range(layers)]
            t = time_graph(lambda st: [l(st) for l in ls], reps=20) / layers
            note(work=f'attention decode batch {m} context {context} kv {bits}', att=att, us=t, GBs=size / t / 1e3)
        del s
        torch.cuda.empty_cache()


def attention_prefill():
    for n, seqs in ((8192, 1), (2048, 4), (1024, 1)):
        s = State(n * seqs, seqs, n, layers=1, logits=seqs)
        flops = seqs * 4 * H * HD * n * (n + 1) / 2
        for p in (dict(kind='wgmma', wgs=2, stages=3, tokens=32), dict(kind='wgmma', wgs=2, stages=4, tokens=32), dict(kind='wgmma', wgs=1, stages=2, tokens=16),
                  dict(kind='mma', warps=4, stages=2, tokens=16)):
            tasks = s.tasks_of(p['tokens'])
            l = attend(s, s.kv.data_ptr(), tasks, len(tasks), False, **p)
            t = time_graph(lambda st: l(st), reps=10)
            note(work=f'attention prefill {seqs} x {n}', cfg=p, us=t, TFLOPs=flops / t / 1e6)
        if n == 8192:
            q, k, v = (torch.randn(seqs, H, n, HD, device=dev, dtype=torch.bfloat16) for _ in range(3))
            f = torch.nn.functional.scaled_dot_product_attention
            for _ in range(3):
                f(q, k, v, is_causal=True)
            e = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            e[0].record()
            for _ in range(10):
                f(q, k, v, is_causal=True)
            e[1].record()
            torch.cuda.synchronize()
            t = e[0].elapsed_time(e[1]) * 100
            note(work=f'attention prefill torch sdpa {seqs} x {n}', us=t, TFLOPs=flops / t / 1e6)


LARGE = [dict(kind='wgmma', wgs=2, bn=256, kt=1, stages=4), dict(kind='wgmma', wgs=2, bn=128, kt=1, stages=6), dict(kind='wgmma', wgs=1, bn=256, kt=1, stages=5)]


def products(ms=(256, 1024, 8192)):
    for m in ms:
        x = {k: rand16(up(m, 64) // 64, k // 64, 4096, spread=1) for k in (D, FF)}
        for name, (n, k, epi) in GEMMS.items():
            if name == 'lm' and m > 512:
                continue
            w = rand16(n // 64, k // 64, 4096)
            out = torch.zeros(m * (n // 2 if epi == 'silu' else n) + 8192, dtype={'residual': torch.float32, 'logits': torch.float32}.get(epi, torch.float16), device=dev)
            a, b = rand16(m, k, spread=1), rand16(n, k)
            for _ in range(2):
                a @ b.T
            reps = 10
            e = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            e[0].record()
            for _ in range(reps):
                a @ b.T
            e[1].record()
            torch.cuda.synchronize()
            base = e[0].elapsed_time(e[1]) * 1000 / reps
            r = dict(work=f'product {name} m={m}', cublasUs=base, cublasTFLOPs=2 * m * n * k / base / 1e6)
            for c in LARGE:
                for grid in (SMS, None):
                    o = {a_: b_ for a_, b_ in c.items() if a_ != 'kind'}
                    l = gemm('wgmma', epi, ACT, w, x[k], out, m, n, k // 64, FF // 64 if epi == 'silu' else n, grid=grid, **o)
                    t = time_graph(lambda st: [l(st) for _ in range(5)], reps=3, warm=1) / 5
                    r[f"{c['wgs'] * 64}x{c['bn']} g{grid}"] = round(2 * m * n * k / t / 1e6)
            note(**r)


def groups():
    """The size of a group of token tiles (the order of tiles), sustained."""
    for name in ('gateup', 'down', 'o'):
        n, k, epi = GEMMS[name]
        m = 8192
        x, w = rand16(m // 64, k // 64, 4096, spread=1), rand16(n // 64, k // 64, 4096)
        out = torch.zeros(m * (n // 2 if epi == 'silu' else n) + 8192, dtype=torch.float32 if epi == 'residual' else torch.float16, device=dev)
        r = dict(work=f'tile groups {name} m={m}')
        for group in (8, 4, 2, 16, 32, 8):
            l = gemm('wgmma', epi, ACT, w, x, out, m, n, k // 64, FF // 64 if epi == 'silu' else n, grid=SMS, wgs=2, bn=256, kt=1, stages=4, group=group)
            t = time_graph(lambda st: [l(st) for _ in range(10)], reps=5, warm=2) / 10
            r[f'group {group}'] = round(2 * m * n * k / t / 1e6)
        note(**r)


Q8 = dict(kind='q', type=8)
SMALL = {  # SmolLM2-135M, batch 1, tuned in the chain
    0: dict(qkv=dict(M1, stages=16), o=dict(M1, stages=8), gateup=dict(M1, mw=2, stages=9), down=dict(M1, stages=8), lm=dict(M1, mw=2, kt=2, stages=3)),
    8: dict(qkv=dict(Q8, mw=2, bn=8, ku=4, stages=4), o=dict(Q8, mw=2, bn=8, ku=4, stages=4), gateup=dict(Q8, mw=4, bn=8, ku=4, stages=9),
            down=dict(Q8, mw=2, bn=8, ku=4, stages=7), lm=dict(Q8, mw=4, bn=8, ku=2, stages=2)),
}


def small(model):
    """A small model at batch 1: rings of large models, own rings, norms in the products, shorter splits of attention."""
    own, q = SMALL[model.quant], model.quant
    # only the stages that there are
    for context in (256, 1024, 4096):
        r = dict(work=f'small batch 1 context {context} type {q}')
        for split in (512, 256, 128):
            s = State(1, 1, context, split=split)
            for label, cfg, fuse in (('large rings', start_for(1, q), False), ('own rings', own, False), ('own rings, fused', own, True), ('large rings, fused', start_for(1, q), True)):
                if label.startswith('large') and split != 512:
                    continue
                t = time_step(model, s, cfg, fuse=fuse, reps=40, warm=5)
                r[f'{label}, splits of {split}'] = (round(t, 1), round(1e6 / t))
        note(**r)
    s = State(1, 1, 1024, split=128)
    r = dict(work=f'small parts type {q}', all=round(time_step(model, s, own, fuse=True, reps=40), 1))
    for name in (*GEMMS, 'attention', 'rope', 'sample', 'embed'):
        r['no ' + name] = round(time_step(model, s, own, fuse=True, skip=(name,), reps=20), 1)
    note(**r)


def quant_large(kind):
    """Where do many rows win by dequantising into scratch? Products by registers (gemm_q) and by tiles, TFLOP/s."""
    qk, unit = UNIT[kind]
    model = Model.__new__(Model)
    model.quant = kind
    ku = 1 if kind > 8 else 4
    for name in ('qkv', 'o', 'gateup', 'down'):
        n, k, epi = GEMMS[name]
        w = model.units(up(n, 64) // 16 * (k // qk), unit)
        tiles = torch.zeros(n // 64, k // 64, 4096, dtype=torch.float16, device=dev)
        strips = up(n, 64) // 16
        unpack = Launch(K('dequantise.cu', TYPE=kind, ACT=1), (-(-k // 256), strips), 128, 0, [('p', w), ('p', tiles), ('i', k // 64), ('i', strips)])
        r = dict(work=f'quantised product {name} type {kind}', dequantiseUs=round(time_graph(lambda st: [unpack(st) for _ in range(5)], reps=3, warm=1) / 5, 1))
        for m in (64, 128, 256, 512, 1024, 2048, 8192):
            x = rand16(up(m, 64) // 64, k // 64, 4096, spread=1, dtype=torch.float16)
            out = torch.zeros(m * (n // 2 if epi == 'silu' else n) + 8192, dtype=torch.float32 if epi == 'residual' else torch.float16, device=dev)
            stride = FF // 64 if epi == 'silu' else n
            line = {}
            cases = {f'q{mw}x{bn}k{u}s{st}' + ('' if wg else 'm'): ('q', dict(type=kind, mw=mw, bn=bn, ku=u, stages=st, wgmma=wg), w)
                     for mw, bn, u, st, wg in [(8, 64, ku, 3, 1), (8, 128, max(1, ku // 2), 2, 1), (4, 128, max(1, ku // 2), 3, 1), (4, 64, ku, 3, 0)] + ([(4, 256, 1, 2, 1)] if kind < 9 else [])
                     if bn <= up(m, 64) and st * stage_bytes(dict(kind='q', type=kind, mw=mw, bn=bn, ku=u)) + mw * 2560 + 64 < 227 * 1024}
            c = START[m] if m in START else None
            c = dict(c[name]) if c else dict(kind='wgmma', wgs=2, bn=256, kt=1, stages=4, grid=SMS)
            cases['tiles'] = (c.pop('kind'), c, tiles)
            for label, (gemm_kind, o, weights) in cases.items():
                try:
                    l = gemm(gemm_kind, epi, 1, weights, x, out, m, n, k // 64, stride, **o)
                    line[label] = round(time_graph(lambda st: [l(st) for _ in range(5)], reps=3, warm=1) / 5, 1)
                except Exception as e:
                    line[label] = str(e)[:40]
            r[f'{m} rows, us'] = line
        note(**r)


def prefill_config():
    cfg = {n: dict(kind='wgmma', wgs=2, bn=256, kt=1, stages=4, grid=SMS) for n in GEMMS}
    cfg = dict(cfg, lm=dict(kind='mma', mw=1, bn=8, kt=4, stages=6))
    return cfg, dict(kind='wgmma', wgs=2, stages=3, tokens=32)


def prefill_groups(model):
    """Groups of token tiles inside a whole prefill, in turns."""
    base, att = prefill_config()
    for n, seqs in ((8192, 1), (2048, 4)):
        s = State(n * seqs, seqs, n, logits=seqs)
        times = {}
        for _ in range(3):
            for down, o in ((8, 8), (2, 8), (2, 4), (4, 4)):
                cfg = dict(base, down=dict(base['down'], group=down), o=dict(base['o'], group=o))
                times.setdefault(f'down {down} o {o}', []).append(round(n * seqs / time_step(model, s, cfg, prefill=att, reps=3, warm=1) * 1e6))
        note(work=f'prefill groups {seqs} x {n}', tokS=times)
        del s
        torch.cuda.empty_cache()


def prefill(model):
    cfg, att = prefill_config()
    for n, seqs in ((8192, 1), (2048, 4), (1024, 1)):
        s = State(n * seqs, seqs, n, logits=seqs)
        r = dict(work=f'prefill {seqs} x {n}', att=att)
        t = time_step(model, s, cfg, prefill=att, reps=5, warm=2)
        r.update(us=t, tokS=n * seqs / t * 1e6)
        for what in ('attention', 'rope', 'norm', 'qkv', 'o', 'gateup', 'down'):
            r['no ' + what] = round(time_step(model, s, cfg, prefill=att, reps=3, warm=1, skip=(what,)))
        note(**r)
        del s
        torch.cuda.empty_cache()


FINAL = [  # work, (batch, context, KV bits, weight type), LMDeploy 0.18, vLLM 0.26, target, aim, floor (tok/s)
    ('decode 1 x 1k', (1, 1024, 16, 0), 151, 155, 168, 182, 191), ('decode 64 x 1k, sustained', (64, 1024, 16, 0), 6523, 6337, 6700, 7200, 7520),
    ('decode 256 x 1k, sustained', (256, 1024, 16, 0), 12200, 11886, 12300, 13000, 13840), ('decode 64 x 4k, sustained', (64, 4096, 16, 0), 3573, 3515, 3500, 3600, 3710),
    ('int8 KV 64 x 1k, sustained', (64, 1024, 8, 0), 7548, 7129, 7200, None, None), ('int8 KV 256 x 1k, sustained', (256, 1024, 8, 0), 16334, 15134, 15500, None, None),
    ('int8 KV 64 x 4k, sustained', (64, 4096, 8, 0), 4979, 4666, 4800, None, None), ('prefill', None, None, None, None, None, None),
    ('Q4_K 1 x 1k (theirs AWQ)', (1, 1024, 16, 12), 130, 244, 230, 300, None), ('Q4_K 64 x 1k (theirs AWQ), sustained', (64, 1024, 16, 12), 5554, 7444, 6000, 7500, None)]


def final(model):
    out = []
    for work, case, lmdeploy, vllm, target, aim, floor in FINAL:
        if case is None:
            for (n, seqs), base in zip(((8192, 1), (2048, 4), (1024, 1)), ((33126, 38131, 36000, 42000), (39252, 40956, 39500, 43000), (None, None, None, None))):
                cfg, att = prefill_config()
                s = State(n * seqs, seqs, n, logits=seqs)
                t = time_step(model(0), s, cfg, prefill=att, reps=10, warm=3)
                out.append(dict(work=f'prefill {seqs} x {n}', ours=round(n * seqs / t * 1e6), unit='tok/s', us=round(t), lmdeploy=base[0], vllm=base[1], target=base[2], aim=base[3]))
                del s
                torch.cuda.empty_cache()
        else:
            m, context, bits, q = case
            mod = model(q)
            s = State(m, m, context, bits=bits)
            t = time_step(mod, s, start_for(m, q), reps=150 if m >= 64 else 40, warm=10)
            out.append(dict(work=work, ours=round(m / t * 1e6, 1), unit='tok/s', us=round(t), lmdeploy=lmdeploy, vllm=vllm, target=target, aim=aim,
                            shareOfFloor=round(m / t * 1e6 / floor, 3) if floor else None))
            del s
            torch.cuda.empty_cache()
        note(**out[-1])
    rows.extend(out)


if __name__ == '__main__':
    args = sys.argv[1:]
    file = args[args.index('--json') + 1] if '--json' in args else None
    t0 = time.time()
    models = {}

    def model(quant=0):
        globals()['ACT'] = 1 if quant else 0
        if quant not in models:
            models.clear()
            torch.cuda.empty_cache()
            models[quant] = Model(quant=quant)
        return models[quant]

    cfgs = {}
    for a in args:
        if a.startswith('--'):
            break
        print('==', a, f'{time.time() - t0:.1f} s', flush=True)
        p = a.split(':')
        try:
            if p[0] == 'tune':
                q = int(p[2]) if len(p) > 2 else 0
                cfgs[int(p[1]), q] = tune(model(q), int(p[1]), budget=float(p[3]) if len(p) > 3 else 30)
            elif p[0] == 'decode':
                m, context, bits = int(p[1]), int(p[2]), int(p[3])
                q = int(p[4]) if len(p) > 4 else 0
                decode(model(q), m, context, cfgs.get((m, q)) or start_for(m, q), bits=bits, sustained=m >= 64, what=f'type {q}' if q else '')
            elif p[0] == 'prefill':
                prefill(model())
            elif p[0] == 'final':
                final(model)
            elif p[0] == 'prefillGroups':
                prefill_groups(model())
            elif p[0] == 'small':
                small(model(int(p[1])))
            elif p[0] == 'quantLarge':
                globals()['ACT'] = 1
                quant_large(int(p[1]))
            elif p[0] == 'groups':
                groups()
            elif p[0] == 'products':
                products()
            elif p[0] == 'attention':
                attention_decode()
                attention_prefill()
        except Exception as e:
            import traceback
            traceback.print_exc()
            note(section=a, error=str(e)[:300])
        torch.cuda.empty_cache()
        if file:
            json.dump(rows, open(file, 'w'))
