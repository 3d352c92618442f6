"""Summaries with a ``filter`` line, and lists of runs, of the earlier work."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fseed.results.legacy.model import ACCURACY, LOSS, Contents, LegacyRun, SeedPair, Study
from fseed.results.legacy.vocabulary import preset_of, task_of

NUMBER = r"([+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|nan|inf))"
_HEAD = re.compile(rf"(?:L=(\d+) )?pairs=(\d+) mean d_acc={NUMBER} std={NUMBER}")
_MEAN = re.compile(rf"mean d_(\w+)={NUMBER} std={NUMBER}")
_SIGNS = re.compile(r"sign\(\+/0/-\)=(\d+)/(\d+)/(\d+)")
_SEED = re.compile(
    rf"seed=(-?\d+) d_acc={NUMBER}(?: d_seq={NUMBER})? "
    rf"\((?:tok )?no={NUMBER} fs={NUMBER}(?:; seq no={NUMBER} fs={NUMBER})?\) d_loss={NUMBER}$"
)
_SETTING = re.compile(r"(\w+)=(\S+)")
_RUN = re.compile(
    rf"(no_fs|prompt_fs)\s+best_loss={NUMBER}@(\d+) best_acc={NUMBER}@(\d+) "
    rf"last_loss={NUMBER} last_acc={NUMBER} dir=(\S+)$"
)
_DELTA = re.compile(rf"DELTA\(prompt_fs - no_fs\): best_loss {NUMBER} \| best_acc {NUMBER}$")
_TOTAL = re.compile(r"Total runs parsed: (\d+)$")


def study_name(path: Path) -> str:
    """Return the file name without what all summaries share."""
    return path.stem.removeprefix("_summary_")


def text_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, text) of the lines that are neither blank nor a rule."""
    for number, line in enumerate(text.splitlines(), start=1):
        content = line.strip()
        if content.strip("=-"):
            yield number, content


def read_study(path: Path, text: str, contents: Contents) -> None:
    """Add the blocks of a summary with a ``filter`` line, and both sides of every seed."""
    settings: dict[str, Any] = {}
    study: Study | None = None
    for number, line in text_lines(text):
        if line.startswith("filter: "):
            settings = _literal(line.removeprefix("filter: "))
            if not settings:
                contents.problems.append(f"{path}:{number}: the filter line is no mapping")
        elif (head := _HEAD.match(line)) is not None:
            study = _study(path, number, line, settings=settings, head=head)
            contents.studies.append(study)
        elif (seed := _SEED.match(line)) is not None and study is not None:
            contents.runs += _add_seed(study, number, seed)
        else:
            contents.problems.append(f"{path}:{number}: not understood: {line[:80]}")
    if study is None:
        contents.tell_missing(str(path), study_name(path), "the summary holds no result")


def read_run_list(path: Path, text: str, contents: Contents) -> None:
    """Add the runs of a list with a line of settings above every group."""
    settings: dict[str, Any] = {}
    runs: list[LegacyRun] = []
    for number, line in text_lines(text):
        if (run := _RUN.match(line)) is not None:
            runs.append(_listed_run(path, number, run, settings=settings))
        elif (total := _TOTAL.match(line)) is not None:
            if int(total.group(1)) != len(runs):
                told = f"says {total.group(1)} runs were parsed and lists {len(runs)}"
                contents.tell_missing(f"{path}:{number}", study_name(path), told)
        elif line.startswith("seed="):
            settings = {key: _value(text) for key, text in _SETTING.findall(line)}
        elif _DELTA.match(line) is None:
            contents.problems.append(f"{path}:{number}: not understood: {line[:80]}")
    contents.runs += runs


def _study(
    path: Path, number: int, line: str, *, settings: Mapping[str, Any], head: re.Match[str]
) -> Study:
    found = _MEAN.findall(line)
    signs = _SIGNS.search(line)
    return Study(
        path=path,
        line=number,
        name=study_name(path),
        settings=settings,
        length_tokens=int(head.group(1)) if head.group(1) is not None else _length(settings),
        num_pairs=int(head.group(2)),
        means={f"d_{name}": float(mean) for name, mean, _ in found},
        deviations={f"d_{name}": float(deviation) for name, _, deviation in found},
        signs=tuple(map(int, signs.groups())) if signs is not None else None,  # pyright: ignore[reportArgumentType]
        pairs=[],
    )


def _length(settings: Mapping[str, Any]) -> int | None:
    """Return the number of cells of a Sudoku; other summaries tell their length."""
    base = settings.get("base")
    return base**4 if isinstance(base, int) else None


def _add_seed(study: Study, number: int, seed: re.Match[str]) -> list[LegacyRun]:
    """Note the pair in its study and return its two runs."""
    difference, _, no_fs, arm, seq_no_fs, seq_arm, loss = seed.groups()[1:]
    pair = SeedPair(
        line=number,
        seed=int(seed.group(1)),
        baseline=float(no_fs),
        arm=float(arm),
        difference=float(difference),
        loss_difference=float(loss),
    )
    study.pairs.append(pair)
    names = {"no_fs": (no_fs, seq_no_fs), preset_of(study.settings) or "prompt_fs": (arm, seq_arm)}
    return [
        LegacyRun(
            path=study.path,
            line=number,
            study=study.label,
            task=task_of(study.name),
            stage="plain",
            arm=name,
            seed=pair.seed,
            batch_size=study.settings.get("bsz"),
            scores=_both(*values),
            settings=study.settings,
            is_rounded=True,
        )
        for name, values in names.items()
    ]


def _both(accuracy: str, sequence: str | None) -> dict[str, float]:
    exact = {} if sequence is None else {"best.sequence_accuracy": float(sequence)}
    return {ACCURACY: float(accuracy), **exact}


def _listed_run(
    path: Path, number: int, run: re.Match[str], *, settings: Mapping[str, Any]
) -> LegacyRun:
    arm, loss, _, accuracy, _, last_loss, last_accuracy, folder = run.groups()
    return LegacyRun(
        path=path,
        line=number,
        study=study_name(path),
        task=task_of(study_name(path)),
        stage="plain",
        arm=arm,
        seed=settings.get("seed"),
        batch_size=settings.get("bsz"),
        scores={
            **{ACCURACY: float(accuracy), LOSS: float(loss)},
            **{"last.token_accuracy": float(last_accuracy), "last.loss": float(last_loss)},
        },
        settings=settings,
        folder=folder,
        is_rounded=True,
    )


def _literal(text: str) -> dict[str, Any]:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return {}
    return value if isinstance(value, dict) else {}


def _value(text: str) -> Any:
    """Return a Python literal, else the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
