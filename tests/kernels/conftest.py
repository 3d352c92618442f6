"""Kernels run on the GPU where there is one, in Triton's interpreter (float32) elsewhere."""

import os

import torch

if not torch.cuda.is_available():
    # read by triton when a kernel is defined, so before any kernel is imported
    os.environ["TRITON_INTERPRET"] = "1"
