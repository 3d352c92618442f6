"""The faults that every sweep survives, each with the test that injects it.

``python -m tests.faults.table`` prints the table; ``--run`` runs the tests and prints it with
their results, ``--quick`` without the slow ones, ``--results FILE`` with those of an earlier run.
"""

import argparse
import ast
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
# of a test: its number differs from run to run
_FOLDER = re.compile(r"\S*/pytest-of-\S*/")


@dataclass(frozen=True)
class Fault:
    """A fault, how it is injected, the tests that do it, and what is to be told and to hold."""

    name: str
    injected: str
    tests: tuple[str, ...]
    expected: str


KILLS = "tests/faults/test_kills.py"
FAILURES = "tests/faults/test_failures.py"
DAMAGE = "tests/faults/test_damage.py"
DISK = "tests/faults/test_full_disk.py"
POOL = "tests/launch/test_pool.py"

# the lines of the protocol, "Faults to survive", in its order and words
PROTOCOL = (
    Fault(
        "kill -9 at any moment",
        "SIGKILL, SIGTERM, SIGINT, SIGSEGV at seeded random moments to the sweep or a worker",
        (
            f"{KILLS}::test_kills_at_random_moments",
            f"{KILLS}::test_kills_of_real_processes",
            f"{KILLS}::test_a_killed_run_continues_bit_equal",
        ),
        "resumed bit-equal, no result made twice",
    ),
    Fault(
        "disk full while writing",
        "tmpfs filled to the last byte before each kind of file, and under a sweep",
        (
            f"{DISK}::test_a_full_disk_is_a_clear_failure_and_the_run_goes_on_later",
            f"{DISK}::test_a_sweep_on_a_disk_that_fills",
        ),
        "No space left on device; nothing half-written; bit-equal once there is room",
    ),
    Fault(
        "truncated or corrupt record, metrics or checkpoint",
        "each file cut, emptied, overwritten, zeroed, removed, replaced by a folder",
        (f"{DAMAGE}::test_an_unfinished_run", f"{DAMAGE}::test_a_finished_run"),
        "bit-equal, or one line that names the path",
    ),
    Fault(
        "out of memory at step k",
        "torch.OutOfMemoryError and MemoryError raised in a training step",
        (
            f"{FAILURES}::test_a_run_that_fails_by_itself_is_not_tried_again[run_out_of",
            "tests/training/test_memory_split.py::"
            "test_a_run_goes_on_from_its_last_checkpoint_with_half_the_samples",
        ),
        "micro-batches on record; class oom where none helps",
    ),
    Fault(
        "NaN loss",
        "weights poisoned before a training step",
        (f"{FAILURES}::test_a_run_that_fails_by_itself_is_not_tried_again[poison",),
        "class nan with its step, not tried again",
    ),
    Fault(
        "a worker that hangs",
        "a training step that sleeps; one that lives and never ends",
        (
            f"{FAILURES}::test_a_run_that_was_lost_is_tried_again[hang",
            f"{FAILURES}::test_a_run_that_fails_by_itself_is_not_tried_again[crawl",
            f"{POOL}::test_a_limit_ends_a_run",
        ),
        "no sign of life: tried again; took too long: class timeout",
    ),
    Fault(
        "a killed worker process",
        "SIGKILL to a slot's worker, loss of a Ray node, preemption of a submitted job",
        (
            f"{FAILURES}::test_a_run_that_was_lost_is_tried_again[die",
            f"{POOL}::test_what_was_lost_is_tried_again",
            "tests/launch/test_ray_cluster.py::test_a_run_survives_the_loss_of_its_node",
            "tests/launch/test_submitit_requeue.py::"
            "test_a_requeued_run_is_bit_equal_to_an_undisturbed_one",
        ),
        "signal 9 (SIGKILL) from outside; tried again, bit-equal",
    ),
    Fault(
        "Ctrl-C",
        "SIGINT, SIGTERM, SIGHUP once and twice",
        (
            "tests/launch/test_signals.py::",
            "tests/run_cli/test_processes.py::test_a_signal_in_the_middle_of_a_sweep",
            "tests/training/test_runner.py::test_ctrl_c_and_a_closed_terminal_save_and_the_next_call_continues",
        ),
        "saves and ends with 130; the same command continues",
    ),
    Fault(
        "two sweeps writing to one folder",
        "the same command twice at once, one of them in slots",
        (
            "tests/faults/test_shared_files.py::test_two_sweeps_at_once_train_every_run_once",
            "tests/run_cli/test_processes.py::test_two_sweeps_in_one_folder_share_the_work",
            "tests/sweep/test_lock.py::test_processes_that_contend_never_hold_together",
        ),
        "every run is trained once",
    ),
    Fault(
        "a removed data file",
        "train.parquet unlinked behind a checkpoint",
        ("tests/faults/test_shared_files.py::test_data_that_is_not_there_any_more[removed",),
        "class data, one line with the path; bit-equal when it is back",
    ),
    Fault(
        "data that changed under the same name",
        "other rows in train.parquet behind a checkpoint",
        (
            "tests/faults/test_shared_files.py::test_data_that_is_not_there_any_more[changed",
            "tests/tasks/test_local.py::test_fingerprint_sees_a_change_that_keeps_the_size",
        ),
        "class data: the data changed after this run was planned",
    ),
    Fault(
        "unreachable hub",
        "offline, a name that does not resolve, a proxy, a hub that answers with errors",
        ("tests/tasks/test_hub.py::",),
        "offline copy first, else one line",
    ),
    Fault(
        "a typo, a wrong type, an unknown group, lstart out of range, a list for a choice",
        "31 command lines",
        ("tests/run_cli/test_input.py::test_bad_input_is_a_few_lines_code_2_and_nothing_written",),
        "at most 3 lines, exit code 2, nothing written",
    ),
    Fault(
        "hostile generated code",
        "programs that reach for network, files, processes, memory, verdicts",
        ("tests/sandbox/test_hostile.py::",),
        "contained at every level that this machine has",
    ),
)
# what the launchers add to it
FURTHER = (
    Fault(
        "clock jumps",
        "time.time and the times of files jump by up to two days at every look",
        (
            "tests/faults/test_clock.py::test_a_sweep_under_a_jumping_clock",
            "tests/faults/test_clock.py::test_a_run_under_a_jumping_clock",
        ),
        "bit-equal, no limit reached, no duration below 0",
    ),
    Fault(
        "a killed Ray worker",
        "a raylet killed while its run trains; workers lost in turn",
        (
            "tests/launch/test_ray_cluster.py::",
            "tests/launch/test_ray_pool.py::test_a_lost_worker_is_replaced",
        ),
        "continues on another node, bit-equal",
    ),
)
FAULTS = (*PROTOCOL, *FURTHER)


def test_exists(test: str) -> bool:
    """Tell whether the file of a test has a function of its name."""
    path, _, name = test.partition("::")
    tree = ast.parse((CHECKOUT / path).read_text("utf-8"))
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    return not name or name.partition("[")[0] in names


test_exists.__test__ = False  # type: ignore[attr-defined]


def run_tests(results: Path, *, quick: bool) -> None:
    """Run the tests of all faults and write what came of each to ``results``."""
    from tests.faults import recorder

    tests = dict.fromkeys(
        test.partition("[")[0].removesuffix("::") for fault in FAULTS for test in fault.tests
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", recorder.__name__, *tests]
    environment = os.environ | {recorder.VARIABLE: str(results)}
    chosen = ["-m", "not slow"] if quick else []
    subprocess.run([*command, *chosen], cwd=CHECKOUT, env=environment, check=False)


def read_results(path: Path) -> list[dict[str, Any]]:
    """Return the last result of every test."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return list({line["test"]: line for line in lines}.values())


def render(results: Sequence[dict[str, Any]]) -> str:
    """Return the table as Markdown; a fault whose tests did not run has no result."""
    lines = ["| fault | injected | expected | result | measured |", "|---|---|---|---|---|"]
    for fault in FAULTS:
        found = [line for line in results if line["test"].startswith(fault.tests)]
        words = _measured([str(line["told"]) for line in found if line["told"]])
        cells = (
            fault.name,
            fault.injected,
            fault.expected,
            _outcome(found),
            _FOLDER.sub("", words),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _outcome(found: Sequence[dict[str, Any]]) -> str:
    if not found:
        return "not run"
    ran = [line for line in found if line["outcome"] != "skipped"]
    passed = sum(line["outcome"] == "passed" for line in ran)
    skipped = f", {len(found) - len(ran)} skipped" if len(ran) < len(found) else ""
    return f"{passed} of {len(ran)} tests{skipped}"


def _measured(words: Sequence[str]) -> str:
    """Return each thing told once, with how often."""
    counts = {word: words.count(word) for word in words}
    return "; ".join(word if n == 1 else f"{n} times: {word}" for word, n in counts.items())


def main(words: Sequence[str] | None = None) -> int:
    """Print the table; return 1 where a test of it has failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", action="store_true", help="run the tests first")
    parser.add_argument("--quick", action="store_true", help="run those that are not slow")
    parser.add_argument("--results", type=Path, help="JSON lines to read, or to add to")
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        path = options.results or Path(folder) / "results.jsonl"
        if options.run or options.quick:
            run_tests(path.absolute(), quick=options.quick)
        results = read_results(path) if path.exists() else []
    print(render(results))
    return 1 if any(line["outcome"] == "failed" for line in results) else 0


if __name__ == "__main__":
    sys.exit(main())
