import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fseed.atomic import write_text_atomic
from fseed.claims.checking import check_claims, render_claims
from fseed.claims.experiment_checks import _check_pair, load_published
from fseed.claims.findings import Finding, failed
from fseed.claims.generated import NOTICE
from fseed.claims.manifest import read_manifest
from fseed.errors import UserError
from tests.claims.damage import Harm, on_line, on_result
from tests.claims.harm import RECORDS, on_end, on_seal, on_study, on_text

CHECKOUT = Path(__file__).resolve().parents[2]


def unlink_and_mkdir(path: Path) -> None:
    path.unlink()
    path.mkdir()


def unlink_and_point_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def findings_of(root: Path, code: str) -> list[Finding]:
    return [finding for finding in check_claims(root).findings if finding.code == code]


def test_the_documents_of_this_project_hold() -> None:
    told = [str(finding) for finding in failed(check_claims(CHECKOUT).findings, strict=True)]
    assert told == [], "see paper/README.md; after new records: python -m fseed.check render"


@pytest.mark.parametrize(
    ("kind", "key", "codes"),
    [
        ("none", "tokens", ["budget"]),
        ("random_state", "tokens", ["budget"]),
        ("same_layer", "tokens", []),
        ("repeat_prompt", "tokens", []),
        ("repeat_prompt", "steps", ["budget"]),
    ],
)
def test_a_control_that_reads_twice_may_count_more_tokens(
    root: Path, kind: str, key: str, codes: list[str]
) -> None:
    (experiment,) = read_manifest(root).experiments.values()
    published, _ = load_published(root, experiment)
    assert published is not None
    run, base = published.collection.arms[0].pairs[0]
    assert run.record.result is not None
    result = {**run.record.result, key: 2 * run.record.result[key]}
    other = replace(
        run,
        record=replace(run.record, result=result),
        settings={**run.settings, "control.kind": kind},
    )
    assert [finding.code for finding in _check_pair(other, base, root)] == codes


def test_rendering_twice_changes_nothing(root: Path) -> None:
    assert render_claims(root) == ([], [])


def test_rendering_mends_numbers_tables_and_strays(root: Path) -> None:
    on_text("README.md", "-->helps<!--", "-->hurts<!--")(root)
    on_text("paper/tables/study.md", "| head_l8 |", "| x |")(root)
    (root / "paper/failures.md").unlink()
    write_text_atomic(root / "paper/figures/old.svg", f"<svg/>\n<!-- {NOTICE} -->\n")
    assert failed(check_claims(root).findings, strict=False)
    changed, unknown = render_claims(root)
    assert {path.as_posix() for path in changed} == {
        *("README.md", "paper/tables/study.md", "paper/failures.md", "paper/figures/old.svg")
    }
    assert unknown == []
    assert check_claims(root).findings == []


def test_rendering_deletes_nothing_that_was_made_by_hand(root: Path) -> None:
    drawn = root / "paper/figures/architecture.svg"
    write_text_atomic(drawn, "<svg/>")
    (root / "paper/tables/folder.md").mkdir()
    assert render_claims(root) == ([], [])
    assert drawn.read_text() == "<svg/>"
    (found,) = check_claims(root).findings
    assert (found.code, found.place) == ("stale", "paper/figures/architecture.svg")


def test_marks_that_call_a_number_no_result_are_counted(root: Path) -> None:
    assert check_claims(root).num_excused == 1
    on_end("With 3 % and 4 %, chosen <!-- fseed: not a result -->.")(root)
    assert check_claims(root).num_excused == 3


def test_rendering_leaves_what_names_nothing_and_tells_it(root: Path) -> None:
    on_text("README.md", "study/head_l8.difference", "study/head_l9.difference")(root)
    before = (root / "README.md").read_text()
    _, unknown = render_claims(root)
    assert (root / "README.md").read_text() == before
    (told,) = unknown
    assert told.startswith("README.md: line 10: study/head_l9.difference: no row of study")


def test_a_log_keeps_its_numbers_but_not_its_dead_links(root: Path) -> None:
    path = root / "paper/LOG.md"
    write_text_atomic(path, path.read_text() + "[raw](kernels/gone.txt) [ok](LOG.md#top)\n")
    (found,) = check_claims(root).findings
    assert (found.code, found.place) == ("link", "paper/LOG.md:4")


def test_a_document_that_is_no_log_is_read(root: Path) -> None:
    write_text_atomic(root / "paper/notes.md", "A gain of 3 pp.\n")
    (found,) = check_claims(root).findings
    assert (found.level, found.code, found.place) == ("strict", "unmarked", "paper/notes.md:1")
    assert failed([found], strict=True)
    assert not failed([found], strict=False)


def test_a_planned_experiment_is_a_note_until_it_is_quoted(root: Path) -> None:
    shutil.rmtree(root / RECORDS)
    on_study(lambda study: study.update(planned=True))(root)
    render_claims(root)
    codes = {finding.code for finding in check_claims(root).findings}
    assert codes == {"planned", "reference"}
    write_text_atomic(root / "README.md", "# nothing yet\n")
    (found,) = check_claims(root).findings
    assert (found.level, found.code) == ("note", "planned")


def test_a_result_that_no_document_quotes_is_a_note(root: Path) -> None:
    write_text_atomic(
        root / "README.md", "By <!-- fseed: study/head_l8.difference -->?<!-- /fseed --> pp.\n"
    )
    render_claims(root)
    (found,) = check_claims(root).findings
    assert (found.level, found.code) == ("note", "unreferenced")
    assert "hotpot/plain/scalar_l10 (helps) is quoted nowhere" in found.text


def test_a_reference_that_begins_a_line_breaks_the_paragraph(root: Path) -> None:
    key = "<!-- fseed: study.num_runs -->9<!-- /fseed -->"
    on_end(f"Of the\n{key} runs.")(root)
    (found,) = check_claims(root).findings
    assert (found.level, found.code) == ("strict", "reference")
    assert "begins a line" in found.text


def test_a_source_that_holds_the_number_speaks_for_it(root: Path) -> None:
    on_end("It takes 3 s or 12 % <!-- fseed: source paper/LOG.md -->.")(root)
    assert check_claims(root).findings == []


def test_a_number_that_was_not_recorded_is_a_note(root: Path) -> None:
    on_end("It takes 3 s <!-- fseed: not recorded -->.")(root)
    (found,) = check_claims(root).findings
    assert (found.level, found.code) == ("note", "unrecorded")


@pytest.mark.parametrize(
    ("harm", "code", "file"),
    [
        (on_result(lambda c: c.update(evaluations=["x"])), "metrics", "metrics.jsonl"),
        (on_result(lambda c: c["evaluations"][1].pop("step")), "score", "predictions.parquet"),
        (on_line('"tokens": 100', '"tokens": "many"', at=1), "budget", "result.json"),
        (on_line('"metrics": {', '"metrics": 7, "x": {', at=-1), "metrics", "metrics.jsonl"),
        (on_seal(lambda c: c.update(outcomes=[1])), "outcome", "archive.json"),
        (on_seal(lambda c: c.update(hidden_keys=[3])), "identity", "provenance.json"),
    ],
)
def test_a_record_of_another_form_is_a_finding_and_no_traceback(
    root: Path, harm: Harm, code: str, file: str
) -> None:
    harm(root)
    found = failed(check_claims(root).findings, strict=False)
    assert any(one.code == code and file in one.place for one in found), list(map(str, found))


@pytest.mark.parametrize("harm", [Path.unlink, unlink_and_mkdir, unlink_and_point_to_itself])
def test_without_a_readme_there_is_no_check(root: Path, harm: Callable[[Path], object]) -> None:
    harm(root / "README.md")
    with pytest.raises(UserError) as problem:
        check_claims(root)
    assert "README.md cannot be read" in str(problem.value)


def test_a_name_with_a_line_break_stays_in_one_line(root: Path) -> None:
    (root / RECORDS / "a\ncheck: passed\x1b[2J").write_text("x")
    (found,) = failed(check_claims(root).findings, strict=False)
    assert str(found).isprintable()


def test_a_document_that_is_no_text_is_bad_input(root: Path) -> None:
    (root / "README.md").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError) as problem:
        check_claims(root)
    assert "README.md cannot be read" in str(problem.value)
