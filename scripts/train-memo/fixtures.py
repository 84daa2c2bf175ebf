"""Writes the fixtures of the engine's tests: what the model must answer, computed here in f32 from the GGUF's own weights.

    python fixtures.py --model ../../models/memo/memo.gguf --out ../../test/fixtures/memo

conversations.jsonl  (beside the model) held-out conversations for `longmind bench recall`: {"id", "turns": [{"user", "expect"?, "distance"?}]}
logits.json          (--out) held-out conversations as token ids, with the most likely next token at every position
"""
import argparse
import hashlib
import json
from pathlib import Path

import torch

from evaluate import exam, load, recall_table
from tokenizer import Encoder

SEED = 7                      # of the fixtures alone: neither training nor its reports used it
LOGITS = (0, 1, 2)            # conversations of the other fixture, the last one cut short
SHORT = 1024


def conversation_line(index: int, c) -> str:
    turns = []
    for t in c.turns:
        turn = {"user": t.user}
        if t.expect is not None:
            turn |= {"expect": t.expect, "distance": t.distance}
        turns.append(turn)
    return json.dumps({"id": f"memo-{index}", "turns": turns}, ensure_ascii=False, separators=(",", ":")) + "\n"


def logits_of(model, index: int, c) -> dict:
    ids = c.tokens[:SHORT] if index == LOGITS[-1] else c.tokens
    with torch.no_grad():
        logits = model.logits(model.hidden(torch.tensor([ids])))
    best = torch.log_softmax(logits.double(), -1).topk(2, -1)
    return {"id": f"memo-{index}", "tokens": ids, "argmax": best.indices[:, 0].tolist(),
            "logprob": [round(x, 4) for x in best.values[:, 0].tolist()],
            "margin": [round(x, 4) for x in (best.values[:, 0] - best.values[:, 1]).tolist()],
            "answers": [t.span for t in c.turns if t.span[1] <= len(ids)]}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--model", type=Path, default=Path("../../models/memo/memo.gguf"))
    p.add_argument("--tokenizer", type=Path, help="tokenizer.json; a GGUF file holds its own")
    p.add_argument("--out", type=Path, default=Path("../../test/fixtures/memo"))
    p.add_argument("--count", type=int, default=60)
    args = p.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    model, conversations = load(args.model), exam(Encoder(args.tokenizer or args.model), args.count, SEED)
    with open(args.model.parent / "conversations.jsonl", "w") as f:
        f.writelines(conversation_line(i, c) for i, c in enumerate(conversations))
    fixture = {"model": hashlib.sha256(args.model.read_bytes()).hexdigest(),
               "about": "argmax[i], its log-probability and its margin over the second: the next token after tokens[0..i], "
                        "f32 on the dequantised Q8_0 weights; answers: [first token, position of <|im_end|> + 1) of each answer",
               "conversations": [logits_of(model, i, conversations[i]) for i in LOGITS]}
    (args.out / "logits.json").write_text(json.dumps(fixture, separators=(",", ":")) + "\n")
    positions = sum(len(c["tokens"]) for c in fixture["conversations"])
    print("positions", positions, "recall", json.dumps(recall_table(model, conversations, "cpu")))


if __name__ == "__main__":
    main()
