"""A plan in words: what runs, what is skipped, what it costs, where it goes."""

from collections import Counter

from fseed.config.schema import RunConfig
from fseed.sweep.plan import RunState, SweepPlan


def render_plan(plan: SweepPlan) -> str:
    """Return the table of ``sweep.dry_run=true``: one line per run, then the totals."""
    rows = [("run", "arm", "seed", "status", "steps", "tokens", "folder")]
    for entry in plan.entries:
        config = entry.run.config
        rows.append(
            (
                plan.position(entry.run),
                entry.run.arm + (" (added)" if entry.is_added else ""),
                str(config.seed),
                entry.state.value,
                _steps_text(config),
                _tokens_text(config),
                str(entry.run.run_dir),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])
        for row in rows
    ]
    return "\n".join([*lines, *render_notes(plan), render_summary(plan)])


def render_summary(plan: SweepPlan) -> str:
    """Return one line: how many runs in which state, and the most tokens they can train on."""
    states = Counter(entry.state for entry in plan.entries)
    counts = ", ".join(f"{states[state]} {state.value}" for state in RunState if states[state])
    num_added = sum(entry.is_added for entry in plan.entries)
    added = f", {_count(num_added, 'baseline')} added" if num_added else ""
    repeated = (
        f", {_count(plan.num_duplicates, 'repeated point')} dropped" if plan.num_duplicates else ""
    )
    left = plan.to_run
    tokens = sum(max_tokens(run.config) for run in left)
    cost = f"{len(left)} to start, at most {tokens:,} training tokens" if left else "none to start"
    return f"{_count(len(plan.entries), 'run')}: {counts}{added}{repeated}; {cost}"


def render_notes(plan: SweepPlan) -> list[str]:
    """Return the remarks on the arms, each once with the arms it is about."""
    arms: dict[str, dict[str, None]] = {}
    for entry in plan.entries:
        for note in entry.notes:
            arms.setdefault(note, {})[entry.run.arm] = None
    return [f"note: {note} ({some_names(list(names))})" for note, names in arms.items()]


def max_tokens(config: RunConfig) -> int:
    """Return the most prompt and answer tokens that a run can train on."""
    per_step = config.budget.batch_size * config.task.max_length_tokens
    if config.budget.tokens is not None:
        return config.budget.tokens + per_step - 1  # rounded up to a whole step
    assert config.budget.steps is not None
    return config.budget.steps * per_step


def some_names(names: list[str]) -> str:
    """Return up to three names, or the first two and how many more there are."""
    return ", ".join(names if len(names) <= 3 else [*names[:2], f"{len(names) - 2} more"])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _steps_text(config: RunConfig) -> str:
    return "-" if config.budget.steps is None else str(config.budget.steps)


def _tokens_text(config: RunConfig) -> str:
    if config.budget.tokens is not None:
        return f"{config.budget.tokens:,}"
    return f"<= {max_tokens(config):,}"
