"""Triton kernels of fseed; their place is kept, the kernels come with the kernel issue."""
