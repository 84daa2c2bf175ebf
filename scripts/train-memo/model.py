"""The model: a small LLaMA (RMSNorm, interleaved RoPE, grouped-query attention, SwiGLU, tied output).

Weights of all layers are stacked: `wq` is [layers, out, in]. In training the tokens of all rows are flat ([rows * length,
dim]), so that the two compiled halves of a layer never change shape when the length does.
"""
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as T
from torch import nn


@dataclass
class Config:
    vocab: int = 2048
    dim: int = 384
    layers: int = 6
    heads: int = 6
    kv_heads: int = 2
    head_dim: int = 64
    ff: int = 576
    theta: float = 500_000.0
    eps: float = 1e-5
    context: int = 4096

    def dict(self):
        return asdict(self)


def rms_norm(x, weight, eps: float):
    x = x.float()
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def rotate(x, cos, sin):
    """Interleaved RoPE: pairs (2i, 2i + 1). x [n, heads, head_dim], cos and sin [n, head_dim / 2]."""
    a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = cos[:, None], sin[:, None]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


def before_attention(x, norm, wq, wk, wv, cos, sin, eps: float, head_dim: int, dtype: torch.dtype):
    h = rms_norm(x, norm, eps).to(dtype)
    q, k, v = (T.linear(h, w.to(dtype)).unflatten(-1, (-1, head_dim)) for w in (wq, wk, wv))
    return rotate(q, cos, sin).to(dtype), rotate(k, cos, sin).to(dtype), v


def after_attention(x, mixed, wo, norm, gate, up, down, eps: float, dtype: torch.dtype):
    x = x + T.linear(mixed, wo.to(dtype)).float()
    h = rms_norm(x, norm, eps).to(dtype)
    return x + T.linear(T.silu(T.linear(h, gate.to(dtype))) * T.linear(h, up.to(dtype)), down.to(dtype)).float()


def weighted_loss(x, norm, embed, targets, weights, eps: float, dtype: torch.dtype):
    logits = T.linear(rms_norm(x, norm, eps).to(dtype), embed.to(dtype)).float()
    loss = T.cross_entropy(logits, targets, reduction="none")
    return (loss * weights).sum() / weights.sum()


class Memo(nn.Module):
    LAYER = ("attn_norm", "wq", "wk", "wv", "wo", "ffn_norm", "gate", "up", "down")

    def __init__(self, c: Config, dtype=torch.float32, compiled=False):
        super().__init__()
        self.c, self.dtype = c, dtype
        shapes = dict(attn_norm=(c.dim,), wq=(c.heads * c.head_dim, c.dim), wk=(c.kv_heads * c.head_dim, c.dim),
                      wv=(c.kv_heads * c.head_dim, c.dim), wo=(c.dim, c.heads * c.head_dim), ffn_norm=(c.dim,),
                      gate=(c.ff, c.dim), up=(c.ff, c.dim), down=(c.dim, c.ff))
        for name, shape in shapes.items():
            if len(shape) == 1:
                w = torch.ones(c.layers, *shape)
            else:
                std = shape[1] ** -0.5 * (0.5 if name in ("wo", "down") else 1) * 0.7
                w = torch.randn(c.layers, *shape) * std
            setattr(self, name, nn.Parameter(w))
        self.embed = nn.Parameter(torch.randn(c.vocab, c.dim) * 0.05)
        self.out_norm = nn.Parameter(torch.ones(c.dim))
        wrap = torch.compile if compiled else (lambda f: f)
        self.before, self.after, self.loss_of = wrap(before_attention), wrap(after_attention), wrap(weighted_loss)

    def angles(self, positions):
        c = self.c
        freq = c.theta ** (-torch.arange(0, c.head_dim, 2, device=positions.device, dtype=torch.float64) / c.head_dim)
        angle = positions[:, None].double() * freq
        return angle.cos().float(), angle.sin().float()

    def hidden(self, tokens, start: int = 0, cache: list | None = None):
        """tokens [rows, length] → [rows * length, dim]. With a cache (one row): keys and values so far, one pair a layer."""
        c, (rows, length) = self.c, tokens.shape
        x = self.embed[tokens.reshape(-1)].float()
        cos, sin = self.angles(torch.arange(start, start + length, device=tokens.device).repeat(rows))
        layers = zip(*(getattr(self, name).unbind(0) for name in self.LAYER))
        for i, (n1, wq, wk, wv, wo, n2, gate, up, down) in enumerate(layers):
            q, k, v = self.before(x, n1, wq, wk, wv, cos, sin, c.eps, c.head_dim, self.dtype)
            q, k, v = (t.view(rows, length, -1, c.head_dim).transpose(1, 2) for t in (q, k, v))
            mask = None
            if cache is not None:
                if cache[i] is not None:
                    k, v = torch.cat((cache[i][0], k), 2), torch.cat((cache[i][1], v), 2)
                cache[i] = (k, v)
                if length > 1 and start > 0:
                    mask = torch.ones(length, start + length, dtype=torch.bool, device=x.device).tril(start)
            causal = mask is None and length > 1
            mixed = T.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=True)
            x = self.after(x, mixed.transpose(1, 2).reshape(rows * length, -1), wo, n2, gate, up, down, c.eps, self.dtype)
        return x

    def logits(self, x):
        return T.linear(rms_norm(x, self.out_norm, self.c.eps).to(self.dtype), self.embed.to(self.dtype)).float()

    def loss(self, tokens, targets, weights):
        return self.loss_of(self.hidden(tokens), self.out_norm, self.embed, targets.reshape(-1), weights.reshape(-1), self.c.eps,
                            self.dtype)
