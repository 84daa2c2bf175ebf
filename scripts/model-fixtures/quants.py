"""
Blocks of random bytes of GGUF's quantised types and the values that the numpy dequantisers of the `gguf` package make of
them, by hash: test/fixtures/quants.json. Run: python3 quants.py OUT.json (pip install gguf).
"""

import base64
import hashlib
import json
import sys

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T
from gguf.quants import dequantize

TYPES = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "MXFP4"]
# where f16 numbers lie in a block: random bits would be NaN or infinite
HALVES = {"Q2_K": [80, 82], "Q3_K": [108], "Q6_K": [208], "Q4_1": [0, 2], "Q5_1": [0, 2], "Q4_K": [0, 2], "Q5_K": [0, 2]}

out = {}
for number, name in enumerate(TYPES):
    values, size = GGML_QUANT_SIZES[T[name]]
    random = np.random.default_rng(number)
    count = 1024 // values
    blocks = random.integers(0, 256, (count, size), dtype=np.uint8)
    if name == "MXFP4":
        blocks[:, 0] = random.integers(100, 150, count)
        blocks[0, 0], blocks[1, 0] = 0, 1
    else:
        for at in HALVES.get(name, [0]):
            scale = (random.standard_normal(count) * 0.01).astype(np.float16)
            blocks[:, at : at + 2] = scale.view(np.uint8).reshape(count, 2)
    values = dequantize(blocks, T[name]).astype(np.float32).reshape(-1) + np.float32(0)  # no negative zeros
    out[name] = {
        "blocks": base64.b64encode(blocks.tobytes()).decode(),
        "first": [float(x) for x in values[:4]],
        "sha256": hashlib.sha256(values.tobytes()).hexdigest(),
    }
with open(sys.argv[1], "w") as f:
    json.dump(out, f, indent=1)
    f.write("\n")
