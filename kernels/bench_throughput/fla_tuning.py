"""FLA's kernels compiled ahead, in parallel: alone, its tuner would take minutes of a worker.

The choice stays FLA's, made in each worker; see ``bench.tuning`` for what is left out.
"""

from dataclasses import replace

import torch

from bench.tuning import compile_shard, leave_out_wide_configs, shorten_tuning
from bench_throughput.fla_model import build_fla
from bench_throughput.workload import Setting, start_like_trained
from fseed.models.checkpoint import empty_model
from fseed.models.initialization import initialize
from fseed.models.rwkv7 import RWKV7

BATCHES = ((2, 256), (2, 1024))  # compiled on; beyond 512 tokens some kernels are others


def tune_quickly() -> None:
    """Let FLA tune itself within a worker's time."""
    shorten_tuning()
    leave_out_wide_configs()


def compile_fla(setting: Setting, *, dtype: torch.dtype, shard: int, shards: int) -> None:
    """Compile every ``shards``-th configuration of the kernels that a training step launches.

    ``dtype``: of the weights; what is float32 is computed under bf16 autocast.
    """
    leave_out_wide_configs()
    compile_shard(shard, shards)
    # two layers: the first one and the others differ
    shape = replace(empty_model(setting.weights_path).shape, num_layers=2, vocab_size=4096)
    generator = torch.Generator().manual_seed(0)
    model = initialize(RWKV7(shape), generator=generator)
    start_like_trained(model, generator=generator)
    model = model.cuda()
    theirs = build_fla(model, fused_loss=True).to(dtype)
    for size in BATCHES:
        ids = torch.randint(shape.vocab_size, size, generator=generator).cuda()
        with torch.autocast("cuda", torch.bfloat16, enabled=dtype == torch.float32):
            loss = theirs(ids, labels=ids).loss
        loss.backward()
