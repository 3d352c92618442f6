"""A checkpoint of any size that takes no room on disk, and what loading it takes.

As a program: ``python -m tests.models.large_file PATH`` loads the file in a fresh process and
prints a JSON line with seconds and bytes.
"""

import json
import struct
import sys
import tempfile
import time
from pathlib import Path

from fseed.models.checkpoint_names import expected_shapes
from fseed.models.shape import RWKV7Shape

# g1-2.9b: BlinkDL/rwkv7-g1 on the hub
LARGE = RWKV7Shape(
    num_layers=32, width=2560, head_size=64, ffn_width=10240, decay_rank=96, in_context_rank=96,
    value_rank=64, gate_rank=320, vocab_size=65536,
)  # fmt: skip


def write_sparse(path: Path, shape: RWKV7Shape, *, dtype: str = "BF16") -> int:
    """Write safetensors of zeros, all of them a hole; return the number of parameters."""
    sizes = {
        "V": shape.vocab_size, "C": shape.width, "H": shape.num_heads, "N": shape.head_size,
        "F": shape.ffn_width, "D": shape.decay_rank, "A": shape.in_context_rank,
        "M": shape.value_rank, "G": shape.gate_rank, "1": 1,
    }  # fmt: skip
    item, end, num, header = {"BF16": 2, "F32": 4}[dtype], 0, 0, {}
    for name, symbols in expected_shapes(shape.num_layers).items():
        dims = [sizes[symbol] for symbol in symbols]
        count = 1
        for size in dims:
            count *= size
        offsets = [end, end + count * item]
        header[name] = {"dtype": dtype, "shape": dims, "data_offsets": offsets}
        end, num = offsets[1], num + count
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return num


def status_bytes(name: str) -> int:
    """Return a size in bytes of /proc/self/status (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024


def main() -> None:
    from fseed.models.checkpoint import load_model

    with tempfile.TemporaryDirectory() as folder:
        # what the first model of a process imports is no part of it
        small = RWKV7Shape(**(vars(LARGE) | {"num_layers": 1, "width": 64, "vocab_size": 8}))
        write_sparse(Path(folder) / "w", small)
        load_model(Path(folder) / "w")
    before, started = status_bytes("VmRSS"), time.perf_counter()
    Path("/proc/self/clear_refs").write_text("5")
    model = load_model(sys.argv[1])
    found = {
        "seconds": time.perf_counter() - started,
        "before_bytes": before,
        "peak_bytes": status_bytes("VmHWM"),
        "master_bytes": sum(p.numel() * p.element_size() for p in model.parameters()),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
