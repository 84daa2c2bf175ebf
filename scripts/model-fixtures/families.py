"""Tiny models of each family: small dimensions, but real structure."""

BASE = dict(vocab_size=307, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=512, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2,
            pad_token_id=0, attn_implementation='eager')
LLAMA3 = dict(rope_type='llama3', rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=32)
LONG = dict(rope_type='longrope', rope_theta=10000.0, short_factor=[1.0 + 0.1 * i for i in range(8)],
            long_factor=[1.5 + 0.5 * i for i in range(8)])

# name: (class prefix, changes, stored dtype, shards)
FAMILIES = {
    'llama': ('Llama', dict(), 'bfloat16', 1),
    'llama3-scaled': ('Llama', dict(rope_parameters=LLAMA3, tie_word_embeddings=True), 'float16', 2),
    'llama-one-kv-head-biases': ('Llama', dict(num_key_value_heads=4, attention_bias=True, mlp_bias=True, head_dim=32,
                                               intermediate_size=80), 'float32', 1),
    'llama-linear': ('Llama', dict(rope_parameters=dict(rope_type='linear', rope_theta=10000.0, factor=4.0)), 'bfloat16', 1),
    'llama-yarn': ('Llama', dict(rope_parameters=dict(rope_type='yarn', rope_theta=10000.0, factor=4.0,
                                                      original_max_position_embeddings=64)), 'bfloat16', 1),
    'llama-dynamic': ('Llama', dict(rope_parameters=dict(rope_type='dynamic', rope_theta=10000.0, factor=2.0)), 'bfloat16', 1),
    'mistral': ('Mistral', dict(sliding_window=24), 'bfloat16', 2),
    'ministral': ('Ministral', dict(sliding_window=24, head_dim=16, layer_types=['sliding_attention', 'full_attention',
                                                                   'sliding_attention']), 'bfloat16', 1),
    'qwen2': ('Qwen2', dict(tie_word_embeddings=True, vocab_size=311), 'bfloat16', 2),
    'qwen2-windows': ('Qwen2', dict(use_sliding_window=True, sliding_window=16, max_window_layers=1), 'float16', 1),
    'qwen3': ('Qwen3', dict(head_dim=32), 'bfloat16', 2),
    'smollm3': ('SmolLM3', dict(num_hidden_layers=5, tie_word_embeddings=True), 'bfloat16', 1),
    'granite': ('Granite', dict(embedding_multiplier=3.0, logits_scaling=0.25, residual_multiplier=0.5,
                                attention_multiplier=0.0625, tie_word_embeddings=True), 'bfloat16', 1),
    'olmo2': ('Olmo2', dict(), 'float32', 2),
    'olmo3': ('Olmo3', dict(num_hidden_layers=5, sliding_window=20), 'bfloat16', 1),
    'phi3': ('Phi3', dict(sliding_window=40), 'bfloat16', 1),
    'phi3-longrope': ('Phi3', dict(rope_parameters=LONG, original_max_position_embeddings=64), 'bfloat16', 1),
    'phi4-mini': ('Phi3', dict(head_dim=None, num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=True,
                               rope_parameters=dict(rope_type='default', rope_theta=10000.0,
                                                    partial_rotary_factor=0.75)), 'bfloat16', 1),
    'gemma': ('Gemma', dict(head_dim=32), 'bfloat16', 1),
    'gemma2': ('Gemma2', dict(head_dim=32, sliding_window=24, query_pre_attn_scalar=32), 'bfloat16', 2),
    'gemma2-scaled': ('Gemma2', dict(head_dim=32, sliding_window=24, query_pre_attn_scalar=48), 'float16', 1),
    'gemma3': ('Gemma3Text', dict(head_dim=32, num_hidden_layers=7, sliding_window=24, query_pre_attn_scalar=32), 'bfloat16', 1),
    'internlm2': ('InternLM2', dict(num_attention_heads=8, num_key_value_heads=2, head_dim=16), 'bfloat16', 1),
    'internlm3': ('InternLM3', dict(head_dim=32), 'bfloat16', 1),
}
