from dataclasses import replace
from pathlib import Path

import pytest

from fseed.claims.experiment_checks import Published, load_published
from fseed.claims.manifest import read_manifest
from fseed.claims.values import find_row, resolve, row_labels
from fseed.errors import UserError


@pytest.fixture(scope="module")
def published(original: Path) -> dict[str, Published]:
    study, findings = load_published(original, read_manifest(original).experiments["study"])
    assert findings == []
    assert study is not None
    return {"study": study}


def test_units_and_digits(published: dict[str, Published]) -> None:
    row = find_row(published["study"], ["scalar_l10"])
    assert row.difference is not None
    assert row.baseline_value is not None
    assert row.loss_difference is not None
    for key, text, unit in [
        ("difference", f"{100 * row.difference:+.2f}", "pp"),
        ("difference:0", f"{100 * row.difference:+.0f}", "pp"),
        ("baseline_value", f"{100 * row.baseline_value:.2f}", "%"),
        ("constant_value:1", "10.0", "%"),
        ("loss_difference", f"{row.loss_difference:+.4f}", None),
        ("num_examples", "12", None),
        ("seeds", "0-2", None),
        ("signs", "3/0/0", None),
        ("verdict", "helps", None),
    ]:
        value = resolve(f"study/scalar_l10.{key}", published)
        assert (value.text, value.unit) == (text, unit)


def test_a_number_that_rounds_to_zero_has_no_minus(published: dict[str, Published]) -> None:
    rows = published["study"].collection.comparisons
    tiny = [replace(row, difference=-1e-9, loss_difference=-1e-9, p_value=0.0) for row in rows]
    collection = replace(published["study"].collection, comparisons=tiny)
    changed = {"study": replace(published["study"], collection=collection)}
    for field in ("difference:1", "loss_difference:1"):
        assert resolve(f"study/scalar_l10.{field}", changed).text == "0.0"


def test_an_interval_stands_in_brackets(published: dict[str, Published]) -> None:
    row = find_row(published["study"], ["scalar_l10"])
    assert row.interval_low is not None
    assert row.interval_high is not None
    value = resolve("study/scalar_l10.interval", published)
    assert value.text == f"[{100 * row.interval_low:+.2f}, {100 * row.interval_high:+.2f}]"


def test_labels_in_any_order(published: dict[str, Published]) -> None:
    short = resolve("study/scalar_l10.difference", published)
    assert resolve("study/plain/hotpot/scalar_l10/nano.difference", published) == short
    assert "scalar_l10" in row_labels(find_row(published["study"], ["scalar_l10"]))


def test_runs_and_experiments(published: dict[str, Published]) -> None:
    runs = published["study"].collection.runs
    run = next(run for run in runs if (run.arm, run.seed) == ("no_fs", 1))
    assert resolve("study/no_fs/s1.loss:2", published).text == f"{run.last['loss']:.2f}"
    accuracy = resolve("study/no_fs/s1.token_accuracy", published)
    assert (accuracy.text, accuracy.unit) == (f"{100 * run.last['token_accuracy']:.2f}", "%")
    assert resolve("study/no_fs/s1.first_token_accuracy", published).text == "0.00"
    assert resolve("study/no_fs/s1.steps", published).text == "4"
    assert resolve("study.num_runs", published).text == "9"
    assert resolve("study.num_failed", published).text == "1"
    assert resolve("study.registered", published).text == "2026-11-19"


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("study", "is no EXPERIMENT"),
        ("stdy/a.difference", "no archived experiment 'stdy'; did you mean study?"),
        ("study/scalar_l1.difference", "no row of study for scalar_l1; labels: head_l8"),
        ("study/hotpot.difference", "2 rows of study for hotpot"),
        ("study/scalar_l10.diference", "no field 'diference'; did you mean difference"),
        ("study/scalar_l10.mcnemar_p", "mcnemar_p of scalar_l10 was not measured"),
        ("study/head_l8/s1.loss", "is failed and has no loss"),
        ("study/no_fs/s9.loss", "0 runs of study"),
        ("study/no_fs/s0.los", "has no 'los'; did you mean loss"),
        ("study/scalar_l10.interval:7", "interval takes no digits; leave out :7"),
        ("study/scalar_l10.num_examples:1", "num_examples takes no digits"),
        ("study/scalar_l10.verdict:1", "verdict takes no digits"),
        ("study/no_fs/s0.tokens:1", "tokens takes no digits"),
        ("study.num_runs:7", "num_runs takes no digits"),
        ("study.role:2", "role takes no digits"),
        ("study.num_run", "no field 'num_run'; did you mean num_runs"),
    ],
)
def test_a_key_that_names_nothing_is_told_apart(
    published: dict[str, Published], key: str, message: str
) -> None:
    with pytest.raises(UserError) as problem:
        resolve(key, published)
    assert message in str(problem.value)
