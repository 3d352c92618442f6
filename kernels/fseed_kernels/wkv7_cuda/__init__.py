"""WKV7 in CUDA C++, compiled at first use: the fast path for head size 64 in bf16."""
