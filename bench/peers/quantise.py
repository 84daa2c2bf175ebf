"""python quantise.py IN.gguf OUT.gguf [q4_k_m|q5_k_m|q6_k|q8_0|q4_0]: llama.cpp's own quantiser (PyPI's llama-cpp-python)."""
import ctypes
import os
import sys

import llama_cpp as c

FILE_TYPES = {"q4_0": 2, "q8_0": 7, "q4_k_m": 15, "q5_k_m": 17, "q6_k": 18}

if len(sys.argv) < 3:
    sys.exit(__doc__)
source, target = sys.argv[1:3]
kind = sys.argv[3] if len(sys.argv) > 3 else "q4_k_m"
params = c.llama_model_quantize_default_params()
params.ftype = FILE_TYPES[kind]
params.nthread = os.cpu_count()
if c.llama_model_quantize(source.encode(), f"{target}.part".encode(), ctypes.byref(params)):
    sys.exit("the quantiser failed")
os.replace(f"{target}.part", target)
