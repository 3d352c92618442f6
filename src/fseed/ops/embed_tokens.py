"""Vectors of tokens from an embedding table. V vocabulary, C width."""

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from fseed.ops import loss_kernels
from fseed.ops.kernel_dtype import KERNEL_BACKENDS


def embed_tokens(
    tokens: Int[Tensor, "*S"], weight: Float[Tensor, "V C"], *, backend: str
) -> Float[Tensor, "*S C"]:
    """Return ``weight[tokens]``; the kernels bring their own gradient of the table.

    That of PyTorch on CUDA sorts as well, and runs within a CUDA graph. But it fills the table with
    zeros first and writes sums of 10 tokens between, which one thread per column adds up: long for
    a pad. Its result has the dtype of the gradients that come in. Up to 3,072 tokens another kernel
    reuses shared memory without a barrier and, seldom, gives other numbers (pytorch pull request
    187687). Here every row is written once, in float32, with its tokens added in the order of the
    text. Pads count like other tokens in both; nothing that is trained reads them, so their
    gradients are 0.
    """
    if backend in KERNEL_BACKENDS:
        return loss_kernels.embed_tokens(tokens, weight)
    return F.embedding(tokens, weight)
