"""Tensor operators: the WKV7 recurrence and the token shift. The only importer of fseed_kernels."""
