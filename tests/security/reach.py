"""Configurations that reach for files elsewhere or for secrets of the environment."""

from pathlib import Path

from fseed.sweep.plan import plan_run
from tests.configs import compose
from tests.security.attack import CANARY_VARIABLE, SECRETS, Attack, Command, Place
from tests.security.configurations import BY_HAND, Plant, experiment, words


def _places() -> list[Attack]:
    def hydra(line: str, *more: str) -> Plant:
        return experiment(f"hydra:\n  {line}\n", "budget.steps=2", *more)

    set_variable = f"job: {{env_set: {{{CANARY_VARIABLE}: '1'}}}}"
    fixed = {
        "sweep.dir": "sweep: {dir: HOME/out}",
        "run.dir": "run: {dir: HOME/out}",
        "sweep.subdir": "sweep: {subdir: ../../home/out}",
        "output_subdir": "output_subdir: ../../home/out",
        "job.chdir": "job: {chdir: true}",
        "job.env_set": set_variable,
        "job.env_copy": "job: {env_copy: [HF_TOKEN]}",
        "job.name": "job: {name: ../../home/out}",
    }
    live = {"sweep.subdir", "output_subdir"}
    attacks = [
        Attack(f"hydra.{key}", "configuration", "moves files or the environment of jobs",
               hydra(line), BY_HAND, is_live=key in live)
        for key, line in fixed.items()
    ]  # fmt: skip
    return [
        *attacks,
        Attack("search path in an experiment", "configuration", "imports a module of options",
               hydra("searchpath: ['pkg://antigravity']"), "searchpath"),
        Attack("search path pkg://", "command line", "imports a module of options",
               words("hydra.searchpath=[pkg://payload]",
                     files=[("payload.py", "open('CANARY', 'w')\n")]),
               "a module would be imported"),
        Attack("output.root by a file", "configuration", "writes the results anywhere",
               experiment("output:\n  root: HOME/out\n", sweep=False), BY_HAND, is_live=True),
        Attack("unsandboxed by a file", "configuration", "runs generated programs with all rights",
               experiment("mbpp:\n  allow_unsandboxed: true\n", sweep=False), BY_HAND),
        Attack("sweep.name ../", "configuration", "writes above the results",
               experiment("sweep:\n  name: ../home/out\n", sweep=False), "is a folder name"),
        Attack("sweep.name absolute", "command line", "writes anywhere",
               words("sweep.name=HOME/out"), "is a folder name"),
        Attack("sweep.stage ..", "command line", "writes above the results",
               words("sweep.stage=.."), "is a folder name"),
        Attack("sweep.name with a line break", "command line", "forges a line of the log",
               words("sweep.name='a\nb'"), "control character|is a folder name|cannot read"),
        Attack("sweep.name with NUL", "configuration", "cuts a path short",
               experiment('sweep:\n  name: "a\\0b"\n', sweep=False), "control character"),
        Attack("task.name ../", "configuration", "writes above the results",
               experiment("task:\n  name: ../../home\n", sweep=False), "task"),
        Attack("terminal commands in a name", "configuration", "steers the terminal",
               experiment('model:\n  name: "\\e]0;owned\\a"\n', sweep=False), "control character",
               leaks=lambda place, output: "\x1b" in output),
        Attack("link out of the results", "records", "writes where a link of a stranger leads",
               _link_in_results, "leads out of"),
        Attack("lock that is a link", "records", "empties the file that the link names",
               _linked_lock, "cannot write", codes=(1,)),
    ]  # fmt: skip


def _link_in_results(place: Place) -> Command:
    (place.outputs / "default").symlink_to(place.home)
    return ["run", "budget.steps=2"]


def _linked_lock(place: Place) -> Command:
    folder = _planned_folder()
    folder.mkdir(parents=True)
    (folder / ".lock").symlink_to(place.victim)
    return ["run", "budget.steps=2"]


def _planned_folder() -> Path:
    return plan_run(compose("budget.steps=2")).run.run_dir


def _secrets() -> list[Attack]:
    def shows(place: Place, output: str) -> bool:
        files = [path for path in place.outputs.rglob("*") if path.is_file()]
        seen = output + "".join(path.read_text("utf-8", "replace") for path in files)
        return any(secret in seen for secret in SECRETS.values())

    would = "puts a secret of the environment into the records"
    refusal = "may hold a secret"
    return [
        Attack("oc.env token", "configuration", would,
               experiment('model:\n  name: "${oc.env:HF_TOKEN}"', sweep=False), refusal,
               leaks=shows, is_live=True),
        Attack("oc.env with a default", "configuration", would,
               experiment('model:\n  name: "${oc.env:DB_PASSWORD,x}"', sweep=False), refusal,
               leaks=shows, is_live=True),
        Attack("oc.env inside another resolver", "configuration", would,
               experiment('model:\n  name: "${now:${oc.env:WANDB_API_KEY}}"', sweep=False),
               refusal, leaks=shows),
        Attack("oc.env on the command line", "command line", would,
               words("model.name=${oc.env:HF_TOKEN}"), refusal, leaks=shows),
        Attack("oc.env with a composed name", "configuration", would,
               experiment('model:\n  name: "${oc.env:${model.tokenizer}}"', sweep=False),
               refusal, leaks=shows),
        Attack("oc.env as an option", "configuration", "shows a secret in an error",
               experiment("defaults:\n  - override /task: ${oc.env:HF_TOKEN}\n", sweep=False),
               ".", leaks=shows),
    ]  # fmt: skip


ATTACKS: list[Attack] = [*_places(), *_secrets()]
