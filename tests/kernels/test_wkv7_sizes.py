"""The fixed sizes: every table entry has to fit the other kernels of a call."""

from itertools import product

import pytest

from fseed_kernels.wkv7_triton import sizes


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100", "sm_120", "interpreter"])
@pytest.mark.parametrize("variant", sizes.VARIANTS)
def test_sizes_fit_each_other(arch: str, variant: str) -> None:
    for precision, head_size in product(("bf16", "high"), (16, 32, 64)):
        kind = (arch, precision, head_size)
        chosen = [
            kernel(*kind, variant)
            for kernel in (sizes.forward_chunk, sizes.backward_values, sizes.backward_keys)
        ]
        for heads in (1, 48, 49, 95, 96):
            chosen += [
                scan(*kind, heads, variant) for scan in (sizes.forward_scan, sizes.backward_scan)
            ]
        assert {x.chunk_size for x in chosen} == {
            sizes.chunk_size(precision, head_size, arch, variant)
        }
        assert all(head_size % x.block == 0 and x.block % 16 == 0 for x in chosen)


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(ValueError, match="variant 'fast'; the kernels have default, safe"):
        sizes.forward_chunk("sm_90", "bf16", 64, "fast")


def test_measured_sizes() -> None:
    few, many = (sizes.forward_scan("sm_90", "bf16", 64, heads).block for heads in (48, 96))
    assert (few, many) == (16, 64)
    assert sizes.backward_values("sm_90", "bf16", 64).options["maxnreg"] == 168
    assert "maxnreg" not in sizes.forward_chunk("sm_90", "bf16", 64).options


@pytest.mark.parametrize(
    ("precision", "head_size", "arch", "variant", "expected"),
    [
        ("bf16", 64, "sm_90", "default", 64),
        ("bf16", 64, "sm_90", "safe", 32),
        ("bf16", 64, "sm_80", "default", 32),
        ("bf16", 64, "sm_120", "default", 32),
        ("bf16", 32, "sm_90", "default", 32),
        ("high", 64, "sm_90", "default", 16),
    ],
)
def test_chunk_sizes(
    precision: str, head_size: int, arch: str, variant: str, expected: int
) -> None:
    assert sizes.chunk_size(precision, head_size, arch, variant) == expected
