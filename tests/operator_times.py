"""CPU time of the operators of a piece of code, by kind: the profile of ``bench_cpu``."""

import time
from collections import defaultdict

from torch.utils._python_dispatch import TorchDispatchMode

PARTS = {
    "products with weights": {"mm", "addmm"},
    "products inside WKV7": {"bmm", "baddbmm", "baddbmm_"},
    "copies": {"copy_", "cat", "clone", "stack", "index", "index_put", "embedding"},
    "norms": {
        "native_layer_norm", "native_layer_norm_backward",
        "native_group_norm", "native_group_norm_backward",
    },
    "views": {
        "view", "slice", "select", "expand", "t", "transpose", "permute", "unsqueeze", "unbind",
        "split", "_unsafe_view", "detach", "as_strided", "alias", "squeeze", "diagonal",
    },
    "optimiser, clipping": {"_fused_adamw_", "_foreach_norm", "_foreach_mul_", "_foreach_add_"},
}  # fmt: skip


class TimeOperators(TorchDispatchMode):
    """Add up the CPU time of every operator: waiting for other processes does not count."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        part = part_of(func.overloadpacket.__name__)
        started = time.process_time()
        result = func(*args, **(kwargs or {}))
        self.seconds[part] += time.process_time() - started
        self.calls[part] += 1
        return result


def part_of(operator: str) -> str:
    """Return the row of the profile that an operator counts in."""
    for part, names in PARTS.items():
        if operator in names:
            return part
    return "element by element, sums"
