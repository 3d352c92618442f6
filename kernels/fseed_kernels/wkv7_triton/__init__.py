"""WKV7 in Triton: complete in itself, every head size, both precisions."""
