import subprocess
import sys

import pytest

# a process of its own: the setting outlives the call
PROGRAM = """
import resource
import torch
from fseed.training.host_memory import give_back_freed_memory, keep_freed_memory

def fresh_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        # 4 x 24 MiB: together more than glibc keeps by default
        sum(torch.ones(6 * 2**20) for _ in range(4))
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident_mib():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() // 2**20

torch.set_num_threads(1)
is_set, _ = keep_freed_memory(), fresh_pages()
again, kept = fresh_pages(), resident_mib()
give_back_freed_memory()
print(is_set, again, kept - resident_mib())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_freed_blocks_are_used_again_without_fresh_pages_until_they_are_given_back():
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    is_set, faults, mib_given_back = result.stdout.split()
    if is_set == "False":
        pytest.skip("another C library")
    # 20 times 6,144 pages a tensor: more than 100,000 by default
    assert int(faults) < 10_000
    assert int(mib_given_back) > 40
