"""Loss and embedding on a GPU: near float64, memory of a chunk, the same bits, captured."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fseed.ops import loss_kernels
from fseed.ops.embed_tokens import embed_tokens
from fseed.ops.linear_cross_entropy import linear_cross_entropy, mean_cross_entropy
from fseed_kernels.neighbours import embedding_gradient
from fseed_kernels.reference import relative_error

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
MEBIBYTE = 2**20


@contextmanager
def never_waiting() -> Iterator[None]:
    """Make it an error if the host waits for the device."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def build(num_rows: int, *, vocab: int = 65536, width: int = 768) -> list[Tensor]:
    """Return hidden, weight, targets (every ninth does not count) and how many count."""
    generator = torch.Generator("cuda").manual_seed(num_rows)
    call = {"generator": generator, "device": "cuda"}
    hidden = torch.randn(num_rows, width, **call).requires_grad_()
    weight = (0.05 * torch.randn(vocab, width, **call)).requires_grad_()
    targets = torch.randint(vocab, (num_rows,), **call)
    targets[::9] = -1
    return [hidden, weight, targets, (targets >= 0).sum().float()]


def fused(given: list[Tensor], *, share: float = 1.0) -> tuple[Tensor, ...]:
    hidden, weight, targets, count = given
    call = {"num_targets": count, "backend": "triton"}
    loss = linear_cross_entropy(hidden, weight, targets, **call)
    return loss.detach(), *torch.autograd.grad(loss * share, (hidden, weight))


def plain(given: list[Tensor], *, dtype: torch.dtype) -> tuple[Tensor, ...]:
    leaves = [x.detach().to(dtype).requires_grad_() for x in given[:2]]
    loss = mean_cross_entropy(F.linear(*leaves), given[2], num_targets=given[3])
    return loss.detach(), *torch.autograd.grad(loss, leaves)


# the last chunk is short, alone, or of one row; a vocabulary without 16-byte rows
@pytest.mark.parametrize(
    ("num_rows", "vocab", "chunk"),
    [(300, 65536, 128), (129, 65536, 128), (1, 65536, 2048), (77, 4099, 40), (64, 65529, 64)],
)
def test_float32(num_rows: int, vocab: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_kernels, "chunk_rows", lambda vocab_size, dtype: chunk)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    given = build(num_rows, vocab=vocab)
    if num_rows == 1:
        given[2].fill_(5)
        given[3].fill_(1)
    pairs = zip(fused(given), plain(given, dtype=torch.float64), strict=True)
    assert [error for pair in pairs if not (error := relative_error(*pair)) <= 5e-6] == []


@pytest.mark.parametrize("chunk", [128, 512])
def test_bfloat16_is_no_worse_than_all_logits_under_autocast(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss_kernels, "chunk_rows", lambda vocab_size, dtype: chunk)
    given = build(300)
    expected = plain(given, dtype=torch.float64)
    with torch.autocast("cuda", torch.bfloat16):
        today = plain(given, dtype=torch.float32)
        found = fused(given)
    for actual, other, wanted in zip(found, today, expected, strict=True):
        assert actual.dtype == torch.float32
        # 2^-9: half a unit in the last place of bf16
        assert relative_error(actual, wanted) <= 1.2 * max(relative_error(other, wanted), 2**-9)


def test_a_share_of_the_loss_scales_the_gradients() -> None:
    given = build(100)
    with torch.autocast("cuda", torch.bfloat16):
        whole, part = fused(given), fused(given, share=0.3)
    for full, scaled in zip(whole[1:], part[1:], strict=True):
        assert relative_error(scaled, 0.3 * full) <= 1e-6


def test_the_same_bits_twice_and_memory_of_one_chunk() -> None:
    given = build(3 * 2048 + 5, width=256)
    with torch.autocast("cuda", torch.bfloat16):
        first = fused(given)
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        again = fused(given)
        peak = torch.cuda.max_memory_allocated() - before
    assert all(map(torch.equal, first, again))
    table, rows = given[1].nbytes, given[0].nbytes
    # one chunk of logits; the table in bf16 and its gradient; hidden in bf16 and its gradient
    bound = loss_kernels.LOGITS_BYTES + 1.5 * table + 1.5 * rows + 16 * MEBIBYTE
    assert peak <= bound < 6149 * 65536 * 2, (peak / MEBIBYTE, bound / MEBIBYTE)


def test_the_host_never_waits() -> None:
    given = build(300)
    tokens = torch.randint(65536, (2, 4096), device="cuda")
    weight, dout = given[1], torch.randn(2, 4096, 768, device="cuda")
    with never_waiting(), torch.autocast("cuda", torch.bfloat16):
        fused(given)
        fused(given, share=0.5)
        torch.autograd.grad(embed_tokens(tokens, weight, backend="triton"), weight, dout)


def capture(step: Callable[[], tuple[Tensor, ...]]) -> tuple[torch.cuda.CUDAGraph, tuple]:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = step()
    return graph, outputs


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_a_captured_loss_reads_new_targets(share: float) -> None:
    given = build(3000)

    def step() -> tuple[Tensor, ...]:
        with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
            return fused(given, share=share)

    graph, outputs = capture(step)
    for seed in (1, 2):
        generator = torch.Generator("cuda").manual_seed(seed)
        given[2].copy_(torch.randint(-1, 9, (3000,), generator=generator, device="cuda"))
        given[3].copy_((given[2] >= 0).sum())
        graph.replay()
        first = [x.clone() for x in outputs]
        graph.replay()
        assert all(map(torch.equal, outputs, first))
        # cuBLAS may choose other kernels under capture
        pairs = zip(outputs, step(), strict=True)
        assert [error for pair in pairs if not (error := relative_error(*pair)) <= 1e-3] == []


TEXTS = {
    "drawn": lambda generator: torch.randint(65536, (8, 4096), **generator),
    "a third are pads": lambda generator: _with_pads(torch.randint(999, (8, 4096), **generator)),
    "few": lambda generator: torch.randint(65536, (3, 7), **generator),
    "all alike": lambda generator: torch.full((2, 5000), 65535, device="cuda"),
}


def _with_pads(tokens: Tensor) -> Tensor:
    tokens[:, 2800:] = 0
    return tokens


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradient_of_the_embedding(kind: str, dtype: torch.dtype) -> None:
    call = {"generator": torch.Generator("cuda").manual_seed(0), "device": "cuda"}
    tokens = TEXTS[kind](call).flatten()
    dout = torch.randn(len(tokens), 768, **call).to(dtype)
    found, again = (embedding_gradient.backward(tokens, dout, num_ids=65536) for _ in range(2))
    assert torch.equal(found, again)
    expected = torch.zeros(65536, 768, dtype=torch.float64, device="cuda")
    expected.index_add_(0, tokens, dout.double())
    assert relative_error(found, expected) <= 1e-6
    assert torch.equal(found == 0, expected == 0)


def test_a_captured_embedding_reads_new_tokens() -> None:
    tokens = torch.randint(65536, (8, 4096), device="cuda")
    weight = torch.randn(65536, 256, device="cuda", requires_grad=True)
    dout = torch.randn(8, 4096, 256, device="cuda")

    def step() -> tuple[Tensor, ...]:
        out = embed_tokens(tokens, weight, backend="triton")
        return out.detach(), *torch.autograd.grad(out, weight, dout)

    graph, outputs = capture(step)
    tokens.copy_(torch.randint(300, (8, 4096), device="cuda"))
    graph.replay()
    assert all(map(torch.equal, outputs, step()))
