from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from fseed.claims.checking import check_claims
from fseed.claims.findings import CODES, Finding
from tests.claims.damage import ALL, IN_RECORDS, Damage
from tests.claims.harm import renew
from tests.claims.mutation_table import GENERATED_FILE, catch, is_caught, render_table

Caught = Callable[[Damage], list[Finding]]
# the same damages with the seal renewed take twice as long
DAMAGES = [
    pytest.param(one, id=one.kind, marks=[pytest.mark.slow] if one.is_hidden else []) for one in ALL
]


@pytest.fixture(scope="module")
def caught(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Caught:
    """Return what tells what fails after a damage, which is done once."""
    folder = tmp_path_factory.mktemp("damaged")
    places = {one.kind: folder / str(i) for i, one in enumerate(ALL)}
    return cache(lambda damage: catch(original, places[damage.kind], damage))


def test_an_undamaged_study_passes(original: Path) -> None:
    report = check_claims(original)
    assert [str(finding) for finding in report.findings] == []
    assert (report.num_experiments, report.num_runs, report.num_references) == (1, 9, 12)


def test_enough_kinds_with_names_of_their_own() -> None:
    assert len({damage.kind for damage in ALL}) == len(ALL)
    assert len(ALL) - len(IN_RECORDS) >= 25
    assert {damage.code for damage in ALL} <= CODES.keys()


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_caught_where_it_was_done(caught: Caught, damage: Damage) -> None:
    found = caught(damage)
    assert is_caught(damage, found), [str(finding) for finding in found]
    assert all(finding.code in CODES for finding in found)


def test_renewing_the_seal_of_an_undamaged_study_changes_nothing(root: Path) -> None:
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    renew(root)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_the_published_table_is_the_one_of_this_code(caught: Caught) -> None:
    table = render_table({one.kind: caught(one) for one in ALL})
    assert table == GENERATED_FILE.read_text(), "run python -m tests.claims.mutation_table --write"
