"""Weights as a function of a tensor's name: the tests make the same ones (test/models/weights.ts), so none are stored.

Values are multiples of 1/128 times a power of two: exact in bf16, f16 and f32.
"""
import math
import numpy as np
import torch


def seed_of(name: str) -> int:
    h = 0x811C9DC5
    for b in name.encode():
        h = ((h ^ b) * 0x01000193) & 0xFFFFFFFF
    return h


def bytes_of(name: str, count: int) -> np.ndarray:
    """One byte for each index: a hash of (name, index)."""
    x = np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B1) + np.uint64(seed_of(name))
    x &= np.uint64(0xFFFFFFFF)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x ^= x >> np.uint64(shift)
        x = (x * np.uint64(factor)) & np.uint64(0xFFFFFFFF)
    x ^= x >> np.uint64(16)
    return (x & np.uint64(0xFF)).astype(np.int64)


def values_of(name: str, shape: list[int], norms_from_one: bool) -> torch.Tensor:
    k = bytes_of(name, math.prod(shape))
    if len(shape) == 1 and name.endswith('.weight'):  # a norm
        v = (k % 128) / 128 + (-0.5 if norms_from_one else 0.5)
    elif len(shape) == 1:  # a bias
        v = (k - 128) / 512
    else:
        spread = 1 / 16 if 'embed' in name else 2.0 ** round(math.log2(2 / math.sqrt(shape[-1])))
        v = (k - 128) / 128 * spread
    return torch.tensor(v, dtype=torch.float32).reshape(shape)
