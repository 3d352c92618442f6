"""Names of arms for folders and tables: the preset and what differs from it."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

# room for a hash and for what file systems allow in one name (255 bytes)
MAX_LENGTH = 120

# groups whose choice names an arm, in the order of the label; lstart stands between them
LABELLED_GROUPS = ("fs_variant", "alpha", "schedule")


def arm_label(
    preset: str,
    *,
    mode: str,
    control: str,
    changed_choices: Mapping[str, str],
    changed_values: Mapping[str, Any],
) -> str:
    """Return the label of an arm, safe as a folder name.

    ``changed_choices``: options that differ from those of the preset; ``changed_values``: dotted
    keys that differ from the preset with these options. A label is a reading aid: the resolved
    configuration is the identity.

    >>> arm_label("scalar_l10", mode="prompt_fs", control="none",
    ...           changed_choices={"alpha": "m3"}, changed_values={"lstart": 9})
    'scalar_l10,lstart=9,alpha=m3'
    """
    is_baseline = mode == "no_fs"
    parts = ["no_fs"] if is_baseline else [preset, *_changes(changed_choices, changed_values)]
    if control != "none":
        parts.append(f"control={control}")
    return safe_name(",".join(parts))


def safe_name(name: str) -> str:
    """Return ``name`` with odd characters replaced, cut with a hash when it is too long.

    >>> safe_name("a/b c")
    'a-b-c'
    """
    plain = re.sub(r"[^A-Za-z0-9._=,+-]", "-", name)
    if len(plain) <= MAX_LENGTH:
        return plain
    digest = hashlib.sha256(name.encode()).hexdigest()[:10]
    return f"{plain[: MAX_LENGTH - 11]}-{digest}"


def _changes(choices: Mapping[str, str], values: Mapping[str, Any]) -> list[str]:
    rest = dict(values)
    parts = [f"lstart={rest.pop('lstart')}"] if "lstart" in rest else []
    parts += [f"{group}={choices[group]}" for group in LABELLED_GROUPS if group in choices]
    return parts + [f"{key}={_text(value)}" for key, value in sorted(rest.items())]


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower()
