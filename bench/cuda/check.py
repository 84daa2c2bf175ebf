"""Every kernel against a plain float64 reference on random data, and bits between variants. python3 check.py GROUP [OUT.json]"""
import hashlib, json, math, sys, time, traceback
import torch
from lm import *

results = []
torch.manual_seed(int(sys.argv[3]) if len(sys.argv) > 3 else 7)
g_rand = torch.Generator(device=dev)
g_rand.manual_seed(11)


def record(name, good, **more):
    results.append({'check': name, 'ok': bool(good), **more})
    print(('ok   ' if good else 'FAIL ') + name, more, flush=True)


def attempt(name, f, *a, **k):
    try:
        f(*a, **k)
    except Exception as e:
        traceback.print_exc()
        record(name, False, error=str(e)[:300])


def rel(x, y):
    x, y = x.double(), y.double()
    if not torch.isfinite(x).all():
        return float('nan')
    return ((x - y).norm() / y.norm()).item()


def randn(*s, spread=1.0):
    return torch.randn(*s, device=dev, generator=g_rand) * spread


def poison(*s, dtype=torch.float32):
    return torch.full(s, float('nan'), dtype=dtype, device=dev)


def bytes_of(t):
    return t.contiguous().view(torch.uint8)


# ---------------------------------------------------------------- 16-bit products

MMA = [dict(mw=mw, bn=bn, kt=kt, stages=st) for mw, bn, kt, st in
       [(1, 8, 2, 4), (1, 8, 1, 3), (2, 8, 2, 3), (4, 8, 1, 4), (1, 16, 2, 3), (2, 64, 1, 4), (4, 64, 1, 3), (8, 64, 1, 3), (4, 128, 1, 2), (8, 32, 2, 2)]] + \
      [dict(mw=mw, nw=nw, bn=bn, kt=kt, stages=st) for mw, nw, bn, kt, st in [(1, 4, 64, 2, 3), (2, 4, 64, 1, 4), (2, 2, 32, 1, 4), (1, 2, 16, 2, 4), (4, 2, 128, 1, 2)]]
WG = [dict(wgs=w, bn=bn, kt=kt, stages=st, whole=wh) for w, bn, kt, st, wh in
      [(1, 8, 2, 4, 0), (1, 8, 1, 3, 0), (1, 16, 1, 4, 0), (1, 32, 2, 3, 0), (1, 64, 1, 4, 0), (1, 64, 2, 3, 0), (1, 128, 1, 4, 0), (2, 128, 1, 4, 0),
       (2, 256, 1, 4, 0), (1, 256, 1, 4, 0), (2, 64, 1, 4, 0)]]


def product_variants():
    return [('mma', v) for v in MMA] + ([('wgmma', v) for v in WG] if ARCH == 'sm_90a' else [])


def check_product(act, n, k, ms):
    dt = act_type(act)
    w = (randn(n, k, spread=0.02) * (1 + 20 * (torch.rand(1, k, device=dev) < 0.01))).to(dt)
    raw = w.contiguous()
    k64 = up(k, 64) // 64
    tiles = torch.zeros(up(n, 64) // 64, k64, 4096, dtype=dt, device=dev)
    repack(1 if act else 30, act, raw, tiles, 2 * k, n, 0, k, k64)()
    record(f'repack act={act} {n}x{k}', torch.equal(bytes_of(tiles), bytes_of(to_tiles(w))))
    first = None
    for m in ms:
        x = (torch.randn(m, k, device=dev, generator=torch.Generator(device=dev).manual_seed(5)) * 3).to(dt)
        xt = to_tiles(x)
        ref = x.double() @ w.double().T
        stride = up(n, 4)
        base = None
        for kind, v in product_variants():
            name = f'{kind} act={act} n={n} k={k} m={m} {v}'
            for grid in (None, 4):
                if grid and (m not in (8, 300) or n > 1000):
                    continue
                try:
                    out = poison(m, stride)
                    gemm(kind, 'logits', act, tiles, xt, out, m, n, k64, stride, grid=grid, **v)()
                    torch.cuda.synchronize()
                except Exception as e:
                    record(name, False, error=str(e)[:200])
                    continue
                if base is None:
                    base = out
                    e = rel(out[:, :n], ref)
                    record(name, e < 2e-5, error=e)
                    if first is None:
                        first = out
                    r = min(len(first), m)
                    same = torch.equal(bytes_of(first[:r, :n]), bytes_of(out[:r, :n]))
                    record(f'rows alike among {m}', same)
                elif not torch.equal(bytes_of(base[:, :n]), bytes_of(out[:, :n])):
                    record(name + f' grid={grid} bits', False, differ=int((base[:, :n] != out[:, :n]).sum()), error=rel(out[:, :n], ref))
        record(f'bits alike act={act} n={n} k={k} m={m}', not any((not r['ok']) and r['check'].startswith(('mma', 'wgmma')) for r in results))
    return


def check_fused(act, n, k, kind=0):
    """A product that makes the norm of its rows itself: the bits of norm, then product."""
    x, weight = randn(8, k) * (1 + 30 * (torch.rand(1, k, device=dev) < 0.02)), torch.rand(k, device=dev, generator=g_rand) + 0.5
    k64 = k // 64
    if kind:
        raw, _ = random_quants(kind, n, k)
        qk, unit = UNIT[kind]
        w = torch.zeros(up(n, 64) // 16 * (k // qk) * unit, dtype=torch.uint8, device=dev)
        repack(kind, act, raw, w, raw.shape[1], n, 0, k, k64)()
        variants = [dict(type=kind, mw=mw, bn=8, ku=1 if kind > 8 else 4, stages=3) for mw in (1, 2, 4)]
    else:
        w = to_tiles(randn(n, k, spread=0.02).to(act_type(act)))
        variants = [dict(mw=mw, bn=8, kt=kt, stages=4) for mw, kt in ((1, 4), (2, 2), (4, 4))]
    for epi, stride in (('store', n), ('silu', n // 128)):
        for m in (1, 3, 8):
            tiles = torch.full((1, k64, 4096), float('nan'), dtype=act_type(act), device=dev)
            norm(act, k, x, weight, tiles, None, m, k, k64, 1e-5)()
            size = (m * n,) if epi == 'store' else (up(n // 2, 64) * 64,)
            outs = []
            for v in variants:
                for fused in (0, 1):
                    for grid in (None, 3):
                        out = poison(*size, dtype=torch.float16 if epi == 'store' else act_type(act))
                        more = dict(norm=k, normed=(x, weight, k, 1e-5)) if fused else {}
                        gemm('q' if kind else 'mma', epi, act, w, None if fused else tiles, out, m, n, k64, stride, grid=grid, **v, **more)()
                        outs.append(out)
            torch.cuda.synchronize()
            differ = [int((bytes_of(o) != bytes_of(outs[0])).sum()) for o in outs]
            written = int(torch.isfinite(outs[0].float()).sum())
            record(f'norm in the product act={act} n={n} k={k} type={kind} {epi} m={m}', sum(differ) == 0 and written >= m * n // 2, differ=differ, written=written)


def check_epilogues(act):
    dt = act_type(act)
    n, k, m = 256, 192, 70
    w, x = (randn(n, k, spread=0.05)).to(dt), randn(m, k).to(dt)
    wt, xt = to_tiles(w), to_tiles(x)
    bias = randn(up(n, 64))
    raw = poison(m, n)
    gemm('mma', 'logits', act, wt, xt, raw, m, n, 3, n, mw=1, bn=8, kt=2, stages=3)()
    for b in (None, bias):
        want = raw if b is None else raw + b[:n]
        for kind, v in [('mma', MMA[0]), ('mma', MMA[5])] + ([('wgmma', WG[0]), ('wgmma', WG[5]), ('wgmma', WG[9])] if ARCH == 'sm_90a' else []):
            name = f'{kind} act={act} bias={b is not None} {v}'
            o = poison(m, n, dtype=torch.float16)
            gemm(kind, 'store', act, wt, xt, o, m, n, 3, n, bias=b, **v)()
            record('store ' + name, torch.equal(o, want.half()))
            r0 = randn(m, n)
            r1 = r0.clone()
            gemm(kind, 'residual', act, wt, xt, r1, m, n, 3, n, bias=b, **v)()
            record('residual ' + name, torch.equal(r1, r0 + want))
            h = torch.zeros(up(m, 64) // 64, 2, 4096, dtype=dt, device=dev)
            gemm(kind, 'silu', act, wt, xt, h, m, n, 3, 2, bias=b, **v)()
            gate, upp = want.view(m, -1, 2, 8)[:, :, 0].reshape(m, -1), want.view(m, -1, 2, 8)[:, :, 1].reshape(m, -1)
            ref = torch.nn.functional.silu(gate.double()) * upp.double()
            got = from_tiles(h, m, 128)
            e = rel(got, ref)
            record('silu ' + name, e < (6e-4 if act else 4e-3), error=e)
            if v is MMA[0] and b is None:
                keep = h
            if b is None:
                record('silu bits ' + name, torch.equal(bytes_of(from_tiles(h, m, 128)), bytes_of(from_tiles(keep, m, 128))))


def fused():
    for act in (0, 1):
        for k in (64, 576, 960, 1024):
            attempt('fused', check_fused, act, 256, k)
    for kind, k in ((8, 576), (2, 960), (12, 768), (13, 512), (14, 1024)):
        attempt('fused', check_fused, 1, 256, k, kind)


def splits():
    for bits in (16, 8, 4):
        attempt('attention', check_attention, 64, 9, 3, 64, bits, 0, [1, 127, 129, 700], False, split=128)


def products():
    keys = [gemm_key(kind, 'logits', act, **v) for act in (0, 1) for kind, v in product_variants()]
    compile_all(keys)
    for act in (0, 1):
        attempt('epilogues', check_epilogues, act)
        attempt('products', check_product, act, 192, 320, (1, 8, 64, 100))
        attempt('products', check_product, act, 328, 1024, (1, 8, 64, 256, 300))
    attempt('products', check_product, 0, 4096, 4096, (1, 8, 64, 256, 300, 1100))
    attempt('products', check_product, 1, 1024, 14336, (1, 64, 513))


# ---------------------------------------------------------------- quantised

def random_quants(kind, n, k):
    """Random GGUF bytes (n, row bytes) and their values in f32, by ggml's formulas."""
    def f16(t):
        return t.half()
    if kind in (2, 3, 8):
        nb, size = k // 32, {2: 18, 3: 20, 8: 34}[kind]
        b = torch.randint(0, 256, (n, nb, size), dtype=torch.uint8, device=dev)
        d = f16(torch.rand(n, nb, device=dev) * 0.01 + 0.001)
        b[:, :, 0:2] = d.view(torch.uint8).view(n, nb, 2)
        if kind == 8:
            v = b[:, :, 2:].view(torch.int8).float() * d.float()[..., None]
        else:
            q = b[:, :, size - 16:]
            v = torch.cat([q & 15, q >> 4], -1).float()
            if kind == 2:
                v = (v - 8) * d.float()[..., None]
            else:
                m = f16(-torch.rand(n, nb, device=dev) * 0.08)
                b[:, :, 2:4] = m.view(torch.uint8).view(n, nb, 2)
                v = (v.double() * d.double()[..., None] + m.double()[..., None]).float()
        return b.view(n, -1), v.reshape(n, k)
    nb, size = k // 256, {12: 144, 13: 176, 14: 210}[kind]
    b = torch.randint(0, 256, (n, nb, size), dtype=torch.uint8, device=dev)
    if kind in (12, 13):
        d, dm = f16(torch.rand(n, nb, device=dev) * 2e-4 + 1e-5), f16(torch.rand(n, nb, device=dev) * 1e-3)
        b[:, :, 0:2] = d.view(torch.uint8).view(n, nb, 2)
        b[:, :, 2:4] = dm.view(torch.uint8).view(n, nb, 2)
        s = b[:, :, 4:16].int()
        sc = torch.empty(n, nb, 8, dtype=torch.int32, device=dev)
        mn = torch.empty_like(sc)
        for j in range(8):
            if j < 4:
                sc[..., j], mn[..., j] = s[..., j] & 63, s[..., j + 4] & 63
            else:
                sc[..., j] = (s[..., j + 4] & 15) | ((s[..., j - 4] >> 6) << 4)
                mn[..., j] = (s[..., j + 4] >> 4) | ((s[..., j] >> 6) << 4)
        qs = b[:, :, -128:].reshape(n, nb, 4, 32)
        q = torch.stack([qs & 15, qs >> 4], 3).reshape(n, nb, 8, 32).int()
        if kind == 13:
            high = b[:, :, 16:48].int()
            q |= torch.stack([((high >> j) & 1) << 4 for j in range(8)], 2)
        v = (q.double() * (d.double()[..., None] * sc.double())[..., None] - (dm.double()[..., None] * mn.double())[..., None]).float()
    else:
        d = f16(torch.rand(n, nb, device=dev) * 2e-5 + 1e-6)
        b[:, :, 208:210] = d.view(torch.uint8).view(n, nb, 2)
        ql, qh, sc = b[:, :, :128].int().view(n, nb, 2, 64), b[:, :, 128:192].int().view(n, nb, 2, 32), b[:, :, 192:208].view(torch.int8)
        parts = []
        for quarter in range(4):
            low = ql[..., 32 * (quarter & 1):32 * (quarter & 1) + 32]
            low = (low >> 4) if quarter & 2 else (low & 15)
            parts.append((low | (((qh >> (2 * quarter)) & 3) << 4)) - 32)
        q = torch.stack(parts, 3).reshape(n, nb, 16, 16)
        v = (q.float() * (d.float()[..., None] * sc.float())[..., None])
    return b.view(n, -1), v.reshape(n, k)


def quant_variants(kind):
    ku = 1 if kind > 8 else 4
    out = [dict(type=kind, mw=mw, bn=bn, ku=k_, stages=st) for mw, bn, k_, st in [(1, 8, ku, 4), (2, 8, ku, 3), (4, 8, ku, 2), (4, 64, ku, 2), (2, 32, ku, 2), (1, 16, ku, 3)]]
    if kind < 9:
        out.append(dict(type=kind, mw=1, bn=8, ku=1, stages=4))
    if ARCH == 'sm_90a':
        out += [dict(type=kind, mw=4, bn=64, ku=ku, stages=2, wgmma=1), dict(type=kind, mw=8, bn=128, ku=ku // 2 or 1, stages=2, wgmma=1),
                dict(type=kind, mw=4, bn=8, ku=ku, stages=3, wgmma=1), dict(type=kind, mw=4, bn=256, ku=1, stages=1 if kind > 8 else 2, wgmma=1)]
    return out


def digest(t):
    """Of its bits: whether two versions of the kernels make the same."""
    return hashlib.sha256(t.view(torch.uint8).cpu().numpy().tobytes()).hexdigest()[:16]


def check_quant(kind, act, n, k, ms):
    raw, values = random_quants(kind, n, k)
    k64 = up(k, 64) // 64
    qk, unit = UNIT[kind]
    units = torch.zeros(up(n, 64) // 16 * (k64 * 64 // qk) * unit, dtype=torch.uint8, device=dev)
    # in two pieces
    half = n // 2 // 8 * 8
    rb = raw.shape[1]
    repack(kind, act, raw, units, rb, half, 0, k, k64)()
    repack(kind, act, raw.data_ptr() + half * rb, units, rb, n - half, half, k, k64)()
    tiles = torch.full((up(n, 64) // 64, k64, 4096), float('nan'), dtype=act_type(act), device=dev)
    Launch(K('dequantise.cu', TYPE=kind, ACT=act), (-(-k64 // 4), up(n, 64) // 16), 128, 0, [('p', units), ('p', tiles), ('i', k64), ('i', up(n, 64) // 16)])()
    got = from_tiles(tiles, n, k)
    e = rel(got, values)
    want = values.to(act_type(act))
    record(f'dequantise type={kind} act={act}', torch.equal(got, want) or (kind == 14 and e < 5e-3) or (act and kind in (3, 12, 13) and e < 1e-3), differ=int((got != want).sum()), error=e, digest=digest(tiles))
    tok = torch.tensor([0, n - 1, 5, 13, n // 2], dtype=torch.int32, device=dev)
    out = poison(5, k)
    embed(kind, act, units, out, tok, None, tok, None, None, 5, k, k64, k, n, 0)()
    e2 = rel(out, values[tok.long()])
    record(f'embed type={kind}', e2 < 1e-6, error=e2)
    for m in ms:
        x = randn(m, k).to(act_type(act))
        xt = to_tiles(x)
        base = poison(m, n)
        gemm('mma', 'logits', act, tiles, xt, base, m, n, k64, n, mw=1, bn=8, kt=2, stages=4)()
        e = rel(base, x.double() @ got.double().T)
        record(f'product over dequantised type={kind} m={m}', e < 2e-5, error=e)
        for v in quant_variants(kind):
            out = poison(m, n)
            try:
                gemm('q', 'logits', act, units, xt, out, m, n, k64, n, **v)()
                torch.cuda.synchronize()
                record(f'quantised m={m} act={act} {v} bits', torch.equal(bytes_of(out), bytes_of(base)), differ=int((out != base).sum()), error=rel(out, base))
            except Exception as ex:
                record(f'quantised m={m} act={act} {v}', False, error=str(ex)[:200])


def quants():
    compile_all([gemm_key('q', 'logits', act, **v) for act in (0, 1) for kind in UNIT for v in quant_variants(kind)])
    for kind in UNIT:
        for act in (1, 0):
            attempt(f'quant {kind}', check_quant, kind, act, 200, 768, (1, 70))
    for kind in (2, 8):
        attempt(f'quant {kind} tail', check_quant, kind, 1, 72, 352, (3,))


# ---------------------------------------------------------------- attention

def pack_quant_reference(x, bits):
    """(…, hd) f32 → what is stored, dequantised in f16 as the kernel does."""
    top = 255.0 if bits == 8 else 15.0
    low, high = x.amin(-1, keepdim=True), x.amax(-1, keepdim=True)
    zero, scale = low.half(), ((high - low) / top).half()
    z, s = zero.float(), scale.float()
    inv = torch.where(s > 0, 1 / s, torch.zeros_like(s))
    q = ((x - z) * inv + 0.5).clamp(0, top).floor()
    return (q.double() * s.double() + z.double()).half()


def rope_reference(x, angles, dims, neox):
    """(t, heads, hd) f32, angles (t, dims/2, 2)."""
    y = x.clone()
    h = dims // 2
    c, s = angles[:, None, :, 0], angles[:, None, :, 1]
    if neox:
        a, b = x[..., :h], x[..., h:dims]
        y[..., :h], y[..., h:dims] = a * c - b * s, a * s + b * c
    else:
        a, b = x[..., 0:dims:2], x[..., 1:dims:2]
        y[..., 0:dims:2], y[..., 1:dims:2] = a * c - b * s, a * s + b * c
    return y


def check_attention(hd, heads, kv_heads, block_len, bits, act, lengths, neox, dims=None, wide=False, split=512):
    dims = dims or hd
    name = f'hd={hd} heads={heads}/{kv_heads} block={block_len} bits={bits} act={act} lengths={lengths} split={split}'
    g = Geometry(hd, heads, kv_heads, block_len, bits, layers=2, split=split)
    T = sum(lengths)
    stride = (heads + 2 * kv_heads) * hd
    qkv = randn(T, stride).half()
    q0 = qkv.clone()
    positions = torch.cat([torch.arange(n) for n in lengths]).int().to(dev)
    slots = torch.cat([torch.full((n,), i) for i, n in enumerate(lengths)]).int().to(dev)
    max_blocks = -(-max(lengths) // block_len)
    blocks = len(lengths) * max_blocks + 3
    tables = (torch.randperm(blocks)[:len(lengths) * max_blocks]).int().view(len(lengths), max_blocks).to(dev)
    kv = torch.full((blocks * g.block_bytes,), 255, dtype=torch.uint8, device=dev)
    table_f32 = randn(4, 64)
    inverse = (10000.0 ** (-torch.arange(dims // 2, dtype=torch.float64) * 2 / dims)).float().to(dev)
    angles = poison(T, dims // 2, 2)
    dummy = torch.zeros(T, 64, device=dev)
    embed(-1, act, table_f32, dummy, torch.zeros(T, dtype=torch.int32, device=dev), None, positions, inverse, angles, T, 64, 1, 64, 4, dims // 2)()
    a = positions.double()[:, None] * inverse.double()
    ra = torch.stack([a.cos(), a.sin()], -1)
    e = (angles.double() - ra).abs().max().item()
    record('angles ' + name, e < 3e-7, error=e)
    count = torch.tensor([T], dtype=torch.int32, device=dev)
    layer = 1
    rope_store(g, qkv, angles, g.layer(kv, layer), tables, positions, slots, count, T + 3, stride, max_blocks, dims, int(neox))()
    torch.cuda.synchronize()
    x = q0.float().view(T, -1, hd)
    rq, rk, rv = rope_reference(x[:, :heads], angles, dims, neox), rope_reference(x[:, heads:heads + kv_heads], angles, dims, neox), x[:, heads + kv_heads:]
    gq = qkv.view(T, -1, hd)[:, :heads]
    e = rel(gq.float(), rq.half().float())
    record('rope ' + name, e < 2e-4, error=e)
    if bits == 16:
        sk, sv = rk.half(), rv.half()
    else:
        sk, sv = pack_quant_reference(rk, bits), pack_quant_reference(rv, bits)
    # reference
    ref = torch.empty(T, heads, hd, dtype=torch.float64, device=dev)
    at = 0
    for n in lengths:
        Q, Kk, V = gq[at:at + n].double(), sk[at:at + n].double(), sv[at:at + n].double()
        Kk, V = Kk.repeat_interleave(heads // kv_heads, 1), V.repeat_interleave(heads // kv_heads, 1)
        s = torch.einsum('qhd,khd->hqk', Q, Kk) / hd ** 0.5
        s = s.masked_fill(torch.triu(torch.ones(n, n, dtype=torch.bool, device=dev), 1), float('-inf'))
        ref[at:at + n] = torch.einsum('hqk,khd->qhd', s.softmax(-1), V)
        at += n
    width = heads * hd
    k64 = up(width, 64) // 64
    limit = 1.5e-3 if act else 4e-3
    base = None
    splits = max(lengths) // split + 1
    group = heads // kv_heads

    def tasks_of(tokens):
        out, first = [], 0
        for i, n in enumerate(lengths):
            for p in range(0, n, tokens):
                out.append((first + p, min(tokens, n - p), i, p))
            first += n
        return torch.tensor(out, dtype=torch.int32, device=dev)

    cases = []
    for warps in (1, 4, 8):
        for tokens in sorted({max(1, 16 * warps // group), 1, 3}):
            if tokens * group <= 16 * warps and (tokens > 1 or warps < 8):
                cases.append(('mma', tokens, dict(warps=warps, stages=2)))
    for tokens in sorted({1, 16 // min(group, 16)}):
        cases += [('decode', tokens, dict(stages=st)) for st in (2, 3)]
    if bits == 16 and hd in (64, 128) and ARCH == 'sm_90a':
        cases += [('wgmma', 128 // group, dict(wgs=2, stages=3)), ('wgmma', 64 // group, dict(wgs=1, stages=2)), ('wgmma', max(1, 24 // group), dict(wgs=2, stages=2))]
    compile_all([attention_key(g, act, kind, **o) for kind, _, o in cases])
    arrived = torch.zeros(T * kv_heads * 2, dtype=torch.int32, device=dev)
    for kind, tokens, o in cases:
        case = f'{kind} {o} tokens={tokens} {name}'
        try:
            tasks = tasks_of(tokens)
            out = torch.full((up(T, 64) // 64, k64, 4096), float('nan'), dtype=act_type(act), device=dev)
            partial = poison(T, heads, splits, hd)
            weights = poison(T, heads, splits, 2)
            attention(g, act, kind, g.layer(kv, layer), qkv, out, partial, weights, arrived, tables, tasks, len(tasks), stride, k64, max_blocks, splits, **o)()
            torch.cuda.synchronize()
            got = from_tiles(out, T, width)
            if base is None:
                base = got
                e = rel(got, ref.view(T, -1))
                record(case, e < limit, error=e)
            else:
                d = int((got.view(torch.int16) != base.view(torch.int16)).sum())
                record(case + ' bits', d == 0, differ=d, error=rel(got, ref.view(T, -1)))
        except Exception as ex:
            record(case, False, error=str(ex)[:200])
    record('counters are zero again ' + name, int(arrived.abs().sum()) == 0)


def attentions():
    L = [1, 5, 64, 65, 511, 513, 700, 1100]
    for bits in (16, 8, 4):
        attempt('attention', check_attention, 128, 32, 8, 64, bits, 0, L, False)
        attempt('attention', check_attention, 64, 9, 3, 64, bits, 1, L, True)
    for hd in (16, 48, 80, 96):
        for bits in (16, 8, 4):
            attempt('attention', check_attention, hd, 4, 2, 16, bits, 1, [3, 70, 530], hd % 32 == 0)
    attempt('attention', check_attention, 128, 8, 2, 128, 16, 0, [200, 600], True, 64)
    attempt('attention', check_attention, 128, 8, 2, 128, 8, 0, [200, 600], True)
    attempt('attention', check_attention, 64, 4, 4, 32, 16, 1, [200, 600], False)
    attempt('attention', check_attention, 16, 32, 1, 48, 8, 1, [100, 40], False)


# ---------------------------------------------------------------- small kernels

def smalls():
    for act in (0, 1):
        for width in (64, 576, 4096, 5120, 100):
            def one():
                m, stride = 70, up(width, 4)
                x = torch.zeros(m, stride, device=dev)
                x[:, :width] = randn(m, width, spread=3)
                w = torch.zeros(stride, device=dev)
                w[:width] = randn(width)
                k64 = up(width, 64) // 64
                out = torch.zeros(2, k64, 4096, dtype=act_type(act), device=dev)
                idx = torch.randint(0, m, (20,), dtype=torch.int32, device=dev)
                norm(act, width, x, w, out, None, m, stride, k64, 1e-5)()
                ref = (x[:, :width].double() * torch.rsqrt(x[:, :width].double().pow(2).mean(1, keepdim=True) + 1e-5)) * w[:width].double()
                got = from_tiles(out, m, width)
                e = rel(got, ref)
                record(f'norm act={act} width={width}', e < (6e-4 if act else 4e-3), error=e)
                out2 = torch.zeros(1, k64, 4096, dtype=act_type(act), device=dev)
                norm(act, width, x, w, out2, idx, 20, stride, k64, 1e-5)()
                record(f'norm of gathered rows act={act} width={width}', torch.equal(from_tiles(out2, 20, width), got[idx.long()]))
                o3 = poison(20, stride)
                Launch(K('gather.cu'), (-(-width // 1024), 20), 256, 0, [('p', x), ('p', o3), ('p', idx), ('i', 20), ('i', width), ('i', stride), ('i', stride)])()
                record(f'gather width={width}', torch.equal(o3, x[idx.long()]))
            attempt('norm', one)
        def emb():
            table = randn(300, 200).to(act_type(act))
            t = to_tiles(table)
            tokens = torch.tensor([0, 299, 17, -1, -3, 64], dtype=torch.int32, device=dev)
            drawn = torch.tensor([5, 6, 201], dtype=torch.int32, device=dev)
            pos = torch.tensor([0, 1, 5, 100, 131071, 77777], dtype=torch.int32, device=dev)
            inv = (500000.0 ** (-torch.arange(64, dtype=torch.float64) / 64)).float().to(dev)
            ang = poison(6, 64, 2)
            out = poison(6, 200)
            embed(0, act, t, out, tokens, drawn, pos, inv, ang, 6, 200, 4, 200, 300, 64)()
            ids = torch.tensor([0, 299, 17, 5, 201, 64])
            record(f'embed act={act}', torch.equal(out, table[ids].float()))
            a = pos.double()[:, None] * inv.double()
            e = (ang.double() - torch.stack([a.cos(), a.sin()], -1)).abs().max().item()
            record('angles up to 131,071', e < 3e-7, error=e)
            # f32 weights, gate and up interleaved
            w = randn(40, 96)
            tiles = torch.zeros(2, 2, 4096, dtype=act_type(act), device=dev)
            repack(0, act, w, tiles, 384, 40, 0, 96, 2, step=16, offset=0)()
            repack(0, act, w * 2, tiles, 384, 40, 0, 96, 2, step=16, offset=8)()
            got = from_tiles(tiles, 80, 96).view(5, 2, 8, 96)
            record(f'repack interleaved act={act}', torch.equal(got[:, 0].reshape(40, 96), w.to(act_type(act))) and torch.equal(got[:, 1].reshape(40, 96), (2 * w).to(act_type(act))))
            gt, u = randn(9, 256, spread=4).half(), randn(9, 256).half()
            h = torch.zeros(1, 4, 4096, dtype=act_type(act), device=dev)
            Launch(K('silu_mul.cu', ACT=act), (1, 9), 256, 0, [('p', gt), ('p', u), ('p', h), ('i', 9), ('i', 256), ('i', 256), ('i', 4)])()
            e = rel(from_tiles(h, 9, 256), torch.nn.functional.silu(gt.double()) * u.double())
            record(f'silu_mul act={act}', e < (6e-4 if act else 4e-3), error=e)
        attempt('embed', emb)
    def blocks():
        for bits in (16, 8):
            g = Geometry(64, 4, 2, 64, bits, layers=3)
            kv = torch.randint(0, 256, (6, g.block_bytes), dtype=torch.uint8, device=dev)
            before = kv.clone()
            copies = torch.tensor([[0, 3, 64], [1, 4, 17], [2, 5, 3]], dtype=torch.int32, device=dev)
            count = torch.tensor([2], dtype=torch.int32, device=dev)
            Launch(K('copy_blocks.cu', **g.defs), (6, 3), 256, 0, [('p', kv), ('q', g.block_bytes), ('p', copies), ('p', count)])()
            torch.cuda.synchronize()
            heads_before, heads = before[1].view(6, g.head_bytes), kv[4].view(6, g.head_bytes)
            kb = 32 * g.row_bytes
            v0 = 64 * g.row_bytes
            good = torch.equal(kv[3], before[0]) and torch.equal(kv[5], before[5]) and torch.equal(heads[:, :kb], heads_before[:, :kb]) and \
                torch.equal(heads[:, v0:v0 + kb], heads_before[:, v0:v0 + kb]) and torch.equal(heads[:, kb:v0], before[4].view(6, -1)[:, kb:v0])
            record(f'copy_blocks bits={bits}', good)
    attempt('copies', blocks)


# ---------------------------------------------------------------- sampling

M64 = (1 << 64) - 1


def mix64(z):
    z = ((z ^ (z >> 30)) * 0xbf58476d1ce4e5b9) & M64
    z = ((z ^ (z >> 27)) * 0x94d049bb133111eb) & M64
    return z ^ (z >> 31)


def uniform(low, high, position):
    key = mix64((((high << 32) | low) + 0x9e3779b97f4a7c15) & M64)
    z = mix64((key + 0x9e3779b97f4a7c15 * ((position + 1) & 0xffffffff)) & M64)
    return (z >> 11) * 2.0 ** -53


def check_sampling(vocab, rows, spread, ties, seed):
    import random
    R = random.Random(seed)
    stride = up(vocab, 4)
    x = poison(rows, stride)
    v = randn(rows, vocab, spread=spread)
    if ties:
        v = (v * 4).round() / 4
    x[:, :vocab] = v
    s = dict(temperature=[R.choice([0, 0.7, 1, 1.5]) for _ in range(rows)], topK=[R.choice([0, 0, 1, 5, 40, 200, vocab]) for _ in range(rows)],
             topP=[R.choice([1, 1, 0.9, 0.5, 0, 0.999]) for _ in range(rows)], minP=[R.choice([0, 0, 0.1, 0.01, 1]) for _ in range(rows)],
             repetitionPenalty=[R.choice([1, 1.3]) for _ in range(rows)], presencePenalty=[R.choice([0, 0.4]) for _ in range(rows)],
             frequencyPenalty=[R.choice([0, 0.2]) for _ in range(rows)], topLogprobs=[R.choice([-1, 0, 1, 5, 20]) for _ in range(rows)],
             scoreToken=[R.choice([-1, R.randrange(vocab)]) for _ in range(rows)], maskRow=[R.choice([-1, -1, 0, 1]) for _ in range(rows)])
    hist, bias = [], []
    hs, bs = [0], [0]
    order = v.argsort(-1, descending=True)[:, :8].tolist()
    for i in range(rows):
        if R.random() < 0.5:
            hist += [(t, R.choice([0, 1, 3])) for t in order[i]]
        hs.append(len(hist))
        if R.random() < 0.4:
            bias += list(zip(order[i][:3], [-math.inf, 2.0, -1.0]))
        bs.append(len(bias))
    words = (vocab + 31) // 32
    masks = torch.randint(-2 ** 31, 2 ** 31 - 1, (2, words), dtype=torch.int32, device=dev)
    seeds = [(R.getrandbits(32), R.getrandbits(21)) for _ in range(rows)]
    pos = [R.randrange(100000) for _ in range(rows)]
    f = lambda l: torch.tensor(l, dtype=torch.float32, device=dev)
    n = lambda l: torch.tensor(l, dtype=torch.int32, device=dev)
    perm = list(range(rows))
    b = dict(logits=x, scratch=poison(rows, stride), seed=torch.tensor(seeds, dtype=torch.int64, device=dev).to(torch.uint32), historyStart=n(hs),
             historyTokens=n([t for t, _ in hist] + [0]), historyCounts=n([c for _, c in hist] + [0]), biasStart=n(bs), biasTokens=n([t for t, _ in bias] + [0]),
             biasValues=f([c for _, c in bias] + [0]), masks=masks, logitRows=n(perm), positions=n(pos), count=n([rows]),
             tokens=n([-7] * rows), status=n([-7] * rows), logprobs=poison(rows), scoreLogprobs=poison(rows), topTokens=n([[-7] * 20] * rows), topLogprobsOut=poison(rows, 20))
    for k in ('temperature', 'topP', 'minP', 'repetitionPenalty', 'presencePenalty', 'frequencyPenalty'):
        b[k] = f(s[k])
    for k in ('topK', 'topLogprobs', 'scoreToken', 'maskRow'):
        b[k] = n(s[k])
    sample(b, rows + 2, vocab, stride)()
    torch.cuda.synchronize()
    tokens = b['tokens'].tolist()
    wrong, near, lp = 0, 0, 0.0
    bits = ((masks[:, :, None] >> torch.arange(32, device=dev)) & 1).bool().view(2, -1)[:, :vocab]
    for i in range(rows):
        raw = v[i].float()
        y = raw.clone()
        for t, c in bias[bs[i]:bs[i + 1]]:
            y[t] += c
        if s['maskRow'][i] >= 0:
            y[~bits[s['maskRow'][i]]] = -math.inf
        rep, pres, freq = s['repetitionPenalty'][i], s['presencePenalty'][i], s['frequencyPenalty'][i]
        for t, c in hist[hs[i]:hs[i + 1]]:
            val = y[t]
            val = val / f([rep])[0] if val > 0 else val * f([rep])[0]
            y[t] = val - (pres if c > 0 else 0) - freq * c
        T = s['temperature'][i]
        if T == 0:
            best = y.max()
            want = int((y >= best).nonzero()[0])
            wrong += not (tokens[i] == want or float(y[tokens[i]]) >= float(best) - 1e-5)
        else:
            e = ((y.double() - y.max().double()) / T).exp()
            o = torch.sort(y, descending=True, stable=True).indices
            keep = torch.ones(vocab, dtype=torch.bool, device=dev)
            if 0 < s['topK'][i] < vocab:
                keep[o[s['topK'][i]:]] = False
            if s['topP'][i] < 1:
                m = (e * keep)[o].cumsum(0)
                need = int((m < s['topP'][i] * m[-1]).sum()) + 1
                keep2 = torch.zeros_like(keep)
                keep2[o[:need]] = True
                keep &= keep2
            if s['minP'][i] > 0:
                keep &= e >= s['minP'][i]
            w = e * keep
            c = w.cumsum(0)
            u = uniform(seeds[i][0], seeds[i][1], pos[i] + 1) * float(c[-1])
            want = int((c <= u).sum())
            if tokens[i] != want:
                # a draw at the border of two tokens may fall to the neighbour; a token at the border of a filter may be in or out
                lo = float(c[tokens[i] - 1]) if tokens[i] > 0 else 0.0
                border = tokens[i] >= 0 and min(abs(u - lo), abs(u - float(c[tokens[i]]))) < 3e-5 * float(c[-1])
                near += border
                wrong += not border
                if not border:
                    print('   row', i, 'got', tokens[i], 'want', want, {k: s[k][i] for k in ('temperature', 'topK', 'topP', 'minP')}, flush=True)
        ls = raw.double() - raw.double().logsumexp(0)
        if s['topLogprobs'][i] >= 0:
            lp = max(lp, abs(b['logprobs'][i].item() - ls[tokens[i]].item()))
            k = s['topLogprobs'][i]
            o = torch.sort(raw, descending=True, stable=True).indices[:k]
            if b['topTokens'][i, :k].tolist() != o.tolist():
                wrong += 1
                print('   top', i, b['topTokens'][i, :k].tolist(), o.tolist())
            if k:
                lp = max(lp, (b['topLogprobsOut'][i, :k].double() - ls[o]).abs().max().item())
            if k < 20 and b['topTokens'][i, k].item() != -1:
                wrong += 1
        else:
            wrong += not math.isnan(b['logprobs'][i].item())
        if s['scoreToken'][i] >= 0:
            lp = max(lp, abs(b['scoreLogprobs'][i].item() - ls[s['scoreToken'][i]].item()))
    record(f'sample vocab={vocab} rows={rows} spread={spread} ties={ties}', wrong == 0 and lp < 2e-5 and b['status'].abs().sum().item() == 0,
           wrong=wrong, near=near, logprob=lp)
    # alone and among others
    again = dict(b)
    again['tokens'] = n([-7] * rows)
    again['count'] = n([1])
    sample(again, 1, vocab, stride)()
    record('sample: the first row alone', again['tokens'][0].item() == tokens[0])


def awkward():
    vocab = 1001
    stride = 1004
    x = torch.full((6, stride), float('nan'), device=dev)
    x[0, :vocab] = 1.5
    x[1, :vocab] = 0
    x[1, 700] = float('nan')
    x[2, :vocab] = -math.inf
    x[3, :vocab] = -4
    x[3, 10] = x[3, 900] = 4
    x[4, :vocab] = 0
    x[4, vocab - 1] = float('nan')
    x[5, :vocab] = -80
    x[5, vocab - 1] = 80
    f = lambda l: torch.tensor(l, dtype=torch.float32, device=dev)
    n = lambda l: torch.tensor(l, dtype=torch.int32, device=dev)
    z = [0] * 7
    for temperature in (0, 1):
        b = dict(logits=x, scratch=torch.empty_like(x), temperature=f([temperature] * 6), topK=n([0] * 6), topP=f([1] * 6), minP=f([0] * 6),
                 repetitionPenalty=f([1] * 6), presencePenalty=f([0] * 6), frequencyPenalty=f([0] * 6), seed=torch.zeros(12, dtype=torch.int32, device=dev),
                 topLogprobs=n([2] * 6), scoreToken=n([-1] * 6), historyStart=n(z), historyTokens=n([0]), historyCounts=n([0]), biasStart=n(z), biasTokens=n([0]),
                 biasValues=f([0]), maskRow=n([-1] * 6), masks=n([0]), logitRows=n(list(range(6))), positions=n([0] * 6), count=n([6]), tokens=n([-7] * 6),
                 status=n([-7] * 6), logprobs=f([0] * 6), scoreLogprobs=f([0] * 6), topTokens=n([[-7] * 20] * 6), topLogprobsOut=poison(6, 20))
        sample(b, 6, vocab, stride)()
        torch.cuda.synchronize()
        t, st = b['tokens'].tolist(), b['status'].tolist()
        good = st == [0, 1, 1, 0, 1, 0] and t[1] == t[2] == t[4] == -1 and t[5] == vocab - 1 and (temperature or (t[0] == 0 and t[3] == 10))
        record(f'awkward logits temperature={temperature}', good, tokens=t, status=st, top=b['topTokens'][3, :3].tolist())


def samples():
    attempt('awkward', awkward)
    for i, (vocab, rows, spread, ties) in enumerate([(1000, 64, 3, 0), (49152, 48, 2, 0), (128256, 64, 2, 0), (128256, 32, 2, 1), (5003, 64, 8, 1), (32003, 32, 0.3, 0)]):
        attempt(f'sample {vocab}', check_sampling, vocab, rows, spread, ties, i)


def sanitize():
    """Small cases for compute-sanitizer."""
    global MMA, WG
    MMA, WG = [MMA[0], MMA[5]], [WG[0], WG[4], WG[8]]
    attempt('products', check_product, 0, 136, 704, (1, 70))
    attempt('fused', check_fused, 0, 128, 576)
    attempt('fused', check_fused, 1, 128, 576, 8)
    full = quant_variants
    globals()['quant_variants'] = lambda kind: full(kind)[:2] + full(kind)[-3:-2]
    for kind in (12, 13, 14, 8):
        attempt('quant', check_quant, kind, 1, 72, 1536, (9,))
    for bits in (16, 8, 4):
        attempt('attention', check_attention, 64, 4, 2, 16, bits, 1, [70, 530], True)
    attempt('attention', check_attention, 128, 4, 1, 64, 16, 0, [600], True)
    attempt('bits', GROUPS['bits'])
    attempt('awkward', awkward)
    attempt('sample', check_sampling, 5003, 6, 3, 1, 3)


def bits():
    """What the device asks at its start: the same sums in seven ways."""
    compile_all([key_of('bits.cu', ACT=act, WGMMA=int(ARCH == 'sm_90a')) for act in (0, 1)])
    for act in (0, 1):
        wgmma = int(ARCH == 'sm_90a')
        ways = 7 if wgmma else 3
        out = poison(ways, 64, 64)
        launch = Launch(K('bits.cu', ACT=act, WGMMA=wgmma), (ways,), 128, 0, [('p', out)])
        launch()
        torch.cuda.synchronize()
        t = time.time()
        launch()
        torch.cuda.synchronize()
        t = time.time() - t
        differ = [int((out[i].view(torch.int32) != out[0].view(torch.int32)).sum()) for i in range(ways)]
        record(f'bits act={act}', bool(torch.isfinite(out).all()) and differ[2] > 1000 and sum(differ) == differ[2], differ=differ, ms=round(1000 * t, 3))


def sanitize_new():
    """Less of it, for the race checker, which is slow."""
    full = quant_variants
    globals()['quant_variants'] = lambda kind: full(kind)[:2] + full(kind)[-3:-2]
    attempt('fused', check_fused, 0, 128, 576)
    attempt('fused', check_fused, 1, 128, 576, 8)
    attempt('quant', check_quant, 13, 1, 72, 512, (9,))
    attempt('attention', check_attention, 64, 4, 2, 64, 16, 0, [150], False, split=128)
    attempt('bits', GROUPS['bits'])


GROUPS = {'sanitizeNew': sanitize_new, 'fused': fused, 'splits': splits, 'bits': bits, 'sanitize': sanitize, 'products': products, 'quants': quants, 'attentions': attentions, 'smalls': smalls, 'samples': samples}
t0 = time.time()
GROUPS[sys.argv[1]]()
bad = [r for r in results if not r['ok']]
print(f'{sys.argv[1]}: {len(results)} checks, {len(bad)} failed, {time.time() - t0:.1f} s')
if len(sys.argv) > 2:
    json.dump(results, open(sys.argv[2], 'w'))
