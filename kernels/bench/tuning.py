"""FLA tunes several hundred configurations at first use; keep that within a few minutes.

These helpers change Triton's autotuner in this process only. The choice stays FLA's, on the shape
that is timed first. Left out are configurations with more than 8 warps or a tile wider than the
head; each is measured for 20 ms instead of 100. ``--full-tuning`` keeps them all.
"""

from collections.abc import Callable
from typing import Any

import torch
import triton
from triton.runtime.autotuner import Autotuner

MAX_WARPS = 8
MAX_TILE = 64  # the head size of every shape that FLA is timed on


def shorten_tuning() -> None:
    """Measure every configuration for 20 ms."""

    def measure(call: Callable[[], Any], quantiles: Any) -> Any:
        return triton.testing.do_bench(call, warmup=5, rep=20, quantiles=quantiles)

    _replace_benchmark(measure)


def leave_out_wide_configs() -> None:
    """Drop configurations that hold no promise for head size 64."""
    _choose(reasonable_configs)


def compile_shard(index: int, count: int) -> None:
    """Look at every ``count``-th configuration only, and run each just once."""
    _choose(lambda configs: configs[index::count])

    def run_once(call: Callable[[], Any], quantiles: Any) -> list[float]:
        call()
        torch.cuda.synchronize()
        return [0.0, 0.0, 0.0]

    _replace_benchmark(run_once)


def reasonable_configs(configs: list[Any]) -> list[Any]:
    """Return the configurations of at most 8 warps whose tiles are not wider than the head."""
    return [
        config
        for config in configs
        if config.num_warps <= MAX_WARPS
        and all(size <= MAX_TILE for size in config.kwargs.values() if isinstance(size, int))
    ]


def _choose(choice: Callable[[list[Any]], list[Any]]) -> None:
    """Filter what the autotuner looks at; a filter that leaves nothing leaves the first."""
    prune = Autotuner.prune_configs

    def pruned(self: Autotuner, *args: Any, **kwargs: Any) -> list[Any]:
        configs = prune(self, *args, **kwargs)
        return choice(configs) or configs[:1]

    Autotuner.prune_configs = pruned


def _replace_benchmark(measure: Callable[..., Any]) -> None:
    # a property of the class goes before what triton keeps on the instance
    chosen = property(lambda _: measure, lambda _, value: None)
    Autotuner.do_bench = chosen  # pyright: ignore[reportAttributeAccessIssue] replaced on purpose
