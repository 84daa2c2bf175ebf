"""Recall on held-out conversations: teacher-forced over whole batches, or played turn by turn with memo's own answers.

    python evaluate.py --model ../../models/memo/memo.gguf [--play] [--blind]
"""
import argparse
import json
import random
from pathlib import Path

from data import TARGETS, Conversation
from tokenizer import IM_END, Encoder
from turns import W_VALUE

EXAM_TOKENS = 3800


def exam(encode, count: int, seed: int) -> list[Conversation]:
    """Held-out conversations: values that training never saw, questions at the target distances."""
    out = []
    for i in range(count):
        c = Conversation(random.Random(f"exam/{seed}/{i}"), held_out=True, encode=encode, profile="exam")
        c.play(length=EXAM_TOKENS)
        out.append(c)
    return out


def bucket(distance: int) -> int:
    return next((t for t in TARGETS if distance <= t), 4000)


def table(results) -> dict:
    """results: (distance, right, chance) → {bucket: [recall, questions, chance]}"""
    rows: dict[int, list] = {}
    for distance, right, chance in results:
        row = rows.setdefault(bucket(distance), [0, 0, 0.0])
        row[0] += right
        row[1] += 1
        row[2] += chance
    return {b: [round(r / n, 4), n, round(c / n, 4)] for b, (r, n, c) in sorted(rows.items())}


def recall_table(model, conversations, device: str) -> dict:
    """Teacher-forced: is every token of the value the most likely one?"""
    import torch
    length = 4096
    results = []
    with torch.no_grad():
        for at in range(0, len(conversations), 16):
            group = conversations[at:at + 16]
            tokens = torch.zeros(16, length, dtype=torch.long)
            for row, c in enumerate(group):
                ids = c.tokens[:length]
                tokens[row, :len(ids)] = torch.tensor(ids)
            best = torch.stack([model.logits(h).argmax(-1) for h in
                                model.hidden(tokens.to(device)).view(16, length, -1)]).cpu().tolist()
            for row, c in enumerate(group):
                for turn in c.turns:
                    if turn.expect is None or turn.span[1] > length:
                        continue
                    spots = [i for i in range(*turn.span) if c.weights[i] >= W_VALUE]
                    right = all(best[row][i - 1] == c.tokens[i] for i in spots)
                    results.append((turn.distance, right, 1 / max(1, turn.choices)))
    return table(results)


class Player:
    """Greedy chat with a key-value cache, one conversation."""

    def __init__(self, model, encode):
        self.model, self.encode = model, encode
        self.reset()

    def reset(self):
        self.cache, self.at, self.carry = [None] * self.model.c.layers, 0, []

    def feed(self, ids) -> int:
        import torch
        x = self.model.hidden(torch.tensor([ids]), self.at, self.cache)
        self.at += len(ids)
        return int(self.model.logits(x[-1:]).argmax())

    def say(self, text: str, most: int = 80) -> str:
        ids = self.carry + [1] + self.encode("user\n" + text) + [IM_END] + self.encode("\n") + [1] + self.encode("assistant\n")
        answer, token = [], self.feed(ids)
        while token != IM_END and len(answer) < most:
            answer.append(token)
            token = self.feed([token])
        self.carry = [IM_END] + self.encode("\n")
        return self.encode.decode(answer)


def contains(answer: str, value: str) -> bool:
    """The rule of `longmind bench recall`: the value as whole words, whatever the case."""
    import regex
    return regex.search(r"(?<![\p{L}\p{N}])" + regex.escape(value) + r"(?![\p{L}\p{N}])", answer, regex.I) is not None


def play(model, encode, conversations, blind: bool = False) -> tuple[list, list]:
    """Every turn answered by memo itself. Blind: each question alone, without the conversation: what guessing gives."""
    import torch
    results, wrong = [], []
    with torch.no_grad():
        for c in conversations:
            player = Player(model, encode)
            for turn in c.turns:
                if blind:
                    if turn.expect is None:
                        continue
                    player.reset()
                answer = player.say(turn.user)
                if turn.expect is not None:
                    right = contains(answer, turn.expect)
                    results.append((turn.distance, right, 1 / max(1, turn.choices)))
                    if not right:
                        wrong.append(dict(user=turn.user, answer=answer, expect=turn.expect, distance=turn.distance))
    return results, wrong


def load(path, dtype=None):
    """A checkpoint or a GGUF file (its Q8_0 weights dequantised)."""
    import torch
    from model import Config, Memo
    if str(path).endswith(".gguf"):
        from gguf import read_memo
        config, weights = read_memo(path)
    else:
        saved = torch.load(path, map_location="cpu")
        config, weights = saved["config"], saved["weights"]
    model = Memo(Config(**config), dtype or torch.float32)
    model.load_state_dict(weights)
    return model.eval()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--model", type=Path, required=True, help="model.pt or memo.gguf")
    p.add_argument("--tokenizer", type=Path, help="tokenizer.json; a GGUF file holds its own")
    p.add_argument("--count", type=int, default=60)
    p.add_argument("--seed", type=int, default=2)
    p.add_argument("--play", action="store_true")
    p.add_argument("--blind", action="store_true")
    args = p.parse_args()
    encode = Encoder(args.tokenizer or args.model)
    model, conversations = load(args.model), exam(encode, args.count, args.seed)
    if not args.play and not args.blind:
        print(json.dumps(recall_table(model, conversations, "cpu")))
        return
    results, wrong = play(model, encode, conversations, args.blind)
    for line in [] if args.blind else wrong:
        print(json.dumps(line, ensure_ascii=False))
    print(json.dumps(table(results)))


if __name__ == "__main__":
    main()
