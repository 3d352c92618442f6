"""Tokens of several tensors in one launch, in Triton's interpreter: the same bits, nothing else."""

import pytest
import torch
from torch import Tensor

from fseed.ops.row_kernels import put_all_rows_, take_all_rows
from fseed_kernels.neighbours import move_rows

if torch.cuda.is_available():
    pytest.skip("the kernels are compiled where a GPU is", allow_module_level=True)

ROWS = torch.tensor([1, 2, 9, 7])  # two of each text of 5 tokens


def draw(count: int, *size: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(*size, generator=generator).to(dtype) for _ in range(count)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("count", [1, 2, 6])
def test_tokens_go_out_and_back(count, dtype):
    wholes, parts = draw(count, 2, 5, 3, 8, dtype=dtype), draw(count, 2, 2, 3, 8, dtype=dtype)
    before = [x.clone() for x in wholes]
    taken = move_rows.take(wholes, ROWS)
    for whole, part in zip(before, taken, strict=True):
        assert torch.equal(part, whole.flatten(0, 1)[ROWS].unflatten(0, (2, 2)))
    move_rows.put_(wholes, ROWS, parts)
    for whole, old, part in zip(wholes, before, parts, strict=True):
        expected = old.flatten(0, 1).index_copy(0, ROWS, part.flatten(0, 1))
        assert torch.equal(whole.flatten(0, 1), expected)


@pytest.mark.parametrize(
    ("wholes", "parts", "rows", "reason"),
    [
        (7, (2, 2, 3, 8), ROWS, "7 tensors; expected 1 to 6"),
        (1, (2, 2, 3, 8), ROWS.int(), "rows"),
        (1, (2, 2, 3, 8), ROWS[:3], "rows"),
        (1, (2, 2, 3, 4), ROWS, "parts"),
    ],
)
def test_what_does_not_fit_is_refused(wholes, parts, rows, reason):
    given = draw(wholes, 2, 5, 3, 8), rows, draw(wholes, *parts)
    with pytest.raises(ValueError, match=reason):
        move_rows.put_(*given)


def test_the_operators_keep_the_rules_of_custom_operators():
    utilities = ("test_schema", "test_faketensor")
    torch.library.opcheck(take_all_rows, (draw(2, 2, 5, 8), ROWS), test_utils=utilities)
    given = draw(2, 2, 5, 8), ROWS, draw(2, 2, 2, 8)
    torch.library.opcheck(put_all_rows_, given, test_utils=utilities)
