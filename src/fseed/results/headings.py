"""What all tables rest on, in one line each: models, data sources, number of runs."""

from collections import Counter
from collections.abc import Sequence

from fseed.results.formats import plain
from fseed.results.runs import Run
from fseed.results.scalars import as_mapping


def describe_runs(runs: Sequence[Run], *, num_foreign_files: int) -> list[str]:
    """Return the first lines of every table."""
    known = [run for run in runs if run.settings]
    models = _told_lines([_describe_model(run) for run in known])
    sources = _told_lines([_describe_data(run) for run in known])
    statuses = Counter(run.status for run in runs)
    counts = ", ".join(f"{number} {status}" for status, number in statuses.items())
    foreign = num_foreign_files
    rest = f"; {foreign:,} files that belong to no run passed over" if foreign else ""
    return [*models, *sources, f"runs  {counts or 'none'}{rest}"]


def _told_lines(described: Sequence[tuple[str, str | None]]) -> list[str]:
    """Return each ``name: description`` once; a name without any is told to lack one."""
    named = {name for name, text in described if text is not None}
    lines = [
        f"{name}: {text if text is not None else 'not recorded'}"
        for name, text in described
        if text is not None or name not in named
    ]
    return list(dict.fromkeys(lines))


def _describe_model(run: Run) -> tuple[str, str | None]:
    told = as_mapping(run.record.provenance.get("model"))
    name = f"model {told.get('name', run.labels[2])}"
    if told.get("parameters") is None:
        return name, None
    weights = str(run.record.provenance.get("weights_hash"))[:8]
    starts = {"random": "randomly initialised", "checkpoint": f"from checkpoint {weights}"}
    start = starts.get(str(told.get("initialization")), "start of the weights not recorded")
    return name, f"{told.get('num_layers')} layers, {plain(told['parameters'])} parameters, {start}"


def _describe_data(run: Run) -> tuple[str, str | None]:
    counts = as_mapping(as_mapping(run.record.provenance.get("data")).get("counts"))
    name = f"data  {run.labels[0]}, source {run.labels[1]}"
    if not counts:
        return name, None
    sizes = ", ".join(f"{number} {split}" for split, number in counts.items())
    return name, f"{sizes}, hash {str(run.record.provenance.get('data_hash'))[:8]}"
