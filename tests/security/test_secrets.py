"""What the environment and the command line hold in confidence is in no byte of the results."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fseed.collect import main as collect
from fseed.provenance import (
    RECORDED_VARIABLES,
    REDACTED,
    RedactingText,
    build_provenance,
    is_readable_variable,
    recorded_environment,
    redact,
    redact_all,
    redacted_output,
)
from fseed.record_schema import CHOICES_FILE, CONFIG_FILE, FAILURE_FILE
from fseed.sweep.plan import plan_run
from fseed.training.records import write_config, write_failure
from tests.configs import compose
from tests.security.attack import SECRETS
from tests.training.build import plan, tiny_config

GIVEN = "https://somebody:hunter2hunter2@example.org/data?token=abcdefabcdef"
PLANTED = (*SECRETS.values(), "hunter2hunter2", "abcdefabcdef")


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


def found_in(folder: Path) -> list[str]:
    """Return "secret in file" for every secret in any file, its name included."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [
        f"{secret} in {path.name}"
        for path in files
        for secret in PLANTED
        if secret.encode() in path.read_bytes() + str(path).encode()
    ]


@pytest.mark.parametrize(
    "text",
    [
        GIVEN,
        f"HF_TOKEN={SECRETS['HF_TOKEN']} python -m fseed.run",
        f"header 'Authorization: Bearer {SECRETS['AWS_SECRET_ACCESS_KEY']}'",
        f"ConnectionError: postgres://me:{SECRETS['DB_PASSWORD']}@host/db",
        "--api-token abcdefabcdef",
        '{"password": "hunter2hunter2"}',
        "api_key: 'hunter2hunter2'",
        f"wandb said {SECRETS['WANDB_API_KEY']}.",
    ],
)
def test_secrets_go_and_the_rest_stays(text: str) -> None:
    shown = redact(text)
    assert not any(secret in shown for secret in PLANTED)
    assert REDACTED in shown
    assert redact(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "ghp_0123456789abcdefABCDEF", "github_pat_0123456789abcdefABCDEF", "AKIA0123456789ABCDEF",
        "sk-proj-0123456789abcdef", "xoxb-0123456789-abc", "hf_abcdefghijABCDEFGHIJ",
        "eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSMeK",
    ],
)  # fmt: skip
def test_keys_show_by_their_form(text: str) -> None:
    assert redact(f"a {text} b") == f"a {REDACTED} b"


@pytest.mark.parametrize(
    "text",
    [
        "budget.tokens=100000", "task.max_length_tokens=512", "model.tokenizer=world",
        "num_tokens: 123456", "fs=scalar_l10,lstart=9 seed=0,1,2", "run 0123456789", "f" * 64,
        "data.root=/data/sets/hotpot", "monkey=business", "output.root=/scratch/somebody/out",
    ],
)  # fmt: skip
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


def test_short_values_are_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "fs")
    assert redact("fs=scalar_l10") == "fs=scalar_l10"


@pytest.mark.parametrize("name", ["PWD", "OLDPWD"])
def test_the_folder_of_a_shell_is_no_secret(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "/scratch/somebody")
    path = "/scratch/somebody/out/default/hotpot"
    assert redact(path) == path


@pytest.mark.parametrize("name", ["MYSQL_PWD", "SMTP_PWD_OLD", "db_pwd"])
def test_a_password_is_one_under_its_short_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "correct-pony-battery")
    assert redact("with correct-pony-battery") == f"with {REDACTED}"
    assert not is_readable_variable(f"FSEED_{name}")


def test_nested_content_keeps_its_form() -> None:
    content = {"a": [SECRETS["HF_TOKEN"], 1, None, {"b": True}], "c": 0.5}
    assert redact_all(content) == {"a": [REDACTED, 1, None, {"b": True}], "c": 0.5}


def test_only_listed_variables_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "x y; not a value")
    told = build_provenance(plan_run(compose("fs=scalar_l10")).run)["environment"]
    assert told == recorded_environment()
    assert told["OMP_NUM_THREADS"] == "2"
    assert "PYTORCH_CUDA_ALLOC_CONF" not in told
    assert told.keys() <= set(RECORDED_VARIABLES)


@pytest.mark.parametrize(
    ("name", "is_readable"),
    [
        *((name, True) for name in ("FSEED_DATA", "HOME", "SLURM_JOB_ID")),
        *((name, False) for name in ("FSEED_TOKEN", "FSEED_API_KEY", "USER", "PATH", *SECRETS)),
    ],
)
def test_the_list_of_readable_variables(name: str, is_readable: bool) -> None:
    assert is_readable_variable(name) is is_readable


def test_no_file_of_a_run_holds_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["fseed-run", f"data.root={GIVEN}", f"--token={GIVEN}"])
    config = tiny_config(data__root=GIVEN)
    run = plan(config, tmp_path / "run")
    run.overrides.extend([f"data.root={GIVEN}", f"model.name={SECRETS['HF_TOKEN']}"])
    write_config(run)
    error = ConnectionError(f"cannot reach {GIVEN} with {SECRETS['AWS_SECRET_ACCESS_KEY']}")
    write_failure(run, failure="network", error=error)
    assert found_in(tmp_path) == []
    for name in (CONFIG_FILE, CHOICES_FILE, FAILURE_FILE):
        assert REDACTED in (run.run_dir / name).read_text()
    assert yaml.safe_load((run.run_dir / CONFIG_FILE).read_text())["seed"] == config.seed


def test_printed_lines_are_redacted_also_in_two_pieces(capsys) -> None:
    stream = io.StringIO()
    text = RedactingText(stream)
    secret = SECRETS["HF_TOKEN"]
    text.write(f"a {secret[:9]}")
    assert stream.getvalue() == ""
    text.write(f"{secret[9:]}\nb")
    text.flush()
    assert stream.getvalue() == f"a {REDACTED}\nb"
    with redacted_output():
        print("told", secret)
        print("rest", secret, end="", file=sys.stderr)
    assert capsys.readouterr() == (f"told {REDACTED}\n", f"rest {REDACTED}")


@pytest.mark.slow
def test_a_sweep_and_its_tables_hold_no_secret(tmp_path: Path) -> None:
    words = ["budget.steps=1", "data.num_train=16", "data.num_validation=4", "fs=scalar_l10"]
    words += ["task=sudoku4", "trainer.progress=false", f"data.root='{GIVEN}'"]
    environment = os.environ | {"FSEED_OUTPUTS": str(tmp_path / "out"), "OMP_NUM_THREADS": "1"}
    told = subprocess.run(
        [sys.executable, "-m", "fseed.run", "-m", *words, "launcher=slots", "launcher.slots=1"],
        env=environment, capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert collect([str(tmp_path / "out"), "--runs"]) == 0
    assert found_in(tmp_path) == []
    assert not any(secret in told.stdout + told.stderr for secret in SECRETS.values())
