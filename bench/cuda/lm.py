"""The CUDA kernels from Python: NVRTC and the driver API through ctypes, memory from PyTorch. For checks and measurements;
longmind itself needs no Python."""
import ctypes, glob, hashlib, os, site, struct, sys
from concurrent.futures import ThreadPoolExecutor
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCES = os.environ.get('LM_SOURCES', os.path.join(HERE, '..', '..', 'native', 'cuda'))
ARCH = os.environ.get('LM_ARCH', 'sm_90a')
dev = 'cuda'
torch.cuda.init()
torch.empty(1, device=dev)
cu = ctypes.CDLL('libcuda.so.1')


def ok(rc):
    if rc:
        s = ctypes.c_char_p()
        cu.cuGetErrorString(rc, ctypes.byref(s))
        raise RuntimeError(f'CUDA {rc}: {s.value}')


def _nvrtc():
    if os.environ.get('LM_NVRTC'):
        folders = [os.environ['LM_NVRTC']]
    else:
        folders = [f for p in site.getsitepackages() + sys.path for f in glob.glob(os.path.join(p, 'nvidia', '*', 'lib'))]
        folders += glob.glob('/usr/local/cuda*/lib64')
    for f in folders:
        if glob.glob(f + '/libnvrtc.so.1*'):
            for b in sorted(glob.glob(f + '/libnvrtc-builtins.so.1*')):
                if '.alt.' not in b:
                    ctypes.CDLL(b, mode=ctypes.RTLD_GLOBAL)
            return ctypes.CDLL(sorted(glob.glob(f + '/libnvrtc.so.1*'))[0])
    raise RuntimeError('no NVRTC')


nvrtc = _nvrtc()
_texts = {f: open(os.path.join(SOURCES, f)).read() for f in sorted(os.listdir(SOURCES)) if f.endswith(('.h', '.cu'))}
_cubins = {}
_functions = {}


def _compile(key):
    file, defs = key
    prog = ctypes.c_void_p()
    nvrtc.nvrtcCreateProgram(ctypes.byref(prog), _texts[file].encode(), file.encode(), 0, None, None)
    opts = [f'--gpu-architecture={ARCH}', '-default-device', '-fmad=false', '-modify-stack-limit=false', '-diag-suppress=177',
            '-I' + SOURCES] + os.environ.get('LM_OPTIONS', '').split() + [f'-DLM_{k}={v}' for k, v in defs]
    arr = (ctypes.c_char_p * len(opts))(*[o.encode() for o in opts])
    rc = nvrtc.nvrtcCompileProgram(prog, len(opts), arr)
    n = ctypes.c_size_t()
    if rc:
        nvrtc.nvrtcGetProgramLogSize(prog, ctypes.byref(n))
        b = ctypes.create_string_buffer(n.value)
        nvrtc.nvrtcGetProgramLog(prog, b)
        raise RuntimeError(f'{file} {defs}: {b.value.decode()}')
    nvrtc.nvrtcGetCUBINSize(prog, ctypes.byref(n))
    b = ctypes.create_string_buffer(n.value)
    nvrtc.nvrtcGetCUBIN(prog, b)
    _cubins[key] = b.raw


def key_of(file, **defs):
    return (file, tuple(sorted(defs.items())))


def compile_all(keys):
    keys = [k for k in dict.fromkeys(keys) if k not in _cubins]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(_compile, keys))


ENTRY = {'gemm_mma.cu': 'gemm', 'gemm_wgmma.cu': 'gemm', 'gemm_q.cu': 'gemm', 'norm.cu': 'rms_norm', 'dequantise.cu': 'dequantise_tiles',
         'silu_mul.cu': 'silu_mul_rows', 'attention_wgmma.cu': 'attention', 'attention_decode.cu': 'attention'}


def K(file, **defs):
    """A kernel's function for these macros (without LM_)."""
    key = key_of(file, **defs)
    if key not in _functions:
        if key not in _cubins:
            _compile(key)
        m, f = ctypes.c_void_p(), ctypes.c_void_p()
        ok(cu.cuModuleLoadData(ctypes.byref(m), _cubins[key]))
        ok(cu.cuModuleGetFunction(ctypes.byref(f), m, ENTRY.get(file, file[:-3]).encode()))
        ok(cu.cuFuncSetAttribute(f, 8, 227 * 1024 - static_shared(f)))
        _functions[key] = f
    return _functions[key]


def static_shared(f):
    n = ctypes.c_int()
    ok(cu.cuFuncGetAttribute(ctypes.byref(n), 1, f))
    return n.value


class Attribute(ctypes.Structure):
    _fields_ = [('id', ctypes.c_uint), ('pad', ctypes.c_uint), ('v', ctypes.c_uint * 16)]


class Config(ctypes.Structure):
    _fields_ = [('g', ctypes.c_uint * 3), ('b', ctypes.c_uint * 3), ('shared', ctypes.c_uint), ('stream', ctypes.c_void_p),
                ('attrs', ctypes.c_void_p), ('n', ctypes.c_uint)]


def pack(fields):
    """[(type letter, value)] → bytes with C alignment. p pointer or tensor, i int, q int64, f float."""
    out = b''
    for t, v in fields:
        size = {'p': 8, 'q': 8, 'i': 4, 'f': 4}[t]
        out += b'\0' * (-len(out) % size)
        if t == 'p':
            v = 0 if v is None else v.data_ptr() if isinstance(v, torch.Tensor) else v
            out += struct.pack('<Q', v)
        else:
            out += struct.pack('<' + t, v)
    return out + b'\0' * (-len(out) % 8)


class Launch:
    """A kernel with its arguments; may be launched many times, also while a stream is captured."""

    def __init__(self, f, grid, block, shared, fields, pdl=False):
        self.keep = [v for _, v in fields]
        self.buffer = ctypes.create_string_buffer(pack(fields))
        self.args = (ctypes.c_void_p * 1)(ctypes.addressof(self.buffer))
        self.attrs = (Attribute * 2)()
        n = 0
        if pdl:
            self.attrs[n].id = 6
            self.attrs[n].v[0] = 1
            n += 1
        grid = tuple(grid) + (1,) * (3 - len(grid))
        self.f = f
        self.c = Config((ctypes.c_uint * 3)(*grid), (ctypes.c_uint * 3)(block, 1, 1), shared, None, ctypes.addressof(self.attrs), n)

    def __call__(self, stream=None):
        self.c.stream = stream if stream is not None else torch.cuda.current_stream().cuda_stream
        ok(cu.cuLaunchKernelEx(ctypes.byref(self.c), self.f, self.args, None))


# ---------------------------------------------------------------- layouts

def up(a, b):
    return (a + b - 1) // b * b


_columns = {}


def _swizzle():
    if 'i' not in _columns:
        r = torch.arange(64).view(64, 1)
        c = torch.arange(64).view(1, 64)
        _columns['i'] = (r * 64 + (((c >> 3) ^ r) & 7) * 8 + (c & 7)).view(-1).to(dev)
    return _columns['i']


def to_tiles(x):
    """(rows, k) 16-bit → tiles, padded with zeros."""
    n, k = x.shape
    p = torch.zeros(up(n, 64), up(k, 64), dtype=x.dtype, device=x.device)
    p[:n, :k] = x
    t = p.view(p.shape[0] // 64, 64, p.shape[1] // 64, 64).permute(0, 2, 1, 3).reshape(-1, 4096)
    out = torch.empty_like(t)
    out[:, _swizzle()] = t
    return out.view(p.shape[0] // 64, p.shape[1] // 64, 4096)


def from_tiles(t, n, k):
    a, b, _ = t.shape
    p = t.reshape(-1, 4096)[:, _swizzle()].view(a, b, 64, 64).permute(0, 2, 1, 3).reshape(a * 64, b * 64)
    return p[:n, :k]


def act_type(act):
    return torch.float16 if act else torch.bfloat16


# ---------------------------------------------------------------- launches by kernel

SMS = torch.cuda.get_device_properties(0).multi_processor_count
EPI = {'store': 0, 'residual': 1, 'silu': 2, 'logits': 3}
UNIT = {8: (64, 1088), 2: (64, 576), 3: (64, 640), 12: (256, 2368), 13: (256, 2880), 14: (256, 3360)}


def gemm_fields(w, x, out, bias, rows, n, k64, stride, normed=None):
    """normed: (f32 rows, weights of the norm, stride, eps) of a product that makes the norm itself."""
    raw, weight, raw_stride, eps = normed or (None, None, 0, 0.0)
    return [('p', w), ('p', x), ('p', out), ('p', bias), ('i', rows), ('i', n), ('i', k64), ('i', stride), ('p', raw), ('p', weight), ('i', raw_stride), ('f', eps)]


def gemm_key(kind, epi, act, **o):
    if kind == 'mma':
        return key_of('gemm_mma.cu', EPI=EPI[epi], ACT=act, MW=o['mw'], NW=o.get('nw', 1), BN=o['bn'], KT=o['kt'], STAGES=o['stages'],
                      NORM=o.get('norm', 0))
    if kind == 'wgmma':
        return key_of('gemm_wgmma.cu', EPI=EPI[epi], ACT=act, WGS=o.get('wgs', 1), BN=o['bn'], KT=o['kt'], STAGES=o['stages'],
                      WHOLE=o.get('whole', 0), TILE_GROUP=o.get('group', 8))
    return key_of('gemm_q.cu', EPI=EPI[epi], ACT=act, TYPE=o['type'], MW=o['mw'], BN=o['bn'], KU=o['ku'], STAGES=o['stages'],
                  WGMMA=o.get('wgmma', 0), NORM=o.get('norm', 0))


def gemm(kind, epi, act, w, x, out, rows, n, k64, stride, bias=None, pdl=False, grid=None, normed=None, **o):
    file, defs = gemm_key(kind, epi, act, **o)
    f = K(file, **dict(defs))
    stages, bn, norm = o['stages'], o['bn'], o.get('norm', 0)
    tokens = 0 if norm else bn * 128
    if kind == 'mma':
        warps = o['mw'] * o.get('nw', 1)
        per, block = 16 * o['mw'], 32 * (warps + 1)
        stage = o['kt'] * (o['mw'] * 2048 + tokens)
    elif kind == 'wgmma':
        wgs = o.get('wgs', 1)
        per, block, warps = 64 * wgs, 384 if wgs == 2 and bn == 256 else 128 * wgs + 32, 4 * wgs
        stage = o['kt'] * (wgs * 8192 + bn * 128)
    else:
        qk, unit = UNIT[o['type']]
        per, block, warps = 16 * o['mw'], 32 * (o['mw'] + 1), o['mw']
        stage = up(o['ku'] * (qk // 64) * tokens + o['ku'] * o['mw'] * unit, 1024)
    shared = stages * stage + warps * 2560 + 16 * stages + 16 * norm
    tiles = -(-n // per) * -(-rows // bn)
    g = min(tiles, grid) if grid else tiles
    return Launch(f, (g,), block, shared, gemm_fields(w, x, out, bias, rows, n, k64, stride, normed), pdl=pdl)


def repack(kind, act, src, dst, row_bytes, rows, first, inputs, k64, step=8, offset=0):
    items = rows * (-(-inputs // 8)) if kind in (0, 1, 30) else rows * k64 * 4
    return Launch(K('repack.cu', TYPE=kind, ACT=act), (-(-items // 256),), 256, 0,
                  [('p', src), ('p', dst), ('q', row_bytes), ('i', rows), ('i', first), ('i', inputs), ('i', k64), ('i', step), ('i', offset)])


def norm(act, width, x, w, out, index, rows, stride, k64, eps, pdl=False):
    return Launch(K('norm.cu', WIDTH=width, ACT=act), (rows,), 256, 0,
                  [('p', x), ('p', w), ('p', out), ('p', index), ('i', rows), ('i', stride), ('i', k64), ('f', eps)], pdl=pdl)


def embed(kind, act, table, out, tokens, drawn, positions, inverse, angles, rows, dim, k64, stride, vocab, half, magnitude=1.0, pdl=False):
    return Launch(K('embed.cu', TYPE=kind, ACT=act), (rows,), 256, 0,
                  [('p', table), ('p', out), ('p', tokens), ('p', drawn), ('p', positions), ('p', inverse), ('p', angles), ('i', rows), ('i', dim),
                   ('i', k64), ('i', stride), ('i', vocab), ('i', half), ('f', magnitude)], pdl=pdl)


class Geometry:
    def __init__(self, hd, heads, kv_heads, block_len, bits, layers=1, split=512):
        self.split = split
        self.hd, self.heads, self.kv_heads, self.block_len, self.bits, self.layers = hd, heads, kv_heads, block_len, bits, layers
        self.row_bytes = hd * bits // 8
        self.params = 0 if bits == 16 else 8
        self.head_bytes = block_len * (2 * self.row_bytes + self.params)
        self.block_bytes = layers * kv_heads * self.head_bytes
        self.defs = dict(HD=hd, HEADS=heads, KV_HEADS=kv_heads, BLOCK_LEN=block_len, KV_BITS=bits)

    def layer(self, kv, layer):
        return kv.data_ptr() + layer * self.kv_heads * self.head_bytes


def rope_store(g, qkv, angles, kv, tables, positions, slots, count, rows, stride, max_blocks, dims, neox, pdl=False):
    return Launch(K('rope_store.cu', **g.defs, ROPE_DIMS=dims, NEOX=neox), (rows, -(-(g.heads + 2 * g.kv_heads) // 8)), 256, 0,
                  [('p', qkv), ('p', angles), ('p', kv), ('q', g.block_bytes), ('p', tables), ('p', positions), ('p', slots), ('p', count),
                   ('i', stride), ('i', max_blocks)], pdl=pdl)


def attention_key(g, act, kind, **o):
    if kind == 'decode':
        return key_of('attention_decode.cu', **g.defs, ACT=act, STAGES=o['stages'], SPLIT_LEN=g.split)
    if kind == 'wgmma':
        return key_of('attention_wgmma.cu', **g.defs, ACT=act, WGS=o['wgs'], STAGES=o['stages'], SPLIT_LEN=g.split)
    return key_of('attention.cu', **g.defs, ACT=act, WARPS=o['warps'], STAGES=o['stages'], SPLIT_LEN=g.split)


def attention(g, act, kind, kv, q, out, partial, weights, arrived, tables, tasks, n_tasks, stride, k64, max_blocks, splits, scale=None, pdl=False, **o):
    file, defs = attention_key(g, act, kind, **o)
    stages = o['stages']
    shared = stages * 64 * (2 * g.row_bytes + g.params) + 16 * stages
    fields = [('p', kv), ('q', g.block_bytes), ('p', q), ('p', out), ('p', partial), ('p', weights), ('p', arrived), ('p', tables), ('p', tasks), ('i', stride),
              ('i', k64), ('i', max_blocks), ('i', splits), ('f', scale or 1.44269504088896341 / g.hd ** 0.5)]
    f = K(file, **dict(defs))
    group = g.heads // g.kv_heads
    if kind == 'decode':
        return Launch(f, (n_tasks, g.kv_heads * -(-group // 16), splits), 160, shared + 2048 + 256 + 16, fields, pdl=pdl)
    if kind == 'wgmma':
        return Launch(f, (n_tasks, g.kv_heads), 128 * (o['wgs'] + 1), shared + o['wgs'] * 256 * g.hd, fields, pdl=pdl)
    return Launch(f, (n_tasks, g.kv_heads), 32 * (o['warps'] + 1), shared + 64 * o['warps'] * g.hd, fields, pdl=pdl)


SAMPLE = ['logits', 'scratch', 'temperature', 'topK', 'topP', 'minP', 'repetitionPenalty', 'presencePenalty', 'frequencyPenalty', 'seed',
          'topLogprobs', 'scoreToken', 'historyStart', 'historyTokens', 'historyCounts', 'biasStart', 'biasTokens', 'biasValues', 'maskRow',
          'masks', 'logitRows', 'positions', 'count', 'tokens', 'status', 'logprobs', 'scoreLogprobs', 'topTokens', 'topLogprobsOut']


def sample(b, rows, vocab, stride, pdl=False):
    return Launch(K('sample.cu'), (rows,), 1024, 0, [('p', b[n]) for n in SAMPLE] + [('i', vocab), ('i', stride), ('p', None), ('i', 0)], pdl=pdl)


# ---------------------------------------------------------------- time

def graph(run):
    """Captures what run(stream) launches; returns a function that replays it."""
    s = torch.cuda.Stream()
    torch.cuda.synchronize()
    ok(cu.cuStreamBeginCapture_v2(ctypes.c_void_p(s.cuda_stream), 0))
    g, e = ctypes.c_void_p(), ctypes.c_void_p()
    try:
        run(s.cuda_stream)
    finally:
        rc = cu.cuStreamEndCapture(ctypes.c_void_p(s.cuda_stream), ctypes.byref(g))
    ok(rc)
    ok(cu.cuGraphInstantiateWithFlags(ctypes.byref(e), g, ctypes.c_ulonglong(0)))
    torch.cuda.synchronize()

    def replay():
        ok(cu.cuGraphLaunch(e, ctypes.c_void_p(s.cuda_stream)))
    replay.stream = s
    return replay


def time_graph(run, reps=20, warm=3):
    """Median microseconds of one replay."""
    replay = graph(run)
    with torch.cuda.stream(replay.stream):
        for _ in range(warm):
            replay()
        ev = [torch.cuda.Event(enable_timing=True) for _ in range(reps + 1)]
        ev[0].record()
        for i in range(reps):
            replay()
            ev[i + 1].record()
        torch.cuda.synchronize()
    t = sorted(ev[i].elapsed_time(ev[i + 1]) * 1000 for i in range(reps))
    return t[len(t) // 2]
