import subprocess
import sys
from pathlib import Path

import pytest

from fseed.confinement import check_inside, open_own
from fseed.errors import UserError


def test_what_lies_below_the_root_passes(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "a" / "b", tmp_path / "a" / ".." / "b"):
        check_inside(path, tmp_path, name="output.root")


def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "root").symlink_to(tmp_path / "real")
    check_inside(tmp_path / "root" / "sweep", tmp_path / "root", name="output.root")


@pytest.mark.parametrize("path", ["../b", "a/../../b", "link/x", "rooted"])
def test_what_leads_out_is_refused(path: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    (root / "link").symlink_to(tmp_path)
    (root / "rooted").symlink_to("/")
    with pytest.raises(UserError, match=r"leads out of .*\n.*output\.root=FOLDER"):
        check_inside(root / path, root, name="output.root")


def test_a_neighbour_with_a_longer_name_is_outside(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        check_inside(tmp_path / "root2", tmp_path / "root", name="output.root")


def test_a_link_is_never_opened(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic"), open(tmp_path / "link", "a", opener=open_own):
        pass
    with open(tmp_path / "own", "a", opener=open_own) as file:
        file.write("x")
    assert (tmp_path / "own").read_text() == "x"
    assert not (tmp_path / "victim").exists()


@pytest.mark.parametrize(("flags", "kept"), [([], False), (["-P"], True)])
def test_the_current_folder_leaves_the_module_path(
    flags: list[str], kept: bool, tmp_path: Path
) -> None:
    # as python -m puts it there; with -P whatever stands first was meant
    code = (
        "import os, sys; from fseed.confinement import leave_current_folder\n"
        "sys.path[:1] = [os.getcwd()]; leave_current_folder(); print(os.getcwd() in sys.path)"
    )
    told = subprocess.run(
        [sys.executable, *flags, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == str(kept)
