"""GGUF v3, as much of it as memo needs: Q8_0 and F32 tensors; writing, and reading back to full precision.

Layouts: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""
import struct

import numpy as np

ALIGN = 32
F32, Q8_0 = 0, 8
U32, FLOAT, BOOL, STRING, ARRAY, U64, I32 = 4, 6, 7, 8, 9, 10, 5
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", U32: "<I", I32: "<i", FLOAT: "<f", BOOL: "<?", U64: "<Q", 11: "<q", 12: "<d"}
NAMES = dict(attn_norm="attn_norm", wq="attn_q", wk="attn_k", wv="attn_v", wo="attn_output", ffn_norm="ffn_norm",
             gate="ffn_gate", up="ffn_up", down="ffn_down")


def quantise(x: np.ndarray) -> bytes:
    """Q8_0: blocks of 32 along the input: an f16 scale and 32 int8."""
    blocks = np.ascontiguousarray(x, np.float32).reshape(-1, 32)
    scale = np.abs(blocks).max(1, keepdims=True) / 127
    q = np.rint(np.divide(blocks, scale, out=np.zeros_like(blocks), where=scale > 0)).astype(np.int8)
    return np.concatenate([scale.astype("<f2").view(np.uint8), q.view(np.uint8)], 1).tobytes()


def dequantise(data: bytes, shape) -> np.ndarray:
    raw = np.frombuffer(data, np.uint8).reshape(-1, 34)
    scale = raw[:, :2].copy().view("<f2").astype(np.float32)
    return (raw[:, 2:].copy().view(np.int8).astype(np.float32) * scale).reshape(shape)


def text(s: str) -> bytes:
    raw = s.encode()
    return struct.pack("<Q", len(raw)) + raw


def value(kind: int, v) -> bytes:
    return text(v) if kind == STRING else struct.pack(SCALARS[kind], v)


def entry(key: str, kind: int, v, of: int | None = None) -> bytes:
    """A metadata entry; an array names the type of its elements in `of`."""
    head = text(key) + struct.pack("<I", kind)
    if kind != ARRAY:
        return head + value(kind, v)
    return head + struct.pack("<IQ", of, len(v)) + b"".join(value(of, x) for x in v)


def write(path, metadata: list, tensors: dict):
    """metadata: arguments of `entry`; tensors: name → f32 array; matrices become Q8_0, vectors stay F32."""
    infos, blobs, offset = [], [], 0
    for name, x in tensors.items():
        kind = Q8_0 if x.ndim == 2 else F32
        blob = quantise(x) if kind == Q8_0 else np.ascontiguousarray(x, "<f4").tobytes()
        shape = x.shape[::-1]
        infos.append(text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset))
        blob += bytes(-len(blob) % ALIGN)
        blobs.append(blob)
        offset += len(blob)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata)) + b"".join(entry(*m) for m in metadata) + b"".join(infos)
    with open(path, "wb") as f:
        f.write(head + bytes(-len(head) % ALIGN))
        f.writelines(blobs)


class Reader:
    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def take(self, form: str):
        v = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return v[0] if len(v) == 1 else v

    def string(self) -> str:
        n = self.take("<Q")
        self.at += n
        return self.data[self.at - n:self.at].decode()

    def value(self, kind: int):
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            of, n = self.take("<I"), self.take("<Q")
            return [self.value(of) for _ in range(n)]
        return self.take(SCALARS[kind])


def read(path) -> tuple[dict, dict]:
    """(metadata, tensors in f32)"""
    r = Reader(open(path, "rb").read())
    magic, _, n_tensors, n_metadata = r.take("<4sIQQ")
    assert magic == b"GGUF", "not a GGUF file"
    metadata = {}
    for _ in range(n_metadata):
        key = r.string()
        metadata[key] = r.value(r.take("<I"))
    infos = []
    for _ in range(n_tensors):
        name = r.string()
        shape = tuple(r.take("<Q") for _ in range(r.take("<I")))[::-1]
        infos.append((name, shape, r.take("<I"), r.take("<Q")))
    base = r.at + -r.at % ALIGN
    tensors = {}
    for name, shape, kind, offset in infos:
        n = int(np.prod(shape))
        size = n // 32 * 34 if kind == Q8_0 else 4 * n
        blob = r.data[base + offset:base + offset + size]
        tensors[name] = dequantise(blob, shape) if kind == Q8_0 else np.frombuffer(blob, "<f4").reshape(shape).copy()
    return metadata, tensors


def to_tensors(weights: dict) -> dict:
    """memo's stacked weights → GGUF's tensors."""
    out = {"token_embd.weight": weights["embed"]}
    for layer in range(len(weights["wq"])):
        for ours, theirs in NAMES.items():
            out[f"blk.{layer}.{theirs}.weight"] = weights[ours][layer]
    out["output_norm.weight"] = weights["out_norm"]
    return out


def read_memo(path):
    """(arguments of model.Config, torch weights) of a file made by export.py."""
    import torch
    m, t = read(path)
    config = dict(vocab=m["llama.vocab_size"], dim=m["llama.embedding_length"], layers=m["llama.block_count"],
                  heads=m["llama.attention.head_count"], kv_heads=m["llama.attention.head_count_kv"],
                  head_dim=m["llama.rope.dimension_count"], ff=m["llama.feed_forward_length"], theta=m["llama.rope.freq_base"],
                  eps=m["llama.attention.layer_norm_rms_epsilon"], context=m["llama.context_length"])
    weights = {ours: torch.from_numpy(np.stack([t[f"blk.{i}.{theirs}.weight"] for i in range(config["layers"])]))
               for ours, theirs in NAMES.items()}
    weights["embed"], weights["out_norm"] = torch.from_numpy(t["token_embd.weight"]), torch.from_numpy(t["output_norm.weight"])
    return config, weights
