import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fseed import check
from fseed.models import parity
from fseed.models.parity import ParityRow
from tests.claims.publishing import RAW_FILE, publish, write_manifest, write_sweep
from tests.models.checkpoint_samples import SHAPE, sample_weights

GOOD = ParityRow("random", "rwkv", "step", {"logits": 1e-7, "att_shift": 0.0, "wkv": 2e-6})
BAD = ParityRow("random", "rwkv", "prompt", {"logits": 2e-5})


@pytest.fixture
def only_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity, "compare_random", lambda: [GOOD])
    monkeypatch.delenv("FSEED_DATA", raising=False)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = check.main(["parity", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.usefixtures("only_good")
def test_passing_gate(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys)
    assert (code, err) == (0, "")
    for text in ("random", "rwkv", "step", "1.0e-07", "2.0e-06", "ok", "1 of 1 comparisons"):
        assert text in out
    assert "skipped: published logits: neither --data-root nor $FSEED_DATA is set" in out


def test_failing_gate(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity, "compare_random", lambda: [GOOD, BAD])
    monkeypatch.setenv("FSEED_DATA", "/nowhere")
    code, out, _ = run(capsys)
    assert code == 1
    assert "FAIL" in out
    assert "1 of 2 comparisons" in out
    assert "skipped: published logits: $FSEED_DATA does not hold /nowhere/weights/tiny" in out


@pytest.mark.usefixtures("only_good")
def test_error_within_the_noise_of_the_oracle_is_marked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    noisy = ParityRow("big.pth", "rwkv", "step", {"logits": 2e-5}, {"logits": 1.5e-5})
    monkeypatch.setattr(parity, "compare_random", lambda: [noisy])
    code, out, _ = run(capsys)
    assert code == 0
    assert "ok*" in out
    assert "* big.pth, step: logits 2.0e-05, where rwkv is 1.5e-05 from itself" in out


@pytest.mark.slow
def test_the_whole_gate_on_real_data(
    capsys: pytest.CaptureFixture[str], shared_data: Path, tmp_path: Path
) -> None:
    torch.save(sample_weights(SHAPE), tmp_path / "mine.pth")
    weights = str(tmp_path / "mine.pth")
    code, out, err = run(capsys, "--data-root", str(shared_data), "--weights", weights)
    assert (code, err) == (0, "")
    assert "18 of 18 comparisons passed, 0 of them only within the oracle's own noise" in out
    assert "mine.pth" in out
    assert "skipped" not in out


@pytest.mark.usefixtures("only_good")
def test_given_checkpoint_with_its_published_logits(
    capsys: pytest.CaptureFixture[str], shared_data: Path
) -> None:
    folder = shared_data / "weights"
    code, out, _ = run(
        capsys,
        *("--weights", str(folder / "tiny-rwkv-7v0-834K.safetensors")),
        *("--expected", str(folder / "expected-logits-7v0-834K.bin")),
    )
    assert code == 0
    assert "5 of 5 comparisons" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--weights", "absent.pth"], "weights absent.pth: no such file"),
        (["--expected", "x.bin"], "give --weights too"),
        (["--data-root", "nowhere"], "nowhere/weights/tiny-rwkv-7v0-834K.safetensors"),
    ],
)
def test_bad_input_is_one_line_and_2(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["parityy"], ["parity", "--wieghts", "x"], ["archive", "x"]])
def test_misspelt_arguments_are_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        check.main(arguments)
    assert exit_info.value.code == 2


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(tmp_path_factory.mktemp("published"))


def check_root(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    code = check.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_claims_that_hold(capsys: pytest.CaptureFixture[str], original: Path) -> None:
    code, out, err = check_root(capsys, "--strict", "--root", original)
    assert (code, err) == (0, "")
    assert out == (
        "check: 1 experiments, 9 runs, 12 references, 1 numbers marked not a result;"
        " 0 error, 0 strict, 0 note; passed (strict)\n"
    )


def test_an_untraced_result_fails_in_strict_mode_only(
    capsys: pytest.CaptureFixture[str], original: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(original, tmp_path / "checkout")
    (root / "README.md").write_text((root / "README.md").read_text() + "\nIt gains 5 pp.\n")
    code, out, _ = check_root(capsys, "--root", root)
    assert code == 0
    assert "strict README.md:28: '5 pp' is no reference [unmarked]" in out
    assert out.endswith("1 strict, 0 note; passed\n")
    assert check_root(capsys, "--strict", "--root", root)[0] == 1


def test_a_wrong_number_fails_in_either_mode(
    capsys: pytest.CaptureFixture[str], original: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(original, tmp_path / "checkout")
    text = (root / "README.md").read_text()
    (root / "README.md").write_text(text.replace("-->helps<!--", "-->hurts<!--"))
    for strict in ((), ("--strict",)):
        code, out, _ = check_root(capsys, *strict, "--root", root)
        assert code == 1
        assert "README.md:8: study/scalar_l10.verdict is helps, the document says hurts" in out
    code, out, _ = check_root(capsys, "render", "--root", root)
    assert code == 0
    assert "written: README.md\n1 files changed" in out
    assert check_root(capsys, "--strict", "--root", root)[0] == 0


def test_a_reference_to_nothing_fails_to_render(
    capsys: pytest.CaptureFixture[str], original: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(original, tmp_path / "checkout")
    (root / "README.md").write_text("By <!-- fseed: study/x.difference -->?<!-- /fseed --> pp\n")
    code, out, _ = check_root(capsys, "render", "--root", root)
    assert code == 1
    assert "not rendered: README.md: line 1: study/x.difference: no row" in out


def test_archive_and_render_are_two_commands(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root = tmp_path / "checkout"
    write_manifest(root)
    (root / "paper/LOG.md").write_text("# Log\n")
    (root / "README.md").write_text("By <!-- fseed: study/head_l8.signs -->?<!-- /fseed -->\n")
    sweep = write_sweep(tmp_path / "results" / "first")
    code, out, _ = check_root(capsys, "archive", sweep, "--experiment", "study", "--root", root)
    assert code == 0
    assert out.startswith(f"9 runs, 52 files archived at {root}/paper/records/study\n")
    assert check_root(capsys, "render", "--root", root)[0] == 0
    assert check_root(capsys, "--strict", "--root", root)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--root", "nowhere"], "--root nowhere: no such folder"),
        (["--root", "."], "paper/manifest.yaml: no such file"),
        (["render", "--root", "."], "paper/manifest.yaml: no such file"),
        (["raw", "--root", "."], "holds no folder paper; give a checkout with --root"),
        (["archive", "nowhere", "--experiment", "study"], "no such folder: nowhere"),
    ],
)
def test_bad_input_of_claims_is_one_line_and_2(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = check_root(capsys, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_raw_output_is_listed_anew_by_one_command(
    capsys: pytest.CaptureFixture[str], original: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(original, tmp_path / "checkout")
    (root / RAW_FILE).write_text("sweeps,power\n100,0.91\n")
    assert check_root(capsys, "--root", root)[0] == 1
    code, out, _ = check_root(capsys, "raw", "--root", root)
    assert code == 0
    assert out == f"listed anew: {RAW_FILE}\n1 files in paper/raw.sha256, 1 of them changed\n"
    assert check_root(capsys, "--strict", "--root", root)[0] == 0


def test_a_file_that_cannot_be_written_is_one_line_and_2(
    capsys: pytest.CaptureFixture[str], original: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(original, tmp_path / "checkout")
    shutil.rmtree(root / "paper/tables")
    (root / "paper/tables").write_text("x")
    code, _, err = check_root(capsys, "render", "--root", root)
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_the_checkout_is_the_default_root() -> None:
    assert check.find_root(None) == Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("arguments", [["--help"], ["parity", "--weights", "absent"], ["--strict"]])
def test_light_answers_never_import_torch(arguments: list[str], original: Path) -> None:
    code = (
        "import sys\n"
        "from fseed.check import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "sys.exit(bool({'torch', 'pandas', 'hydra', 'matplotlib'} & set(sys.modules)))\n"
    )
    root = ["--root", str(original)] if arguments == ["--strict"] else []
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, *root], capture_output=True, check=False
    )
    assert done.returncode == 0
    assert root == [] or b"passed (strict)" in done.stdout
