"""Experiments, options and overrides that a stranger wrote."""

import textwrap
from collections.abc import Callable, Sequence

from tests.security.attack import Attack, Command, Place

Plant = Callable[[Place], Command]
NOT_ALLOWED = "a configuration may not start this"
BY_HAND = "only your own command line may do"
LOGGING = "logging would import or open this"
LAUNCHER = "a file may not give a launcher commands, folders or addresses"


def experiment(text: str, *words: str, sweep: bool = True) -> Plant:
    """Plant an experiment; CANARY, HOME and GIFT stand for the paths."""

    def plant(place: Place) -> Command:
        content = "# @package _global_\n" + textwrap.dedent(text)
        for name, path in _names(place).items():
            content = content.replace(name, path)
        place.write("experiment/evil.yaml", content)
        mode = ["-m"] if sweep else []
        return ["run", *mode, "experiment=evil", "--config-dir", str(place.gift), *words]

    return plant


def words(*given: str, files: Sequence[tuple[str, str]] = ()) -> Plant:
    """Plant files, then give these words."""

    def plant(place: Place) -> Command:
        for name, text in files:
            for mark, path in _names(place).items():
                text = text.replace(mark, path)
            place.write(name, text)
        told = []
        for word in given:
            for mark, path in _names(place).items():
                word = word.replace(mark, path)
            told.append(word)
        return ["run", *told]

    return plant


def _names(place: Place) -> dict[str, str]:
    return {"CANARY": str(place.canary), "HOME": str(place.home), "GIFT": str(place.gift)}


def _callback(target: str, *lines: str) -> str:
    body = "".join(f"      {line}\n" for line in lines)
    return f"hydra:\n  callbacks:\n    evil:\n      _target_: {target}\n{body}"


def _callbacks() -> list[Attack]:
    payloads = {
        "os.system": ["_args_: ['touch CANARY']"],
        "subprocess.Popen": ["_args_: [[touch, CANARY]]"],
        "builtins.exec": ["""_args_: ["open('CANARY', 'w')"]"""],
        "builtins.open": ["_args_: [CANARY, w]"],
        "logging.FileHandler": ["filename: CANARY"],
        "os.mkdir": ["path: CANARY"],
        "runpy.run_path": ["path_name: GIFT/payload.py"],
        "pathlib.Path.write_text": ["_args_: [{_target_: pathlib.Path, _args_: [CANARY]}, x]"],
        "hydra.experimental.callbacks.PickleJobInfoCallback": [],
        "hydra.utils.call": ["config: {_target_: os.mkdir, path: CANARY}"],
        "socket.create_connection": ["address: [127.0.0.1, 9]"],
    }
    # Hydra itself refuses the others in this version
    live = {"builtins.open", "logging.FileHandler", "os.mkdir", "pathlib.Path.write_text"}
    live |= {"hydra.utils.call"}
    return [
        Attack(
            f"callback {target}",
            "configuration",
            "calls any function when the sweep starts",
            experiment(_callback(target, *lines), "sweep.dry_run=true"),
            NOT_ALLOWED,
            is_live=target in live,
        )
        for target, lines in payloads.items()
    ]


def _plugins() -> list[Attack]:
    nested = "{_target_: logging.FileHandler, filename: CANARY}"
    decoded = "${oc.decode:'{_target_: logging.FileHandler, filename: CANARY}'}"
    sweeper = (
        "hydra:\n  sweeper:\n    _target_: "
        "hydra_plugins.fseed_paired_sweeper.sweeper.PairedSweeper\n    params:\n"
    )
    return [
        Attack(
            "launcher os.system", "configuration", "runs a command as the launcher",
            experiment("hydra:\n  launcher:\n    _target_: os.system\n"),
            NOT_ALLOWED,
        ),
        Attack(
            "launcher of an unknown plugin", "configuration", "starts a class of a planted package",
            experiment("hydra:\n  launcher:\n    _target_: hydra_plugins.evil.Launcher"),
            NOT_ALLOWED,
        ),
        Attack(
            "sweeper subprocess.Popen", "configuration", "runs a command as the sweeper",
            experiment("hydra:\n  sweeper:\n    _target_: subprocess.Popen\n"),
            NOT_ALLOWED,
        ),
        Attack(
            "target inside the sweeper's values", "configuration", "is built as an argument",
            experiment(f"{sweeper}      seed: {nested}", "sweep.dry_run=true"),
            NOT_ALLOWED, is_live=True,
        ),
        Attack(
            "target made by oc.decode", "configuration", "hides a target in a text",
            experiment(f"{sweeper}      seed: \"{decoded}\"", "sweep.dry_run=true"),
            r"the resolver oc\.decode is not allowed",
        ),
        Attack(
            "target made by oc.create", "configuration", "hides a target in a text",
            experiment(f"{sweeper}      seed: \"{decoded.replace('decode', 'create')}\""),
            r"the resolver oc\.create is not allowed",
        ),
        Attack(
            "resolver with a composed name", "configuration", "hides the resolver's name",
            experiment('task:\n  order: env\nmodel:\n  name: "${oc.${task.order}:HF_TOKEN}"'),
            "interpolation inside the name",
        ),
        Attack(
            "swept hydra key", "configuration", "sets the launcher through swept values",
            experiment("hydra:\n  sweeper:\n    params:\n      hydra.verbose: true"),
            "no key that a file may sweep",
        ),
        Attack(
            "swept key with a second word", "configuration", "smuggles an override into a key",
            experiment("hydra:\n  sweeper:\n    params:\n      'seed=0 +hydra.x': 1"),
            "no key that a file may sweep",
        ),
        Attack(
            "swept output.root", "configuration", "moves the results through swept values",
            experiment("hydra:\n  sweeper:\n    params:\n      output.root: HOME"), BY_HAND,
            is_live=True,
        ),
        Attack(
            "words added to the command line", "configuration", "is composed again in each job",
            experiment("hydra:\n  overrides:\n    hydra: ['hydra.job.env_set.A=b']"),
            "a file adds",
        ),
        Attack(
            "foreign option file of hydra/launcher", "configuration", "runs a command",
            words("-m", "hydra/launcher=evil", "--config-dir", "GIFT",
                  files=[("hydra/launcher/evil.yaml", "_target_: os.system\ncommand: id\n")]),
            NOT_ALLOWED,
        ),
        Attack(
            "target in the options of a task", "configuration", "is built with the task",
            experiment("task:\n  options:\n    split: {_target_: os.mkdir, path: CANARY}"),
            NOT_ALLOWED,
        ),
    ]  # fmt: skip


def _logging() -> list[Attack]:
    def handler(kind: str, *lines: str, part: str = "job_logging") -> Plant:
        body = "".join(f"\n        {line}" for line in lines)
        text = (
            f"hydra:\n  {part}:\n    version: 1\n    handlers:\n      evil:\n        {kind}{body}\n"
            "    root: {handlers: [evil]}\n"
        )
        return experiment(text, "budget.steps=2")

    would = "is called when logging is set up for a job"
    factory = "'()': os.mkdir"
    elsewhere = (
        "hydra:\n  job_logging: ${hydra.evil}\n  evil:\n    version: 1\n    handlers:\n"
        "      evil: {'()': os.mkdir, path: CANARY}\n    root: {handlers: [evil]}\n"
    )
    return [
        Attack("logging factory", "configuration", would, handler(factory, "path: CANARY"), LOGGING,
               is_live=True),
        Attack("hydra_logging factory", "configuration", would,
               handler(factory, "path: CANARY", part="hydra_logging"), LOGGING, is_live=True),
        Attack("log file outside", "configuration", "creates or appends to any file",
               handler("class: logging.FileHandler", "filename: HOME/victim"),
               LOGGING),
        Attack("log handler that sends mail", "configuration", "sends the log away",
               handler("class: logging.handlers.SMTPHandler", "mailhost: localhost"), LOGGING),
        Attack("log handler that listens", "configuration", "unpickles what it is sent",
               handler("class: logging.handlers.SocketHandler", "host: localhost", "port: 9"),
               LOGGING),
        Attack("log stream ext://", "configuration", "imports a module to find the stream",
               handler("class: logging.StreamHandler", "stream: ext://payload.stream"), LOGGING),
        Attack("log formatter class", "configuration", "imports a module to find the class",
               experiment("hydra:\n  job_logging:\n    formatters: {evil: {class: payload.F}}"),
               LOGGING),
        Attack("logging by reference", "configuration", "hides the handler elsewhere",
               experiment(elsewhere), r"hydra\.job_logging|no such key|Key 'evil'"),
    ]  # fmt: skip


def _launching() -> list[Attack]:
    def slurm(text: str) -> Plant:
        return experiment(
            f"defaults:\n  - override /hydra/launcher: submitit_slurm\n{text}", "sweep.dry_run=true"
        )

    def option(line: str) -> Plant:
        return slurm(f"hydra:\n  launcher:\n    {line}\n")

    would = "is a line of the script that Slurm runs"
    return [
        Attack("Slurm setup commands", "configuration", would,
               option("setup: ['touch CANARY']"), LAUNCHER),
        Attack("line break in a Slurm comment", "configuration", would,
               option('comment: "x\\ntouch CANARY"'), LAUNCHER),
        Attack("Slurm parameter wrap", "configuration", would,
               option("additional_parameters: {wrap: touch CANARY}"), LAUNCHER),
        Attack("submitit folder outside", "configuration", "writes pickles to any folder",
               option("submitit_folder: HOME/jobs"), LAUNCHER),
        Attack("submitit folder by ..", "configuration", "writes pickles above the results",
               option("submitit_folder: '${hydra.sweep.dir}/../../home'"), LAUNCHER),
    ]  # fmt: skip


def _yaml() -> list[Attack]:
    def raw(text: str) -> Plant:
        return experiment(text, sweep=False)

    return [
        Attack("YAML tag python/object/apply", "configuration", "calls a function while parsing",
               raw("seed: !!python/object/apply:os.mkdir [CANARY]"), "could not determine|tag"),
        Attack("YAML tag python/name", "configuration", "imports a module while parsing",
               raw("seed: !!python/name:payload.x"), "could not determine|tag"),
        Attack("config.yaml in the gift", "configuration", "replaces the whole configuration",
               words("--config-dir", "GIFT", "sweep.dry_run=true",
                     files=[("config.yaml", _callback("os.mkdir", "path: CANARY"))]),
               None, codes=(0,)),
        Attack("hydra_plugins in the current folder", "configuration", "is imported by Hydra",
               words("sweep.dry_run=true", "budget.steps=2", files=[
                   ("hydra_plugins/evil/__init__.py", ""),
                   ("hydra_plugins/evil/plugin.py", "open('CANARY', 'w')\n"),
               ]), None, codes=(0,), in_process=False),
    ]  # fmt: skip


ATTACKS: list[Attack] = [
    *_callbacks(),
    *_plugins(),
    *_logging(),
    *_launching(),
    *_yaml(),
]
