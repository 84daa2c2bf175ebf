"""The byte-level BPE of memo: training, and a fast encoder for generated text.

Text is cut as llama.cpp cuts it for the pre-tokenizer 'smollm': every digit stands alone, then GPT-2's pattern.
"""
import argparse
import random
from pathlib import Path

import regex
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import gguf

VOCAB = 2048
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
ENDOFTEXT, IM_START, IM_END = range(3)
PRE = "smollm"
PIECES = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| (?=\p{N})|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")

CHAT_TEMPLATE = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
                 "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")


def split(tok: Tokenizer) -> Tokenizer:
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                 pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tok.decoder = decoders.ByteLevel()
    return tok


def from_gguf(path) -> Tokenizer:
    metadata, _ = gguf.read(path)
    tokens, merges = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.merges"]
    tok = split(Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, [tuple(m.split(" ")) for m in merges])))
    tok.add_special_tokens(SPECIAL)
    return tok


def train(texts, path: Path) -> Tokenizer:
    tok = split(Tokenizer(models.BPE()))
    trainer = trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=SPECIAL, show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tok.train_from_iterator(texts, trainer)
    path.parent.mkdir(parents=True, exist_ok=True)
    tok.save(str(path))
    return tok


class Encoder:
    """Encodes plain text (never special tokens) piece by piece, remembering the pieces. From tokenizer.json or a GGUF file."""

    def __init__(self, path):
        self.tok = from_gguf(path) if str(path).endswith(".gguf") else Tokenizer.from_file(str(path))
        self.cache: dict[str, list[int]] = {}

    def __call__(self, text: str) -> list[int]:
        out: list[int] = []
        cache = self.cache
        for piece in PIECES.findall(text):
            ids = cache.get(piece)
            if ids is None:
                ids = self.tok.encode(piece, add_special_tokens=False).ids
                if len(cache) < 400_000:
                    cache[piece] = ids
            out += ids
        return out

    def decode(self, ids) -> str:
        return self.tok.decode([int(i) for i in ids], skip_special_tokens=True)


def main():
    from data import Conversation  # here: data.py needs this module
    parser = argparse.ArgumentParser(description="Trains the tokenizer on generated conversations.")
    parser.add_argument("--out", type=Path, default=Path("build/tokenizer.json"))
    parser.add_argument("--conversations", type=int, default=3000)
    args = parser.parse_args()

    def texts():
        for i in range(args.conversations):
            for turn in Conversation(random.Random(f"tokenizer/{i}"), held_out=False).play(60):
                yield "user\n" + turn.user
                yield "assistant\n" + turn.answer
    tok = train(texts(), args.out)
    sample = "Hello, my sister's name is Velka and the code is 7391.\nWhat's up? Zoë  it's 12:45"
    whole = tok.encode(sample, add_special_tokens=False).ids
    assert Encoder(args.out)(sample) == whole, "the fast encoder must agree with the tokenizer"
    print("vocabulary", tok.get_vocab_size(), "sample tokens", len(whole), "characters", len(sample))


if __name__ == "__main__":
    main()
