"""A few kernels for Nsight Compute: ncu --section SpeedOfLight … python3 profile.py"""
from chain import *

m = 8192
for name in ('gateup', 'o'):
    n, k, epi = GEMMS[name]
    x, w = rand16(m // 64, k // 64, 4096, spread=1), rand16(n // 64, k // 64, 4096)
    out = torch.zeros(m * n, device=dev)
    gemm('wgmma', epi, ACT, w, x, out, m, n, k // 64, FF // 64 if epi == 'silu' else n, grid=SMS, wgs=2, bn=256, kt=1, stages=4)()
x, w = rand16(4, D // 64, 4096, spread=1), rand16(D // 64, D // 64, 4096)
gemm('wgmma', 'residual', ACT, w, x, torch.zeros(256, D, device=dev), 256, D, D // 64, D, bn=64, kt=1, stages=6)()
s = State(8192, 1, 8192, layers=1, logits=1)
t = s.tasks_of(32)
attend(s, s.kv.data_ptr(), t, len(t), False, kind='wgmma', wgs=2, stages=3)()
for bits in (16, 8):
    s = State(64, 64, 1024, layers=1, bits=bits)
    attend(s, s.kv.data_ptr(), s.tasks_of(1), 64, False, kind='decode', stages=2)()
s = State(1, 1, 1024, layers=1)
attend(s, s.kv.data_ptr(), s.tasks_of(1), 1, False, kind='decode', stages=2)()
torch.cuda.synchronize()
