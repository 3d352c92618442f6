"""The sizes of an RWKV-7 backbone. No torch."""

from dataclasses import dataclass

from fseed.errors import UserError

HEAD_SIZES = (16, 32, 64)


@dataclass(frozen=True, kw_only=True)
class RWKV7Shape:
    """Sizes that determine every parameter of an RWKV-7 model.

    Raises:
        UserError: if a size is not positive, or the head size does not divide the width.
    """

    num_layers: int
    width: int  # C
    head_size: int  # N
    ffn_width: int
    decay_rank: int
    in_context_rank: int
    value_rank: int
    gate_rank: int
    vocab_size: int

    def __post_init__(self) -> None:
        """Refuse sizes that no RWKV-7 model can have."""
        for name, value in vars(self).items():
            if value < 1:
                raise UserError(f"model.{name}={value} must be at least 1")
        if self.head_size not in HEAD_SIZES:
            raise UserError(f"model.head_size={self.head_size}; allowed: 16, 32, 64")
        if self.width % self.head_size != 0:
            raise UserError(
                f"model.width={self.width} is not a multiple of model.head_size={self.head_size}"
            )

    @property
    def num_heads(self) -> int:
        """Heads per layer, H = C / N."""
        return self.width // self.head_size
