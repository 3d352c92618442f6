"""Kernels of the RWKV-7 recurrence and its memory-bound neighbours; imported by fseed.ops only."""
