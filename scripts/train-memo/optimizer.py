"""Muon for the stacked matrices, Adam for embeddings and norms.

Muon (Jordan 2024) steps along the orthogonalised momentum; scaled as in Liu et al. 2025 so that one learning rate fits both.
"""
import torch


def orthogonalise(g: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Newton-Schulz iteration on a stack of matrices [n, rows, columns]."""
    x = g.bfloat16()
    tall = x.size(-2) > x.size(-1)
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
    return (x.mT if tall else x).float()


class Muon:
    def __init__(self, params, momentum: float = 0.95, decay: float = 0.05):
        self.params, self.momentum, self.decay = list(params), momentum, decay
        self.moments = [torch.zeros_like(p) for p in self.params]

    @torch.no_grad()
    def step(self, lr: float):
        for p, m in zip(self.params, self.moments):
            m.lerp_(p.grad, 1 - self.momentum)
            update = orthogonalise(p.grad.lerp(m, self.momentum))
            p.mul_(1 - lr * self.decay)
            p.add_(update, alpha=-lr * 0.2 * max(p.size(-2), p.size(-1)) ** 0.5)
