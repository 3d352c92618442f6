"""Result folders that a stranger gave."""

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as parquet

from fseed.records import (
    CHOICES_FILE,
    CONFIG_FILE,
    METRICS_FILE,
    PREDICTIONS_FILE,
    RESULT_FILE,
    append_metrics,
)
from tests.results.builders import RunSpec, finish_run
from tests.security import payloads
from tests.security.attack import Attack, Command, Place

Change = Callable[[Path, Place], None]
BASE = RunSpec()
ARM = RunSpec(arm="scalar_l10", correct=(2, 1, 2, 2))
UNREADABLE = (0, 1)


def sweep(place: Place) -> list[Path]:
    """Write an arm and its baseline into the gift; return their folders."""
    return [finish_run(place.gift, spec) for spec in (BASE, ARM)]


def _collected(change: Change) -> Callable[[Place], Command]:
    """Change the run of the arm, then collect the gift."""

    def plant(place: Place) -> Command:
        change(sweep(place)[1], place)
        return ["collect", str(place.gift), "--out", str(place.outputs), "--runs"]

    return plant


def _replaced(name: str, text: str | Callable[[Place], bytes]) -> Change:
    def change(run: Path, place: Place) -> None:
        is_text = isinstance(text, str)
        content = text.replace("CANARY", str(place.canary)).encode() if is_text else text(place)
        (run / name).write_bytes(content)

    return change


def _touching(place: Place) -> bytes:
    return payloads.touching_pickle(place.canary)


def _damaged() -> list[Attack]:
    tag = "seed: !!python/object/apply:os.mkdir [CANARY]\n"
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    inner = "task:\n" + "".join(f"  {line}\n" for line in bomb.splitlines())
    files = {
        "YAML tag in config.yaml": (CONFIG_FILE, tag, "could not determine"),
        "YAML aliases of aliases": (CONFIG_FILE, bomb, "aliases"),
        "YAML aliases in one section": (CONFIG_FILE, inner, "aliases"),
        "YAML alias of itself": (CONFIG_FILE, "a: &a [*a]\n", "aliases|recursive"),
        "pickle as choices.json": (CHOICES_FILE, _touching, "not valid JSON"),
        "pickle as predictions": (PREDICTIONS_FILE, _touching, "predictions.parquet"),
        "deep JSON": (RESULT_FILE, "[" * 200_000, "not valid JSON"),
        "number of a million digits": (RESULT_FILE, '{"a": ' + "9" * 1_000_000 + "}", "JSON"),
    }
    return [
        Attack(name, "records", "runs code or fills the memory when records are read",
               _collected(_replaced(file, content)), says, UNREADABLE)
        for name, (file, content, says) in files.items()
    ]  # fmt: skip


def _odd_files() -> list[Attack]:
    def pipe(name: str, *, of_sweep: bool = False) -> Change:
        def change(run: Path, place: Place) -> None:
            path = (run.parents[3] if of_sweep else run) / name
            path.unlink(missing_ok=True)
            os.mkfifo(path)

        return change

    def extension(run: Path, place: Place) -> None:
        table = parquet.read_table(run / PREDICTIONS_FILE)
        changed = payloads.with_python_extension(table, place.canary)
        parquet.write_table(changed, run / PREDICTIONS_FILE)

    def cache(run: Path, place: Place) -> None:
        place.write(".fseed/collect-cache.bin", payloads.touching_pickle(place.canary))

    would = "never ends to be read"
    return [
        Attack("pipe as metrics.jsonl", "records", would, _collected(pipe(METRICS_FILE)),
               codes=UNREADABLE),
        Attack("pipe as result.json", "records", would, _collected(pipe(RESULT_FILE)),
               "not a regular file", UNREADABLE),
        Attack("pipe as plan.json", "records", would,
               _collected(pipe("plan.json", of_sweep=True)), "not a regular file", UNREADABLE),
        Attack("pipe as decisions.jsonl", "records", would,
               _collected(pipe("decisions.jsonl", of_sweep=True)), "not a regular file",
               UNREADABLE),
        Attack("Arrow type in predictions", "records", "runs code when a table is read",
               _collected(extension), codes=UNREADABLE),
        Attack("pickle as collect cache", "records", "runs code when the cache is read",
               _collected(cache), codes=(0,)),
    ]  # fmt: skip


def _links() -> list[Attack]:
    def tables(place: Place) -> Command:
        sweep(place)
        (place.gift / "tables").symlink_to(place.home)
        return ["collect", str(place.gift)]

    def cache(place: Place) -> Command:
        sweep(place)
        (place.gift / ".fseed").symlink_to(place.home)
        return ["collect", str(place.gift), "--out", str(place.outputs)]

    def metrics(place: Place) -> Command:
        run = sweep(place)[1]
        (run / METRICS_FILE).unlink()
        (run / METRICS_FILE).symlink_to(place.victim)
        return lambda: _refused(lambda: append_metrics(run / METRICS_FILE, {"step": 1}))

    def report(place: Place) -> Command:
        sweep(place)
        (place.gift / "tables").mkdir()
        for name in ("report.html", "runs.csv", "tables.tex", "paired.parquet"):
            (place.gift / "tables" / name).symlink_to(place.victim)
        return ["collect", str(place.gift)]

    def cleaned(place: Place) -> Command:
        run = sweep(place)[1]
        (place.home / "s0-0123456789").mkdir()
        (place.home / "s0-0123456789" / "checkpoint.ckpt").write_text("mine")
        (run / "checkpoint.ckpt").symlink_to(place.victim)
        (run.parent / "s1-0123456789").symlink_to(place.home / "s0-0123456789")
        (place.gift / ".fseed").symlink_to(place.home)
        return ["clean", str(place.gift), "--yes", "--failed"]

    def lost(place: Place, output: str) -> bool:
        return not (place.home / "s0-0123456789" / "checkpoint.ckpt").exists()

    return [
        Attack("tables is a link", "records", "writes tables where the link leads", tables,
               "leads out of"),
        Attack("links in a folder to clean", "records", "removes files elsewhere", cleaned,
               codes=(0,), leaks=lost),
        Attack("cache folder is a link", "records", "writes where the link leads", cache,
               codes=(0,)),
        Attack("metrics.jsonl is a link", "records", "appends to what the link names", metrics,
               codes=(0,)),
        Attack("tables hold links", "records", "overwrites what the links name", report,
               codes=(0,)),
    ]  # fmt: skip


def _refused(act: Callable[[], None]) -> None:
    try:
        act()
    except OSError:
        return
    raise AssertionError("was written through a link")


ATTACKS: list[Attack] = [*_damaged(), *_odd_files(), *_links()]
