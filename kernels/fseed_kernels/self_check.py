"""Compare every kernel with a float64 loop before its first use on a machine.

Some assemblers compile right kernels wrongly (kernels/README.md, "Assemblers"), so no compiled
variant is trusted unseen. A verdict is kept per device model, versions of everything that compiles,
source of the kernels, and kind of call; a later process reads it.
"""

import hashlib
import json
import os
import warnings
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from functools import cache, partial
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fseed_kernels.cache import cache_folder, write_atomically
from fseed_kernels.concurrent_checks import first_finding
from fseed_kernels.errors import KernelUnavailable
from fseed_kernels.launchers import VARIANTS, Launcher, device_problem, load_launcher
from fseed_kernels.problem import Carried, Gradients, Inputs
from fseed_kernels.reference import Problem, build_problem, errors, reference

# tokens of the check: more chunks than the scans keep in flight; without and with masks
FULL_TOKENS, SHORT_LENGTHS = 320, (330, 77)
TOLERANCES = {"bf16": 1.2e-2, "high": 3e-3}  # relative, 2-norm; typical data give 5e-3 and 1e-3
# largest B * H of each choice of block sizes and forms; more heads are one choice
HEAD_LIMITS = (31, 48, 79, 95)
NUM_DECODED = 5


@dataclass(frozen=True)
class Verdict:
    """What the check found; ``variant`` is None where every variant failed."""

    variant: str | None
    reasons: tuple[str, ...]  # why a variant before it was not taken


def approve(
    backend: str,
    *,
    device: torch.device,
    precision: str,
    head_size: int,
    num_heads: int,
    batch_size: int,
) -> tuple[Launcher, Verdict]:
    """Return the launcher of the first variant that is right here, for H heads and B samples.

    Raises:
        KernelUnavailable: in one line, where the backend cannot run or no variant is right.
    """
    problem = device_problem(backend, device, precision=precision, head_size=head_size)
    if problem:
        raise KernelUnavailable(f"backend {backend} cannot run here: {problem}")
    load_launcher(backend)  # a missing package is no verdict on the kernels
    call = {"backend": backend, "precision": precision, "head_size": head_size}
    # H is compiled in: another one would be other code; of B, the least that has the same sizes
    call |= {"num_heads": num_heads, "batch_size": checked_sizes(batch_size, num_heads)[-1]}
    verdict = _refuse_wrong(*_read_or_make(call, device), backend, device)
    return load_launcher(backend, str(verdict.variant)), verdict


def _refuse_wrong(
    verdict: Verdict, path: Path | None, backend: str, device: torch.device
) -> Verdict:
    if verdict.variant is None:
        again = f"; delete {path} to check again" if path is not None else ""
        raise KernelUnavailable(
            f"backend {backend} failed its self-check on {torch.cuda.get_device_name(device)}: "
            f"{'; '.join(verdict.reasons)}. Use another backend, or another assembler "
            f"(TRITON_PTXAS_PATH){again}"
        )
    return verdict


def check_neighbours(
    *, device: torch.device, precision: str, head_size: int, width: int
) -> Verdict:
    """Check the operators around WKV7 for a model of ``width``; both backends use them.

    Raises:
        KernelUnavailable: in one line, where one is wrong here.
    """
    call = {"backend": "neighbours", "precision": precision, "head_size": head_size}
    verdict, path = _read_or_make(call | {"width": width}, device)
    return _refuse_wrong(verdict, path, call["backend"], device)


def checked_sizes(batch_size: int, num_heads: int) -> list[int]:
    """Return the batch sizes to check for batches of up to ``batch_size`` with H heads each.

    One for every choice of sizes that they reach: the smallest.
    """
    found: dict[int, int] = {}
    for size in range(1, batch_size + 1):
        found.setdefault(bisect_left(HEAD_LIMITS, size * num_heads), size)
    return list(found.values())


def _read_or_make(call: dict[str, Any], device: torch.device) -> tuple[Verdict, Path | None]:
    key = json.dumps(call | {"environment": describe_environment(device)}, sort_keys=True)
    folder = cache_folder("self_check")
    path = folder and folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
    verdict = _read(path, key)
    if verdict is None:
        verdict = _make(call, device)
        content = {"key": json.loads(key), "verdict": asdict(verdict)}
        if path is not None and not _keep(path, json.dumps(content, indent=1).encode()):
            path = None
    return verdict, path


def _keep(path: Path, content: bytes) -> bool:
    """Write a verdict; without a folder to write to, every process checks anew."""
    try:
        write_atomically(path, content)
    except OSError as error:
        warnings.warn(f"the self-check of the kernels is not kept: {error}", stacklevel=2)
        return False
    return True


def _read(path: Path | None, key: str) -> Verdict | None:
    """Return a kept verdict; None where there is none or the file is damaged."""
    if path is None or not path.exists():
        return None
    try:
        content = json.loads(path.read_bytes())
        if content["key"] != json.loads(key):
            return None
        return Verdict(content["verdict"]["variant"], tuple(content["verdict"]["reasons"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _make(call: dict[str, Any], device: torch.device) -> Verdict:
    reasons: list[str] = []
    for variant in VARIANTS.get(call["backend"], ("default",)):
        try:
            reason = _find_error_anywhere(call, variant, device)
        except torch.OutOfMemoryError as error:  # says nothing about the kernels: no verdict
            raise KernelUnavailable(
                f"backend {call['backend']}: not enough memory for the self-check ({error})"
            ) from error
        except Exception as error:  # a compiler or the device failed: the variant is not right
            reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        if not reason:
            return Verdict(variant, tuple(reasons))
        reasons.append(f"variant {variant}: {reason}")
    return Verdict(None, tuple(reasons))


def _find_error_anywhere(call: dict[str, Any], variant: str, device: torch.device) -> str:
    """Run a check whatever the caller has switched off, as operators do with gradients."""
    sizes: dict[str, Any] = {"device": device, "head_size": call["head_size"]}
    with (
        torch.inference_mode(mode=False),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
    ):
        if call["backend"] == "neighbours":
            from fseed_kernels.neighbours.check import find_error as find_neighbour_error

            dtype = torch.bfloat16 if call["precision"] == "bf16" else torch.float32
            return find_neighbour_error(**sizes, dtype=dtype, width=call["width"])
        launcher = load_launcher(call["backend"], variant)
        sizes |= {key: call[key] for key in ("precision", "num_heads", "batch_size")}
        return find_error(launcher, **sizes)


def find_error(
    launcher: Launcher,
    *,
    device: torch.device,
    precision: str,
    head_size: int,
    num_heads: int,
    batch_size: int,
) -> str:
    """Run every kernel of ``launcher`` with and without masks and carried state.

    Returns:
        The first deviation above the tolerance in words; "" where all is right.
    """
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    sizes = {"b": batch_size, "h": num_heads, "d": head_size, "dtype": dtype}

    def check(masked: bool, with_carried: bool) -> str:
        problem = _build(**sizes, device=device, masked=masked, with_carried=with_carried)
        for name, found in _deviations(launcher, problem, precision).items():
            if not found <= TOLERANCES[precision]:
                return f"{name} is off by {found:.1e} (allowed {TOLERANCES[precision]:.1e})"
        return ""

    return first_finding(
        [partial(check, *kind) for kind in product((False, True), repeat=2)], device
    )


def _build(
    *, masked: bool, with_carried: bool, b: int, device: torch.device, **sizes: Any
) -> Problem:
    """Build a problem; without states the scans get null pointers, which is other code."""
    problem = build_problem(
        b=b,
        t=max(SHORT_LENGTHS) if masked else FULL_TOKENS,
        lengths=[SHORT_LENGTHS[(i + 1) % 2] for i in range(b)] if masked else None,
        with_carried=with_carried,
        device=str(device),
        **sizes,
    )
    # gradients of a mean loss are as small: no step may lose them
    scale = 2.0**-24 if masked else 1.0
    dy, dfinal_state = problem.dy * scale, problem.dfinal_state
    if masked != with_carried or dfinal_state is None:
        return replace(problem, dy=dy, initial_state=None, dfinal_state=None)
    return replace(problem, dy=dy, dfinal_state=dfinal_state * scale)


def _deviations(launcher: Launcher, problem: Problem, precision: str) -> dict[str, float]:
    """Return the relative errors of training, prompt and decode kernels against float64."""
    expected = reference(problem)
    found = errors(run(launcher, problem, precision=precision), expected)
    prompt = launcher.forward(problem.inputs, **_start(problem), precision=precision, keep=False)
    outputs = {"y": prompt.y, "final_state": prompt.final_state}
    found |= {f"prompt {k}": v for k, v in errors(outputs, _only(expected, outputs)).items()}
    short = first_tokens(problem, NUM_DECODED)
    expected = reference(short)
    decoded = launcher.decode(short.inputs, **_start(short))
    outputs = {"y": decoded.y, "final_state": decoded.final_state}
    return found | {f"decode {k}": v for k, v in errors(outputs, _only(expected, outputs)).items()}


def run(launcher: Launcher, problem: Problem, *, precision: str) -> dict[str, Tensor]:
    """Run forward and backward; return the tensors that ``reference`` returns."""
    start = _start(problem)
    outputs = launcher.forward(problem.inputs, **start, precision=precision, keep=True)
    assert outputs.saved is not None  # keep=True
    gradients = launcher.backward(
        problem.inputs,
        outputs.saved,
        problem.dy,
        problem.dfinal_state,
        carried=problem.carried,
        lengths=problem.lengths,
        precision=precision,
        needs_carried=problem.carried is not None,
    )
    named = {field.name: getattr(gradients, field.name) for field in fields(Gradients)}
    return {"y": outputs.y, "final_state": outputs.final_state} | named


def first_tokens(problem: Problem, num_tokens: int) -> Problem:
    """Return the problem cut to its first tokens, all of them true."""
    tensors = (x[:, :num_tokens].contiguous() for x in problem.inputs.tensors)
    dy = problem.dy[:, :num_tokens].contiguous()
    start = (problem.initial_state, problem.carried)
    return Problem(Inputs(*tensors), *start, None, dy, problem.dfinal_state)


def _start(problem: Problem) -> dict[str, Tensor | Carried | None]:
    return {
        "initial_state": problem.initial_state,
        "carried": problem.carried,
        "lengths": problem.lengths,
    }


def _only(expected: dict[str, Tensor], outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: expected[name] for name in outputs}


def describe_environment(device: torch.device) -> dict[str, str]:
    """Return everything that decides about the machine code of the kernels."""
    capability = ".".join(map(str, torch.cuda.get_device_capability(device)))
    return {
        "device": f"{torch.cuda.get_device_name(device)} {capability}",
        "torch": torch.__version__,
        "triton": _package_version("triton"),
        "assembler": _or_none(lambda: _assembler_version(device)),
        "nvrtc": _or_none(_nvrtc_version),
        "source": source_hash(),
    }


@cache
def source_hash() -> str:
    """Return a hash over all sources of the package."""
    folder = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".py", ".cu", ".h", ".json")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _package_version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "none"


def _or_none(read: Callable[[], str]) -> str:
    """Return what ``read`` finds, "none" where the package is not there."""
    try:
        return read()
    except (ImportError, AttributeError, OSError):
        return "none"


def _assembler_version(device: torch.device) -> str:
    from triton.backends.nvidia.compiler import get_ptxas_version

    capability = torch.cuda.get_device_capability(device)
    arch = capability[0] * 10 + capability[1]
    version = get_ptxas_version(arch)
    # the path too: TRITON_PTXAS_PATH names another assembler
    return f"{os.environ.get('TRITON_PTXAS_PATH', 'bundled')} {version}"


def _nvrtc_version() -> str:
    from cuda.bindings import nvrtc  # pyright: ignore[reportAttributeAccessIssue]

    _, major, minor = nvrtc.nvrtcVersion()
    return f"{major}.{minor}"
