"""Compile what the Triton launchers launch, for an architecture that need not be there.

    python -m tests.kernels.offline_compile ARCH PRECISION HEAD_SIZE MASKED [VARIANT]

The launchers run on CPU tensors of few heads, but a launch is replaced by a compilation: the
signature, the constexprs and the options are those of a true launch. One JSON line per kernel:
registers, bytes spilled (stored) and bytes of shared memory. Needs TRITON_INTERPRET unset.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas
from triton.compiler import ASTSource

from fseed_kernels.reference import build_problem
from fseed_kernels.wkv7_triton import launch, sizes

TYPES = {
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.float32: "*fp32",
    torch.int32: "*i32",
}
SCALARS = {bool: "u1", int: "i32", float: "fp32"}
SPILLED = re.compile(r"(\d+) bytes spill stores")
REGISTERS = re.compile(r"Used (\d+) registers")


def compile_launch(kernel: Any, arch: int, arguments: tuple[Any, ...], given: dict[str, Any]):
    """Compile one launch as Triton specialises it, pointers aligned to 16 bytes."""
    names = [parameter.name for parameter in kernel.params]
    values = dict(zip(names, arguments, strict=False))
    values |= {name: value for name, value in given.items() if name in names}
    options = {name: value for name, value in given.items() if name not in names}
    signature, constants, attributes = {}, {}, {}
    for index, parameter in enumerate(kernel.params):
        value = values[parameter.name]
        if isinstance(value, Tensor):
            signature[parameter.name] = TYPES[value.dtype]
            attributes[(index,)] = [["tt.divisibility", 16]]
        elif parameter.is_constexpr or value is None:
            signature[parameter.name] = "constexpr"
            constants[(index,)] = value
        else:
            signature[parameter.name] = SCALARS[type(value)]
    source = ASTSource(kernel, signature, constants, attributes)
    return triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)


def resources(compiled: Any, arch: int) -> dict[str, int]:
    """Assemble the PTX once more with Triton's assembler, which reports to those who ask."""
    name = f"sm_{arch}a" if arch >= 90 else f"sm_{arch}"
    with tempfile.TemporaryDirectory() as folder:
        ptx = Path(folder) / "kernel.ptx"
        ptx.write_text(compiled.asm["ptx"])
        command = [get_ptxas(arch).path, "-v", f"--gpu-name={name}", str(ptx)]
        result = subprocess.run(
            [*command, "-o", str(ptx) + ".o"], capture_output=True, text=True, check=True
        )
    found = {"registers": REGISTERS, "spilled": SPILLED}
    numbers = {key: int(pattern.search(result.stderr)[1]) for key, pattern in found.items()}
    return numbers | {"shared": compiled.metadata.shared}


def launch_everything(precision: str, head_size: int, *, masked: bool, variant: str) -> None:
    """Launch every kernel on 96 and on 12 heads, with Future-Seed, a gradient and a prompt."""
    for batch in (8, 1):
        problem = build_problem(
            b=batch,
            t=130 if masked else 128,
            h=12,
            d=head_size,
            dtype=torch.bfloat16 if precision == "bf16" else torch.float32,
            lengths=[77] * batch if masked else None,
            with_carried=True,
        )
        start = {"initial_state": problem.initial_state, "carried": problem.carried}
        common = {"lengths": problem.lengths, "precision": precision, "variant": variant}
        out = launch.forward(problem.inputs, **start, **common, keep=True)
        launch.forward(problem.inputs, **start, **common, keep=False)
        launch.backward(
            problem.inputs,
            out.saved,
            problem.dy,
            problem.dfinal_state,
            carried=problem.carried,
            needs_carried=True,
            **common,
        )
        launch.decode(problem.inputs, **start, lengths=problem.lengths)


def main() -> None:
    """Print one line per compiled launch; a launch seen before prints nothing."""
    arch, precision, head_size, masked = sys.argv[1:5]
    seen = set()

    def run(kernel: Any, *arguments: Any, grid: Any, warmup: bool, **given: Any) -> None:
        compiled = compile_launch(kernel, int(arch), arguments, given)
        if compiled.hash not in seen:
            seen.add(compiled.hash)
            line = {"kernel": kernel.__name__.lstrip("_")} | resources(compiled, int(arch))
            print(json.dumps(line), flush=True)

    triton.runtime.jit.JITFunction.run = run
    sizes.architecture = lambda device: f"sm_{arch}"
    launch.INTERPRETED = True  # let CPU tensors in: nothing is run
    launch_everything(
        precision,
        int(head_size),
        masked=masked == "masked",
        variant=sys.argv[5] if len(sys.argv) > 5 else "default",
    )


if __name__ == "__main__":
    main()
