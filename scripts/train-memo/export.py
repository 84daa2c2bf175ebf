"""Writes memo.gguf from a checkpoint and its tokenizer.

    python export.py --model build/model.pt --tokenizer build/tokenizer.json --out ../../models/memo/memo.gguf
"""
import argparse
import json
from pathlib import Path

import torch

import gguf
from gguf import ARRAY, BOOL, FLOAT, I32, STRING, U32
from tokenizer import CHAT_TEMPLATE, ENDOFTEXT, IM_END, PRE, SPECIAL

NORMAL, CONTROL = 1, 3


def tokenizer_entries(path) -> list:
    spec = json.loads(Path(path).read_text())["model"]
    tokens = sorted(spec["vocab"], key=spec["vocab"].get)
    merges = [m if isinstance(m, str) else " ".join(m) for m in spec["merges"]]
    return [("tokenizer.ggml.model", STRING, "gpt2"), ("tokenizer.ggml.pre", STRING, PRE),
            ("tokenizer.ggml.tokens", ARRAY, tokens, STRING),
            ("tokenizer.ggml.token_type", ARRAY, [CONTROL if t in SPECIAL else NORMAL for t in tokens], I32),
            ("tokenizer.ggml.merges", ARRAY, merges, STRING),
            ("tokenizer.ggml.bos_token_id", U32, ENDOFTEXT), ("tokenizer.ggml.eos_token_id", U32, IM_END),
            ("tokenizer.ggml.padding_token_id", U32, ENDOFTEXT), ("tokenizer.ggml.add_bos_token", BOOL, False),
            ("tokenizer.ggml.add_space_prefix", BOOL, False), ("tokenizer.chat_template", STRING, CHAT_TEMPLATE)]


def model_entries(c: dict) -> list:
    return [("general.architecture", STRING, "llama"), ("general.name", STRING, "memo"),
            ("general.license", STRING, "apache-2.0"),
            ("general.description", STRING, "A very small chat model that remembers: for demonstrations and tests."),
            ("general.file_type", U32, 7), ("general.quantization_version", U32, 2),
            ("llama.block_count", U32, c["layers"]), ("llama.context_length", U32, c["context"]),
            ("llama.embedding_length", U32, c["dim"]), ("llama.feed_forward_length", U32, c["ff"]),
            ("llama.attention.head_count", U32, c["heads"]), ("llama.attention.head_count_kv", U32, c["kv_heads"]),
            ("llama.attention.layer_norm_rms_epsilon", FLOAT, c["eps"]), ("llama.rope.freq_base", FLOAT, c["theta"]),
            ("llama.rope.dimension_count", U32, c["head_dim"]), ("llama.vocab_size", U32, c["vocab"])]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--model", type=Path, default=Path("build/model.pt"))
    p.add_argument("--tokenizer", type=Path, default=Path("build/tokenizer.json"))
    p.add_argument("--out", type=Path, default=Path("build/memo.gguf"))
    args = p.parse_args()
    saved = torch.load(args.model, map_location="cpu")
    weights = {name: w.float().numpy() for name, w in saved["weights"].items()}
    gguf.write(args.out, model_entries(saved["config"]) + tokenizer_entries(args.tokenizer), gguf.to_tensors(weights))
    _, back = gguf.read_memo(args.out)
    worst = max(float((back[n] - saved["weights"][n].float()).abs().max()) for n in back)
    print(args.out, args.out.stat().st_size, "bytes; largest rounding of a weight", worst)


if __name__ == "__main__":
    main()
