import subprocess
import sys

import pytest

# a process of its own: the setting outlives the call
PROGRAM = """
import resource
import torch
from fseed.training.host_memory import keep_freed_memory

def fresh_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(2**24).sum()  # 64 MiB: more than glibc keeps by default
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
is_set, _ = keep_freed_memory(), fresh_pages()
print(is_set, fresh_pages())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_freed_blocks_are_used_again_without_fresh_pages():
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    is_set, faults = result.stdout.split()
    if is_set == "False":
        pytest.skip("another C library")
    # 20 tensors of 16,384 pages each: 330,000 faults by default
    assert int(faults) < 100_000
