"""The memory probe of a staged sweep in a process of its own: ``python -m fseed.compose.probe``.

Reads a pickled run from standard input and writes what was measured as JSON to the file named on
the command line. Exit code 2 and one line on standard error: the run cannot work.
"""

import json
import os
import pickle
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from fseed.errors import UserError
from fseed.planned_run import PlannedRun
from fseed.sweep.staged.probe_file import Probe, ProbeFailed

TIMEOUT_SECONDS = 3600.0


def measure(run: PlannedRun, *, timeout_seconds: float = TIMEOUT_SECONDS) -> Probe:
    """Probe ``run`` in a fresh process, whose memory and crashes are its own.

    Raises:
        ProbeFailed: with the last line that the process wrote, or how it ended.
    """
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "probe.json"
        command = [sys.executable, "-P", "-m", "fseed.compose.probe", str(answer)]
        try:
            ended = subprocess.run(
                command,
                input=pickle.dumps(run),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=timeout_seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ProbeFailed(f"the probe took over {timeout_seconds:.0f} s") from error
        if ended.returncode != 0:
            raise ProbeFailed(_explain(ended.returncode, ended.stderr.decode(errors="replace")))
        return Probe(arm=run.arm, **json.loads(answer.read_text("utf-8")))


def _explain(code: int, text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    last = lines[-1] if lines else "no message"
    if code < 0:
        return f"the probe was ended by signal {-code} (9: by hand or for its memory); {last}"
    return f"the probe failed: {last}"


def main() -> int:
    """Measure the run on standard input."""
    # threads that spin while they wait stall a busy machine; OpenMP reads this at import
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    run = pickle.load(sys.stdin.buffer)
    from fseed.training.probe import probe_memory

    try:
        found = probe_memory(run, reads_data=True)
    except UserError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    Path(sys.argv[1]).write_text(json.dumps(asdict(found)), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
