"""The memory-bound operators around WKV7, fused in Triton."""
