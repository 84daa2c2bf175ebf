"""Trains memo on generated conversations. One GPU, a fixed number of steps, seeds fixed.

    python train.py --out build            writes build/tokenizer.json, build/model.pt, build/train.json
"""
import argparse
import json
import multiprocessing as mp
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
BATCH = 65536                      # tokens a step, whatever the length
STAGES = [(0.06, 512), (0.13, 1024), (0.25, 2048), (1.00, 4096)]      # until this share of the steps: this length


def length_at(step: int, steps: int, longest: int) -> int:
    return min(longest, next(length for share, length in STAGES if step < share * steps or share == 1.0))


def make_batch(seed: int, step: int, length: int, batch: int, encode):
    from data import Conversation
    rows = batch // length
    tokens = np.empty((rows, length + 1), np.uint16)
    weights = np.empty((rows, length + 1), np.uint8)
    for row in range(rows):
        c = Conversation(random.Random(f"{seed}/{step}/{row}"), held_out=False, encode=encode)
        c.play(length=length + 1)
        tokens[row], weights[row] = c.tokens[:length + 1], c.weights[:length + 1]
    return tokens, weights


def produce(args, worker: int, queue):
    from tokenizer import Encoder
    encode = Encoder(args.out / "tokenizer.json")
    for step in range(worker, args.steps, args.workers):
        queue.put(make_batch(args.seed, step, length_at(step, args.steps, args.longest), args.batch, encode))


def start_producers(args):
    queues = [mp.Queue(maxsize=6) for _ in range(args.workers)]
    for i, queue in enumerate(queues):
        mp.Process(target=produce, args=(args, i, queue), daemon=True).start()
    return queues


def learning_rate(step: int, steps: int) -> float:
    """Warm-up, constant, then down in a straight line over the last 60%."""
    return min(1.0, (step + 1) / 150, max(0.02, (steps - step) / (0.6 * steps)))


def run(args, queues, tokenizer_path):
    import torch
    from evaluate import exam, recall_table
    from model import Config, Memo
    from optimizer import Muon
    from tokenizer import Encoder
    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("high")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = Config(dim=args.dim, layers=args.layers, heads=args.dim // 64, ff=args.ff, theta=args.theta)
    model = Memo(config, torch.bfloat16 if device == "cuda" else torch.float32, compiled=device == "cuda").to(device)
    matrices = [p for p in model.parameters() if p.ndim == 3]
    rest = [p for p in model.parameters() if p.ndim != 3 and p.shape[-1] == config.dim]
    rest = [p for p in rest if all(p is not m for m in matrices)]
    muon, adam = Muon(matrices), torch.optim.AdamW(rest, lr=1, betas=(0.9, 0.98), weight_decay=0.0, fused=device == "cuda")
    print("parameters", sum(p.numel() for p in model.parameters()), "device", device, config, flush=True)
    held_out = exam(Encoder(tokenizer_path), args.exam, seed=args.seed + 1)
    log, started, waited = [], time.time(), 0.0
    total = torch.zeros((), device=device)
    for step in range(args.steps):
        t = time.time()
        tokens, weights = queues[step % args.workers].get()
        waited += time.time() - t
        tokens = torch.from_numpy(tokens.astype(np.int64)).to(device, non_blocking=True)
        weights = torch.from_numpy(weights).to(device, non_blocking=True).float()
        loss = model.loss(tokens[:, :-1], tokens[:, 1:], weights[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scale = learning_rate(step, args.steps)
        muon.step(args.lr * scale)
        adam.param_groups[0]["lr"] = args.lr * 0.75 * scale
        adam.step()
        model.zero_grad(set_to_none=True)
        total += loss.detach()
        if (step + 1) % args.report == 0 or step + 1 == args.steps:
            row = dict(step=step + 1, seconds=round(time.time() - started, 1), waited=round(waited, 1), length=tokens.shape[1] - 1,
                       loss=round(total.item() / (step % args.report + 1), 4))
            if (step + 1) % (args.report * 4) == 0 or step + 1 == args.steps:
                row["recall"] = recall_table(model, held_out, device)
            total.zero_()
            log.append(row)
            print(json.dumps(row), flush=True)
        if args.limit and time.time() - started > args.limit:
            print("time limit reached at step", step + 1, flush=True)
            break
    torch.save(dict(config=config.dict(), weights={k: v.cpu() for k, v in model.state_dict().items()}), args.out / "model.pt")
    (args.out / "train.json").write_text(json.dumps(dict(args={k: str(v) for k, v in vars(args).items()}, log=log,
                                                         seconds=time.time() - started), indent=1))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--out", type=Path, default=Path("build"))
    p.add_argument("--steps", type=int, default=15000)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--lr", type=float, default=4e-3)
    p.add_argument("--dim", type=int, default=384)
    p.add_argument("--layers", type=int, default=6)
    p.add_argument("--ff", type=int, default=576)
    p.add_argument("--theta", type=float, default=500_000.0)
    p.add_argument("--batch", type=int, default=BATCH)
    p.add_argument("--longest", type=int, default=4096)
    p.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 2))
    p.add_argument("--report", type=int, default=500)
    p.add_argument("--exam", type=int, default=48, help="held-out conversations for the reports")
    p.add_argument("--limit", type=float, default=0, help="stop after so many seconds (0: run all steps)")
    args = p.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "tokenizer.json"
    if not path.exists():
        subprocess.run([sys.executable, str(Path(__file__).with_name("tokenizer.py")), "--out", str(path)], check=True)
    queues = start_producers(args)
    run(args, queues, path)


if __name__ == "__main__":
    main()
