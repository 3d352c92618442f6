"""The tables in Markdown; a training that is not equal to its judge's has no speed in any."""

from collections.abc import Iterable, Sequence

from bench.table import markdown
from bench_throughput.checks import Verdict, judge
from bench_throughput.jobs import CHECK_STEPS, NAMES, TRAINERS, find_trainer, parse_shape
from bench_throughput.rows import MISSING, Row, latest, select

# shape -> tokens/s on one H100 with the 0.1B model: what must be reached, what is aimed at
FIGURES = {
    "8x4096": (300_000, 450_000),
    "32x2048": (320_000, 470_000),
    "2x4096": (180_000, 300_000),
    "8x512": (120_000, 250_000),
}
MUST_BEAT_FLA, MUST_BEAT_UNFUSED, FUTURE_SEED_COST = 2.0, 4.0, 0.03
FLA = tuple(trainer.name for trainer in TRAINERS if trainer.kind == "fla")
Line = tuple[str, ...]


def compared(rows: Sequence[Row]) -> list[Row]:
    """Return the timed trainings, by shape and trainer."""
    found = select(rows, kind="train", purpose="compare")
    return sorted(found, key=lambda row: (_place(row["shape"]), NAMES.index(row["trainer"])))


def _place(shape: str) -> tuple[int, int]:
    parsed = parse_shape(shape)
    return parsed.length, parsed.batch


def shapes_of(rows: Sequence[Row]) -> list[str]:
    """Return the shapes of the timed trainings."""
    return list(dict.fromkeys(row["shape"] for row in compared(rows)))


def speed(rows: Sequence[Row], trainer: str, shape: str) -> float | None:
    """Return the tokens per second of a training that is equal to its judge's."""
    row = latest(rows, kind="train", purpose="compare", trainer=trainer, shape=shape)
    if row is None or not judge(rows, row).is_equal:
        return None
    return row["tokens_per_second"]


def render_comparison(rows: Sequence[Row]) -> str:
    """Return speed, spread, memory and equality of every training."""
    lines = []
    for row in compared(rows):
        verdict = judge(rows, row)
        shown = _speed_cells(row) if verdict.is_equal else ("NOT EQUAL", "", "", "", "")
        pads = f"{row['padded'] / row['tokens'] - 1:.1%}"
        facts = (f"{row['peak_gib']:.1f}", str(row["micro_batch"]), pads, row.get("step", ""))
        label = find_trainer(row["trainer"]).label
        lines.append((row["shape"], label, *shown, *facts, _distances(verdict)))
    head = (
        *("batch x L", "trainer", "tokens/s", "ms a step", "p10 .. p90", "mean ms", "MFU"),
        *("peak GiB", "examples at a time", "pads", "step", "loss / norm from its judge"),
    )
    return markdown(head, lines)


def _speed_cells(row: Row) -> Line:
    share = "" if row["mfu"] is None else f"{row['mfu']:.1%}"
    return (
        f"{row['tokens_per_second']:,.0f}", f"{row['milliseconds']:.2f}",
        f"{row['p10']:.2f} .. {row['p90']:.2f}", f"{row['mean']:.2f}", share,
    )  # fmt: skip


def _distances(verdict: Verdict) -> str:
    if verdict.problem:
        return verdict.problem
    if verdict.loss_distance is None or verdict.norm_distance is None:
        return "judges"
    return f"{verdict.loss_distance:.1e} / {verdict.norm_distance:.1e}"


def render_bars(rows: Sequence[Row]) -> str:
    """Return what was to be reached, and whether it was."""
    lines: list[Line] = []
    for shape in shapes_of(rows):
        ours = speed(rows, "ours", shape)
        if shape in FIGURES:
            must, aim = FIGURES[shape]
            lines.append(_bar("tokens/s, must", shape, ours, must))
            lines.append(_bar("tokens/s, aim", shape, ours, aim))
        peers = [value for name in FLA if (value := speed(rows, name, shape)) is not None]
        lines.append(_bar("x FLA's best", shape, _ratio(ours, max(peers, default=None)), 2.0))
        unfused = _ratio(ours, speed(rows, "unfused", shape))
        lines.append(_bar("x unfused", shape, unfused, MUST_BEAT_UNFUSED))
        seeded = _ratio(ours, speed(rows, "ours_fs", shape))
        cost = None if seeded is None else seeded - 1
        lines.append(_bar("Future-Seed costs", shape, cost, FUTURE_SEED_COST, at_most=True))
    return markdown(("bar", "batch x L", "measured", "wanted", "verdict"), lines)


def _ratio(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first / second


def _bar(
    name: str, shape: str, value: float | None, limit: float, *, at_most: bool = False
) -> Line:
    def number(x: float) -> str:
        return f"{x:.1%}" if at_most else f"{x:,.0f}" if x >= 1000 else f"{x:.2f}"

    wanted = ("at most " if at_most else "at least ") + number(limit)
    if value is None:
        return name, shape, "", wanted, "not measured"
    passed = value <= limit if at_most else value >= limit
    return name, shape, number(value), wanted, "pass" if passed else "MISS"


def render_starts(rows: Sequence[Row]) -> str:
    """Return what comes before the first step, in a fresh process and in one that has trained."""
    lines = []
    for row in compared(rows):
        cold = "cold_seconds" in row
        cells = (row.get("cold_seconds"), row.get("steady_seconds"))
        later = None if cold else row["set_up_seconds"] + row["first_step_seconds"]
        numbers = ("" if value is None else f"{value:.1f}" for value in (*cells, later))
        lines.append((find_trainer(row["trainer"]).label, row["shape"], *numbers))
    head = (
        *("trainer", "batch x L", "process start to first step, s", "to steady state, s"),
        "same process, another shape: to first step, s",
    )
    return markdown(head, lines)


def render_flops(rows: Sequence[Row]) -> str:
    """Return the model FLOPs per true token by part, forward and backward, of every L."""
    lines, parts = [], []
    for row in {row["shape"]: row for row in compared(rows)}.values():
        parts = list(row["flops"])
        counts = [value / row["tokens"] / 1e6 for value in row["flops"].values()]
        cells = (f"{count:.1f}" for count in (*counts, sum(counts)))
        lines.append((row["shape"], f"{row['answers'] / row['tokens']:.1%}", *cells))
    return markdown(("batch x L", "answers", *parts, "all, MFLOP a token"), lines)


def render_losses(rows: Sequence[Row]) -> str:
    """Return the losses of the first steps side by side."""
    lines = []
    for row in sorted(
        (r for r in rows if r["kind"] == "train" and r["purpose"] in ("compare", "check")),
        key=lambda r: (_place(r["shape"]), NAMES.index(r["trainer"])),
    ):
        losses = " ".join(f"{loss:.4f}" for loss in row["losses"][:CHECK_STEPS])
        norms = " ".join(f"{norm:.3f}" for norm in row["grad_norms"][:CHECK_STEPS])
        label = find_trainer(row["trainer"]).label
        lines.append((row["shape"], label, losses, norms, row["batches"]))
    return markdown(("batch x L", "trainer", "losses", "gradient norms", "batches"), lines)


def render_parity(rows: Sequence[Row]) -> str:
    """Return how far FLA's bf16 logits and loss are from ours in float32, same weights."""
    found = {row["trainer"]: row["parity"] for row in rows if "parity" in row}
    lines = [
        (find_trainer(name).label, *(f"{p[key]:.1e}" for key in ("logits", "loss", "bound")))
        for name, p in found.items()
    ]
    return markdown(("model", "logits", "loss", "bound"), lines) if lines else ""


def render_memory(rows: Sequence[Row]) -> str:
    """Return peak memory and speed by L, batch and what is computed twice."""
    found = select(rows, kind="train", purpose="memory")
    found.sort(key=lambda row: (_place(row["shape"]), row["choice"]))
    lines = []
    for row in found:
        plain = latest(found, shape=row["shape"], choice=found[0]["choice"])
        rate = f"{row['tokens_per_second']:,.0f}"
        share = "" if plain is None else f"{row['peak_gib'] / plain['peak_gib']:.2f}"
        sizes = (f"{row['peak_gib']:.2f}", share, str(row["micro_batch"]))
        lines.append((row["shape"], row["choice"], *sizes, rate))
    head = ("batch x L", "activation_checkpointing", "peak GiB", "of the first")
    return markdown((*head, "examples at a time", "tokens/s"), lines) if lines else ""


def render_missing(rows: Sequence[Row]) -> str:
    """Return what was skipped or failed, with the reason."""
    found = [row for row in rows if row["kind"] in MISSING]
    lines = [(r["purpose"], r["trainer"], r["shape"], r["kind"], r["reason"]) for r in found]
    return markdown(("what", "trainer", "batch x L", "", "reason"), lines) if lines else ""


def render_short(rows: Sequence[Row]) -> str:
    """Return tokens per second, a row a trainer and a column a shape."""
    shapes = shapes_of(rows)
    names = [name for name in NAMES if any(row["trainer"] == name for row in compared(rows))]
    lines = []
    for name in names:
        values = [speed(rows, name, shape) for shape in shapes]
        cells = ("" if value is None else f"{value:,.0f}" for value in values)
        lines.append((find_trainer(name).label, *cells))
    return markdown(("tokens/s", *shapes), lines)


def unequal(rows: Sequence[Row]) -> Iterable[str]:
    """Yield a sentence for every timed training that is not equal to its judge's."""
    for row in compared(rows):
        verdict = judge(rows, row)
        if not verdict.is_equal:
            yield f"{row['trainer']} {row['shape']}: {verdict.problem}"
