import subprocess
import sys
from pathlib import Path

import pytest

from fseed.simulation import __main__ as command
from fseed.simulation.__main__ import main


@pytest.fixture
def _two_studies(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {name: command.STUDIES[name] for name in ("coverage_seeds", "adjustments")}
    monkeypatch.setattr(command, "STUDIES", kept)
    # the command refuses so few, a test need not believe its rates
    monkeypatch.setattr(command, "MIN_SWEEPS", 1)


def read_all(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


@pytest.mark.usefixtures("_two_studies")
def test_writes_the_page_and_a_csv_per_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--output", str(tmp_path / "out"), "--sweeps", "20", "--seed", "3"]) == 0
    files = read_all(tmp_path / "out")
    assert list(files) == ["README.md", "adjustments.csv", "coverage_seeds.csv"]
    assert "--sweeps 20 --seed 3`" in files["README.md"]
    assert str(tmp_path) not in files["README.md"]
    assert "## What misses its nominal rate" in files["README.md"]
    printed = capsys.readouterr().out
    for heading in ("## Holm and Benjamini-Hochberg", "## Coverage of the t interval over seeds"):
        assert heading in files["README.md"]
        assert heading in printed


@pytest.mark.usefixtures("_two_studies")
def test_the_seed_decides_every_figure(tmp_path: Path) -> None:
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert main(["--output", str(tmp_path / name), "--sweeps", "20", "--seed", seed]) == 0
    first, again, other = (read_all(tmp_path / name) for name in ("a", "b", "c"))
    assert first == again
    assert first["adjustments.csv"] != other["adjustments.csv"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sweeps", "99"], "--sweeps 99: must be 100 or more"),
        (["--seed", "-1"], "--seed -1: must be 0 or more"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["--output", str(tmp_path / "out"), *options]) == 2
    assert capsys.readouterr().err == f"fseed.simulation: {message}\n"
    assert not (tmp_path / "out").exists()


def test_a_file_is_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.write_text("kept")
    assert main(["--output", str(file)]) == 2
    assert "is no folder" in capsys.readouterr().err
    assert file.read_text() == "kept"


def test_starts_without_torch_and_pandas() -> None:
    code = (
        "import sys, fseed.simulation.__main__; "
        "print(sorted({'torch', 'pandas', 'hydra', 'matplotlib'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
