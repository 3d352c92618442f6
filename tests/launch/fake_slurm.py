#!/usr/bin/env python3
"""Slurm on one machine, as far as submitit asks for it: sbatch, srun, sacct, scancel, scontrol.

Called under each of these names. Everything it knows lies in the folder $FAKE_SLURM: a file per
task of an array with its state, process and number of starts.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

HOME = Path(os.environ["FAKE_SLURM"])
OFFSET = 1000  # from the number of an array to those of its tasks' own jobs


def sbatch(script: str) -> None:
    """Keep the script, print the number of the job, run its tasks in the background."""
    text = Path(script).read_text()
    number = len(list(HOME.glob("*.sh"))) + 1
    (HOME / f"{number}.sh").write_text(text)
    array = re.search(r"--array=0-(\d+)%(\d+)", text)
    tasks = [f"{number}_{index}" for index in range(int(array[1]) + 1)] if array else [str(number)]
    for task in tasks:
        tell(task, "state", "PENDING")
    print(f"Submitted batch job {number}", flush=True)
    width = int(array[2]) if array else 1
    # leave the caller's session, as a daemon on another machine would be
    if os.fork() == 0:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        schedule(number, tasks, width)
        os._exit(0)


def schedule(number: int, tasks: list[str], width: int) -> None:
    """Run the tasks, ``width`` at a time; again where a task was requeued."""
    waiting, running = list(tasks), {}
    while waiting or running:
        while waiting and len(running) < width:
            task = waiting.pop(0)
            if ask(task, "state") == "CANCELLED":
                continue
            tell(task, "state", "RUNNING")
            tell(task, "starts", str(int(ask(task, "starts") or 0) + 1))
            running[task] = subprocess.Popen(
                ["bash", str(HOME / f"{number}.sh")], env=environment(number, task)
            )
            (HOME / f"width-{len(running)}").touch()
        time.sleep(0.05)
        for task, process in list(running.items()):
            if process.poll() is None:
                continue
            del running[task]
            if ask(task, "requeue"):
                (HOME / f"{task}.requeue").unlink()
                waiting.append(task)
            elif ask(task, "state") == "RUNNING":
                tell(task, "state", "FAILED" if process.returncode else "COMPLETED")


def environment(number: int, task: str) -> dict[str, str]:
    index = task.partition("_")[2]
    array = {"SLURM_ARRAY_JOB_ID": str(number), "SLURM_ARRAY_TASK_ID": index} if index else {}
    job = str(number * OFFSET + int(index)) if index else str(number)
    return os.environ | array | {"SLURM_JOB_ID": job, "SLURM_PROCID": "0", "FAKE_TASK": task}


def srun(*words: str) -> None:
    """Run a command with its output in files."""
    options, command = list(words), []
    while options and options[0].startswith("-"):
        option = options.pop(0)
        if option in ("--output", "--error"):
            path = fill(options.pop(0))
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(file, 1 if option == "--output" else 2)
    command = [fill(word) for word in options]
    tell(os.environ["FAKE_TASK"], "process", str(os.getpid()))
    os.execvp(command[0], command)


def fill(word: str) -> str:
    names = {"%A": "SLURM_ARRAY_JOB_ID", "%a": "SLURM_ARRAY_TASK_ID", "%j": "SLURM_JOB_ID"}
    if not word.endswith((".out", ".err")):
        return word
    for sign, name in names.items():
        word = word.replace(sign, os.environ.get(name, sign))
    return word.replace("%t", "0")


def sacct(*words: str) -> None:
    """Print the states of jobs."""
    print("JobID|State|NodeList")
    for number in (words[i + 1] for i, word in enumerate(words) if word == "-j"):
        for path in sorted(HOME.glob(f"{number}*.state")):
            if path.stem == number or path.stem.startswith(f"{number}_"):
                print(f"{path.stem}|{path.read_text()}|node1")


def scontrol(command: str, task: str) -> None:
    """Requeue a task."""
    assert command == "requeue"
    tell(task, "requeue", "1")


def scancel(task: str, *words: str) -> None:
    """Send a signal, or cancel with SIGTERM."""
    name = words[1].removeprefix("SIG") if words else "TERM"
    if not words:
        tell(task, "state", "CANCELLED")
    process = ask(task, "process")
    if process:
        os.kill(int(process), signal.Signals[f"SIG{name}"])


def tell(task: str, what: str, value: str) -> None:
    path = HOME / f"{task}.{what}"
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_text(value)
    temporary.rename(path)


def ask(task: str, what: str) -> str:
    path = HOME / f"{task}.{what}"
    return path.read_text() if path.exists() else ""


if __name__ == "__main__":
    globals()[Path(sys.argv[0]).name](*sys.argv[1:])
