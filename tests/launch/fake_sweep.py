"""A launcher in a process of its own, over the fake worker: ``fake_sweep.py ROOT SLOTS ARM...``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import signal

from fseed.config.schema import LauncherConfig
from fseed.lasting_console import LastingConsole
from fseed.launch.pool import launch_jobs
from tests.launch.jobs import FAKE_WORKER, cpu_plan, make_jobs


def main(root: str, slots: str, *arms: str) -> int:
    # a suite that was started in the background hands on that Ctrl-C is ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    options = LauncherConfig(retries=3, grace_seconds=60)
    try:
        launch_jobs(
            make_jobs(Path(root), *arms),
            options,
            plan=cpu_plan(int(slots)),
            command=FAKE_WORKER,
            console=LastingConsole(width=200),
        )
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
