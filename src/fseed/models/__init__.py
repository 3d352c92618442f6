"""RWKV-7, Future-Seed, checkpoints, tokenizers and generation."""
