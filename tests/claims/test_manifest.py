import copy
from pathlib import Path
from typing import Any

import pytest

from fseed.claims.manifest import MANIFEST_FILE, digest, read_manifest
from fseed.errors import UserError
from fseed.results.defaults import DEFAULT_MARGIN
from tests.claims.publishing import MANIFEST, write_manifest


def read_changed(root: Path, **changes: Any) -> Any:
    content = copy.deepcopy(MANIFEST)
    study = content["experiments"]["study"]
    study.update(changes)
    for key in [key for key, value in study.items() if value is None]:
        del study[key]
    write_manifest(root, content)
    return read_manifest(root)


def test_an_entry_with_its_defaults(tmp_path: Path) -> None:
    manifest = read_changed(tmp_path)
    study = manifest.experiments["study"]
    assert study.arms == ["no_fs", "scalar_l10", "head_l8"]
    assert (study.margin, study.planned) == (DEFAULT_MARGIN, False)
    assert study.folder == Path("paper/records/study")
    assert manifest.logs == {"paper/LOG.md": "dated notes"}


def test_a_date_that_yaml_reads_as_one_stays_text(tmp_path: Path) -> None:
    (tmp_path / "paper").mkdir()
    text = "registered: 2026-11-19"
    write_manifest(tmp_path)
    path = tmp_path / MANIFEST_FILE
    path.write_text(path.read_text().replace("registered: '2026-11-19'", text))
    assert text in path.read_text()
    assert read_manifest(tmp_path).experiments["study"].registered == "2026-11-19"


def test_the_command_is_not_registered_but_the_rule_is(tmp_path: Path) -> None:
    plain = read_changed(tmp_path).experiments["study"].registration
    assert read_changed(tmp_path, command="x").experiments["study"].registration == plain
    changed = read_changed(tmp_path, rule="x").experiments["study"].registration
    assert digest(changed) != digest(plain)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rule": None}, "study lacks rule"),
        ({"roll": "x"}, "unknown key 'roll'; did you mean role?"),
        ({"role": "mian"}, "'mian' is none of main, control, exploratory, failure"),
        ({"seeds": [0, "1"]}, "seeds must list values of type int"),
        ({"seeds": [0, 0]}, "seeds names a value twice"),
        ({"seeds": [False, 2]}, "seeds must list values of type int"),
        ({"margin": float("nan")}, "margin must be a fraction above 0 and below 1"),
        ({"margin": True}, "margin is True, not float"),
        ({"arms": ["scalar_l10"]}, "lacks no_fs"),
        ({"tasks": "hotpot"}, "tasks is 'hotpot', not list"),
        ({"registered": "last week"}, "'last week' is no date in ISO form"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as problem:
        read_changed(tmp_path, **changes)
    assert message in str(problem.value)
    assert MANIFEST_FILE in str(problem.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("experiments: {}", "schema_version None; this fseed reads 1"),
        ("schema_version: 1\nexperiments: []\nextra: 1", "unknown key 'extra'"),
        ("schema_version: 1\nexperiments: [a]", "must be mappings"),
        ("schema_version: 1\nexperiments: {a b: {}}", "letters, digits and _"),
        ("a: [", "not valid YAML"),
        ("schema_version: true", "schema_version True; this fseed reads 1"),
        (
            "schema_version: 1\nexperiments:\n  a: {rule: x, rule: y}",
            ":3: the key 'rule' stands tw",
        ),
        ("schema_version: 1\nexperiments:\n  a: {}\n  a: {}", ":4: the key 'a' stands twice"),
        ("schema_version: 1\nlogs: {README.md: x}", "a README.md makes claims"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / MANIFEST_FILE
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(UserError) as problem:
        read_manifest(tmp_path)
    assert message in str(problem.value)


def test_no_manifest_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError) as problem:
        read_manifest(tmp_path)
    assert "no such file" in str(problem.value)
