from pathlib import Path

import pytest

from fseed.config import options


def write_conf(folder: Path) -> Path:
    (folder / "alpha" / "mine").mkdir(parents=True)
    (folder / "config.yaml").write_text("defaults:\n  - alpha: l2\n  - _self_\n")
    (folder / "alpha" / "l10.yaml").write_text("# @package _global_\n# Ten.\ninit: 1\n")
    (folder / "alpha" / "l2.yaml").write_text("# Two.\ninit: 1\n")
    (folder / "alpha" / "mine" / "x.yaml").write_text("init: 1\n")
    return folder


def test_groups_hold_their_options_in_natural_order(tmp_path: Path) -> None:
    found = options.read_groups(write_conf(tmp_path))
    assert {group: list(names) for group, names in found.items()} == {
        "alpha": ["l2", "l10", "mine/x"]
    }
    assert found["alpha"]["l10"].summary == "Ten."
    assert found["alpha"]["mine/x"].summary == ""


def test_the_checkout_comes_before_the_copy_in_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "src" / "fseed"
    (package / "config").mkdir(parents=True)
    monkeypatch.setattr(options, "__file__", str(package / "config" / "options.py"))
    assert options.conf_dir() == package / "conf"
    (tmp_path / "conf").mkdir()
    write_conf(tmp_path / "conf")
    assert options.conf_dir() == tmp_path / "conf"
