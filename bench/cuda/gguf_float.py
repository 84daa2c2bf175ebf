"""python3 gguf_float.py IN.gguf OUT.gguf f16|bf16: the same model with its matrices as 16-bit floats, rounded to nearest even. Both
devices then multiply by activations that are not rounded to int8, so that what is left between them is theirs. Needs numpy."""
import struct
import sys

import gguf_torch
import numpy as np


def half(x, kind):
    if kind == "f16":
        return x.astype(np.float16).view(np.uint16)
    bits = x.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def main(source, target, kind):
    _, tensors, end = gguf_torch.read(source)
    infos, data, offset = b"", [], 0
    for name, tensor in tensors.items():
        _, shape, raw = tensor
        number, bytes_ = 0, raw.tobytes()
        if len(shape) > 1:
            number, bytes_ = (1 if kind == "f16" else 30), half(gguf_torch.to_float(tensor), kind).tobytes()
        text = name.encode()
        infos += struct.pack("<Q", len(text)) + text + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape[::-1], number, offset)
        bytes_ += bytes(-len(bytes_) % 32)
        data.append(bytes_)
        offset += len(bytes_)
    with open(source, "rb") as f:
        head = f.read(end)
    with open(target, "wb") as f:
        f.write(head + infos + bytes(-(len(head) + len(infos)) % 32))
        f.writelines(data)


main(*sys.argv[1:])
