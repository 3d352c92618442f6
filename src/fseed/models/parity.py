"""The parity gate: this backbone against implementations that share no code with it.

For each checkpoint, in prompt mode (one pass) and in step mode (token by token), the logits of
every position and the three states of every layer are compared. Oracles: the ``rwkv`` package
where the head size is 64, a float64 loop for other head sizes, and published logits.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fseed.errors import UserError
from fseed.models.checkpoint import load_model, load_state_dict
from fseed.models.rwkv7 import RWKV7
from fseed.models.rwkv7_loop import run_loop
from fseed.models.rwkv_package import HEAD_SIZE, RwkvPackage, package_name
from fseed.models.shape import RWKV7Shape
from fseed.models.trace import STATE_PARTS, Trace, relative_error, trace_errors

TOLERANCE = 1e-5  # relative, float32 against float32 or float64
NOISE_FACTOR = 8  # errors of up to 3 times the noise were seen on 21 random checkpoints
MAX_TOLERANCE = 1e-4  # whatever the noise
NUM_TOKENS = 67  # more than one chunk of the chunked backend, and no multiple of its size
PUBLIC_PROMPT = b'"in'  # the published logits follow these bytes from the zero state

MODES = ("prompt", "step")


@dataclass(frozen=True)
class ParityRow:
    """One comparison: relative error by tensor name.

    ``noise`` is how far the oracle is from itself between its two modes, by tensor name. The first
    tokens of a text can be ill-conditioned (the group norm divides by a state read of nearly
    zero), and there no float32 code can agree with another one better than with itself.
    """

    checkpoint: str
    oracle: str
    mode: str  # prompt | step
    errors: dict[str, float]
    noise: dict[str, float] = field(default_factory=dict)

    def limit(self, name: str) -> float:
        """Return the largest error of tensor ``name`` that passes."""
        noise = NOISE_FACTOR * self.noise.get(name, 0.0)
        return min(max(TOLERANCE, noise), MAX_TOLERANCE)

    @property
    def passed(self) -> bool:
        """Tell whether every error is within its limit; NaN is not."""
        return all(error <= self.limit(name) for name, error in self.errors.items())

    @property
    def beyond_tolerance(self) -> list[str]:
        """Return the tensors whose error is above the tolerance, allowed by noise or not."""
        return [name for name, error in self.errors.items() if not error <= TOLERANCE]


def _shape(num_layers: int, width: int, head_size: int, ffn: int, *ranks: int) -> RWKV7Shape:
    decay, in_context, value, gate = ranks
    return RWKV7Shape(
        num_layers=num_layers, width=width, head_size=head_size, ffn_width=ffn, decay_rank=decay,
        in_context_rank=in_context, value_rank=value, gate_rank=gate, vocab_size=101,
    )  # fmt: skip


RANDOM_SHAPES = (
    _shape(2, 64, 64, 256, 8, 8, 8, 8),
    _shape(3, 128, 64, 200, 17, 9, 5, 33),
    # rank = width: here a swapped low-rank pair fits by its shapes, only the numbers tell
    _shape(3, 64, 64, 96, 64, 64, 64, 64),
    _shape(12, 256, 64, 640, 24, 16, 12, 40),
    _shape(3, 96, 32, 256, 7, 11, 3, 13),
    _shape(2, 64, 16, 160, 5, 6, 7, 8),
)


def compare_random() -> list[ParityRow]:
    """Compare on one random checkpoint of every shape in ``RANDOM_SHAPES``."""
    rows: list[ParityRow] = []
    with _one_thread():
        for seed, shape in enumerate(RANDOM_SHAPES):
            weights = build_random_weights(shape, generator=torch.Generator().manual_seed(seed))
            model = RWKV7(shape)
            model.load_state_dict(weights, strict=True)
            rows += compare_model(model, weights, name=describe_shape(shape))
    return rows


def compare_checkpoint(path: str | Path) -> list[ParityRow]:
    """Compare on the checkpoint at ``path``."""
    model = load_model(path)
    return compare_model(model, load_state_dict(path), name=Path(path).name)


def compare_model(model: RWKV7, weights: Mapping[str, Tensor], *, name: str) -> list[ParityRow]:
    """Compare ``model`` with the oracle that computes ``weights``, on random tokens.

    Raises:
        UserError: if the ``rwkv`` package is needed and not installed.
    """
    tokens = _random_tokens(model.shape.vocab_size)
    found = {"prompt": read_prompt(model, tokens), "step": read_steps(model, tokens)}
    noise: dict[str, float] = {}
    if model.shape.head_size == HEAD_SIZE:
        oracle, package = package_name(), RwkvPackage(weights)
        expected = {"prompt": package.read_prompt(tokens), "step": package.read_steps(tokens)}
        noise = trace_errors(expected["step"], expected["prompt"])
    else:
        oracle = "float64 loop"
        expected = dict.fromkeys(MODES, loop_trace(weights, tokens))
    return [
        ParityRow(name, oracle, mode, trace_errors(found[mode], expected[mode]), noise)
        for mode in MODES
    ]


def compare_published(weights_path: str | Path, logits_path: str | Path) -> list[ParityRow]:
    """Compare with logits that others published: raw little-endian float32 after the bytes "in.

    Raises:
        UserError: if a file is missing, or the number of logits is not the vocabulary.
    """
    model = load_model(weights_path)
    vocab_size = model.shape.vocab_size
    expected = _read_logits(Path(logits_path), vocab_size=vocab_size)
    tokens = list(PUBLIC_PROMPT)
    if max(tokens) >= vocab_size:
        raise UserError(
            f"published logits follow bytes, and the vocabulary of {vocab_size} of"
            f" {weights_path} has no id for each byte"
        )
    found = {"prompt": read_prompt(model, tokens), "step": read_steps(model, tokens)}
    name = Path(weights_path).name
    return [
        ParityRow(
            name, "published logits", mode,
            {"logits": relative_error(found[mode].logits[-1], expected)},
        )
        for mode in MODES
    ]  # fmt: skip


@torch.no_grad()
def read_prompt(model: RWKV7, tokens: Sequence[int]) -> Trace:
    """Read ``tokens`` in one pass from the zero state."""
    output = model(torch.tensor([list(tokens)]))
    return _trace(model.logits(output.hidden)[0], output.state)


@torch.no_grad()
def read_steps(model: RWKV7, tokens: Sequence[int]) -> Trace:
    """Read ``tokens`` one at a time, each from the state the one before left."""
    state, logits = model.zero_state(1), []
    for token in tokens:
        output = model(torch.tensor([[token]]), state=state)
        logits.append(model.logits(output.hidden)[0, 0])
        state = output.state
    return _trace(torch.stack(logits), state)


def loop_trace(
    weights: Mapping[str, Tensor], tokens: Sequence[int], *, group_norm_eps: float | None = None
) -> Trace:
    """Read ``tokens`` with the float64 loop."""
    arrays = {name: tensor.double().numpy() for name, tensor in weights.items()}
    logits, states = run_loop(arrays, tokens, group_norm_eps=group_norm_eps)
    parts = [np.stack([getattr(s, part) for s in states]) for part in STATE_PARTS]
    return Trace(torch.from_numpy(logits), *(torch.from_numpy(part) for part in parts))


def build_random_weights(shape: RWKV7Shape, *, generator: torch.Generator) -> dict[str, Tensor]:
    """Return a checkpoint in which every parameter matters: nothing is zero, one or symmetric."""
    with torch.device("meta"):
        sizes = {name: tuple(t.shape) for name, t in RWKV7(shape).state_dict().items()}
    return {name: _random_tensor(name, size, generator=generator) for name, size in sizes.items()}


def describe_shape(shape: RWKV7Shape) -> str:
    """Return a short name of a random checkpoint: layers, C, N, FFN width, low-rank sizes."""
    ranks = (shape.decay_rank, shape.in_context_rank, shape.value_rank, shape.gate_rank)
    return (
        f"random L{shape.num_layers} C{shape.width} N{shape.head_size} F{shape.ffn_width}"
        f" R{'/'.join(str(rank) for rank in ranks)}"
    )


def _random_tensor(name: str, size: tuple[int, ...], *, generator: torch.Generator) -> Tensor:
    noise = torch.randn(size, generator=generator)
    leaf = name.rsplit(".", 2)[-2:]
    if leaf[-1].startswith("x_"):
        return torch.rand(size, generator=generator)
    if leaf[0].startswith("ln"):
        return (1.0 if leaf[-1] == "weight" else 0.0) + 0.2 * noise
    if leaf[-1] == "w0":
        return 2.0 * noise - 2.0  # slow and fast decays
    if leaf[-1] in ("k_k", "k_a"):
        return 1.0 + 0.3 * noise
    if leaf[-1] in ("a0", "v0", "r_k"):
        return 0.5 * noise
    if leaf[0] == "emb":
        return noise
    # matrices: keep the scale of their input, whichever side it stands on
    fan_in = size[0] if leaf[-1][0] in "wavg" and leaf[-1] != "weight" else size[1]
    return noise / fan_in**0.5


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread: models this small spend a second one on waiting, for long if busy."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def _random_tokens(vocab_size: int) -> list[int]:
    generator = torch.Generator().manual_seed(7)
    return torch.randint(vocab_size, (NUM_TOKENS,), generator=generator).tolist()


def _trace(logits: Tensor, state: object) -> Trace:
    parts = (getattr(state, part)[:, 0].double() for part in STATE_PARTS)
    return Trace(logits.double(), *parts)


def _read_logits(path: Path, *, vocab_size: int) -> Tensor:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"expected logits {path} cannot be read: {error.strerror}") from error
    if len(data) != 4 * vocab_size:
        raise UserError(
            f"expected logits {path}: {len(data)} bytes, but a vocabulary of {vocab_size} needs"
            f" {4 * vocab_size} (raw little-endian float32)"
        )
    return torch.from_numpy(np.frombuffer(data, dtype="<f4").astype(np.float64))
