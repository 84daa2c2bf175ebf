"""A llama GGUF as numpy arrays, and as a transformers model: for comparisons with PyTorch. Needs numpy; torch and transformers for `model`."""
import struct

import numpy as np

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
# GGML type: values a block, bytes a block
BLOCKS = {0: (1, 4), 1: (1, 2), 30: (1, 2), 2: (32, 18), 3: (32, 20), 8: (32, 34)}


def read(path):
    """(metadata, {name: (GGML type, shape with the rows first, bytes)}, where the metadata ends in the file)"""
    data = np.memmap(path, dtype=np.uint8, mode="r")
    at = 0

    def take(form):
        nonlocal at
        value = struct.unpack_from("<" + form, data, at)[0]
        at += struct.calcsize("<" + form)
        return value

    def text():
        nonlocal at
        n = take("Q")
        at += n
        return bytes(data[at - n : at]).decode("utf-8", "replace")

    def value(kind):
        if kind == 8:
            return text()
        if kind == 9:
            inner, count = take("I"), take("Q")
            return [value(inner) for _ in range(count)]
        return take(SCALARS[kind])

    assert take("I") == 0x46554747 and take("I") in (2, 3), "not a GGUF"
    tensors, pairs = take("Q"), take("Q")
    meta = {}
    for _ in range(pairs):
        key = text()
        meta[key] = value(take("I"))
    end = at
    infos = []
    for _ in range(tensors):
        name = text()
        shape = [take("Q") for _ in range(take("I"))]
        infos.append((name, shape[::-1], take("I"), take("Q")))
    align = meta.get("general.alignment", 32)
    base = -(-at // align) * align
    out = {}
    for name, shape, kind, offset in infos:
        values, size = BLOCKS[kind]
        n = int(np.prod(shape)) // values * size
        out[name] = (kind, shape, data[base + offset : base + offset + n])
    return meta, out, end


def to_float(tensor):
    """float32, as the file's format says."""
    kind, shape, raw = tensor
    if kind == 0:
        return raw.view(np.float32).reshape(shape).copy()
    if kind == 1:
        return raw.view(np.float16).astype(np.float32).reshape(shape)
    if kind == 30:
        return (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(shape)
    blocks = raw.reshape(-1, BLOCKS[kind][1])
    scale = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    if kind == 8:
        return (scale * blocks[:, 2:].copy().view(np.int8)).reshape(shape)
    packed = blocks[:, 4 if kind == 3 else 2 :]
    q = np.concatenate([packed & 15, packed >> 4], axis=1).astype(np.float32)
    if kind == 2:
        return (scale * (q - 8)).reshape(shape)
    least = blocks[:, 2:4].copy().view(np.float16).astype(np.float32)
    return (scale * q + least).reshape(shape)


def sizes(meta, tensors):
    g = lambda key: meta["llama." + key]
    heads = g("attention.head_count")
    return dict(
        dim=g("embedding_length"),
        layers=g("block_count"),
        ff=g("feed_forward_length"),
        heads=heads,
        kv_heads=meta.get("llama.attention.head_count_kv", heads),
        theta=float(meta.get("llama.rope.freq_base", 10000.0)),
        eps=g("attention.layer_norm_rms_epsilon"),
        context=g("context_length"),
        vocab=tensors["token_embd.weight"][1][0],
    )


NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def model(path, dtype, device):
    """transformers' LlamaForCausalLM with the file's weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    meta, tensors, _ = read(path)
    s = sizes(meta, tensors)
    config = LlamaConfig(
        vocab_size=s["vocab"],
        hidden_size=s["dim"],
        intermediate_size=s["ff"],
        num_hidden_layers=s["layers"],
        num_attention_heads=s["heads"],
        num_key_value_heads=s["kv_heads"],
        max_position_embeddings=s["context"],
        rms_norm_eps=s["eps"],
        tie_word_embeddings="output.weight" not in tensors,
        rope_theta=s["theta"],
        rope_parameters={"rope_type": "default", "rope_theta": s["theta"]},
    )
    net = LlamaForCausalLM(config)
    state = {}
    for name, tensor in tensors.items():
        w = to_float(tensor)
        part = name.split(".")
        if name == "token_embd.weight":
            state["model.embed_tokens.weight"] = w
        elif name == "output_norm.weight":
            state["model.norm.weight"] = w
        elif name == "output.weight":
            state["lm_head.weight"] = w
        elif part[0] == "blk":
            if part[2] in ("attn_q", "attn_k"):
                # the file has pairs (2i, 2i + 1) beside each other, transformers (i, i + half)
                h = s["heads"] if part[2] == "attn_q" else s["kv_heads"]
                w = w.reshape(h, w.shape[0] // h // 2, 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)
            state[f"model.layers.{part[1]}.{NAMES[part[2]]}.weight"] = w
    missing, unexpected = net.load_state_dict({k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in state.items()}, strict=False)
    assert not unexpected and all(m == "lm_head.weight" for m in missing), (missing, unexpected)
    net.tie_weights()
    head = s["dim"] // s["heads"]
    want = s["theta"] ** (-np.arange(0, head, 2) / head)
    got = net.model.rotary_emb.inv_freq.float().numpy()
    assert np.allclose(got, want, rtol=1e-4), "transformers did not take the base of the rotary embedding"
    return net.to(dtype).to(device).eval(), s
