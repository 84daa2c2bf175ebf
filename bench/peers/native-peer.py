"""llama.cpp itself, built for this machine: python native-peer.py MODEL WORK-AS-JSON THREADS. The works are those of works.mjs.

    CMAKE_ARGS="-DGGML_NATIVE=ON" pip install --no-binary llama-cpp-python llama-cpp-python==0.3.36   (10 minutes and more)

Only the C interface is used, with greedy sampling in C, so that Python's own share is a few microseconds a step.
"""
import ctypes
import json
import sys
import time

import llama_cpp as c

started = time.perf_counter()
model_path, work, threads = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
sequences, batch_size = work["sequences"], 512


@c.llama_log_callback
def quiet(_level, _text, _data):
    pass


c.llama_log_set(quiet, ctypes.c_void_p(0))
c.llama_backend_init()
model_params = c.llama_model_default_params()
model_params.n_gpu_layers = 0
model = c.llama_model_load_from_file(model_path.encode(), model_params)
params = c.llama_context_default_params()
params.n_ctx = work["context"] * sequences
params.n_batch = params.n_ubatch = batch_size
params.n_seq_max = sequences
params.n_threads = params.n_threads_batch = threads
params.flash_attn_type = c.LLAMA_FLASH_ATTN_TYPE_ENABLED
context = c.llama_init_from_model(model, params)
if not context:
    sys.exit("the context could not be made")
memory = c.llama_get_memory(context)
sampler = c.llama_sampler_init_greedy()
batch = c.llama_batch_init(batch_size, 0, 1)
known = [0] * sequences


def prompt_ids(count, rep, sequence):
    return [300 + ((i * 7919 + rep * 131 + sequence * 1543) % 40000) for i in range(count)]


def decode(rows):
    """One call for rows of (sequence, token, wants logits)."""
    for i, (sequence, token, wanted) in enumerate(rows):
        batch.token[i] = token
        batch.pos[i] = known[sequence]
        batch.n_seq_id[i] = 1
        batch.seq_id[i][0] = sequence
        batch.logits[i] = wanted
        known[sequence] += 1
    batch.n_tokens = len(rows)
    if c.llama_decode(context, batch):
        sys.exit("llama_decode failed")


def prompt(sequence, ids):
    for at in range(0, len(ids), batch_size):
        piece = ids[at : at + batch_size]
        decode([(sequence, t, at + i == len(ids) - 1) for i, t in enumerate(piece)])
    c.llama_synchronize(context)


def rewind(sequence, length):
    c.llama_memory_seq_rm(memory, sequence, length, -1)
    known[sequence] = length


def prefill(rep):
    rewind(0, work["before"])
    t = time.perf_counter()
    prompt(0, prompt_ids(work["prompt"], rep, 77))
    return work["prompt"] / (time.perf_counter() - t)


def generate(_rep):
    for s in range(sequences):
        rewind(s, work["prompt"])
    t = time.perf_counter()
    tokens = [500] * sequences
    for _ in range(work["tokens"]):
        decode([(s, tokens[s], True) for s in range(sequences)])
        tokens = [c.llama_sampler_sample(sampler, context, s) for s in range(sequences)]
    return sequences * work["tokens"] / (time.perf_counter() - t)


def say(message):
    print(json.dumps(message), flush=True)


def serve(measure):
    say({"ready": True})
    for rep, line in enumerate(sys.stdin, 1):
        if line.strip() == "go":
            say({"value": measure(rep)})


if work["kind"] == "load":
    prompt(0, prompt_ids(work["prompt"], 0, 0))
    c.llama_sampler_sample(sampler, context, -1)
    value = (time.perf_counter() - started) * 1e3
    serve(lambda _rep: value)
else:
    for s in range(sequences):
        ids = prompt_ids(work["before"] if work["kind"] == "prefill" else work["prompt"], 0, s)
        if ids:
            prompt(s, ids)
    measured = prefill if work["kind"] == "prefill" else generate
    if not work["before"]:
        measured(0)
    serve(measured)
