"""Parameters that are spread over the ranks of a run (FSDP2), as whole tensors and as parts."""

from torch import Tensor


def whole(tensor: Tensor) -> Tensor:
    """Return all of a tensor; where it is sharded, every rank must call this."""
    # only a DTensor has it, and its module is slow to import
    gather = getattr(tensor, "full_tensor", None)
    return tensor if gather is None else gather()


def is_sharded(tensor: Tensor) -> bool:
    """Tell whether a rank holds a part only: kernels cannot read it outside its module's call."""
    return hasattr(tensor, "full_tensor")
