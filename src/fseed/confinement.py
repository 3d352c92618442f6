"""Places that are written stay below the folder that the user named, whatever links lie there."""

import os
import sys
from pathlib import Path

from fseed.errors import UserError


def check_inside(path: Path, root: Path, *, name: str) -> None:
    """Raise UserError when ``path``, links followed, lies outside ``root``.

    ``root`` itself may be a link: it is the user's own word. ``name`` is the option that moves it.
    """
    real, top = Path(os.path.realpath(path)), Path(os.path.realpath(root))
    if real == top or top in real.parents:
        return
    raise UserError(
        f"{path} leads out of {root}, to {real}\n"
        f"remove the link, or name the place yourself: {name}=FOLDER"
    )


def leave_current_folder() -> None:
    """Take the current folder off the module path, where ``python -m`` puts it.

    Hydra imports every module of every ``hydra_plugins`` that it finds there, and the current
    folder may hold somebody else's files.
    """
    here, own = os.getcwd(), Path(__file__).resolve().parents[1]
    if not sys.flags.safe_path and sys.path[:1] == [here] and own != Path(here).resolve():
        del sys.path[0]


def open_own(path: str, flags: int) -> int:
    """Open a file as ``open(..., opener=open_own)``; a link in its place is an OSError.

    Appending through a link would write into whatever file a stranger's folder points to.
    """
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)
