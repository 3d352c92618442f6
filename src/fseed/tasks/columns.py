"""Column types of a data set, in one plain notation for files and for parsed rows.

A type is ``"string"``, ``"integer"``, ``"number"``, ``"boolean"``, a one-element list (a list of
that type) or a mapping (a struct with at least these fields).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fseed.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa


def check_columns(
    found: Mapping[str, Any], wanted: Mapping[str, Any], *, where: str, matches: Any
) -> None:
    """Raise ``UserError`` when a wanted column is missing or has another type.

    ``found`` maps a column name to its Arrow type or to a value; ``matches`` is
    ``matches_arrow`` or ``matches_value`` accordingly.
    """
    missing = [name for name in wanted if name not in found]
    if missing:
        raise UserError(
            f"{where} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; "
            f"found: {', '.join(found) or 'none'}; wanted: {', '.join(wanted)}"
        )
    wrong = [name for name, kind in wanted.items() if not matches(found[name], kind)]
    if wrong:
        raise UserError(
            f"{where}: wrong type in the column{'s' * (len(wrong) > 1)} {', '.join(wrong)}; wanted "
            + "; ".join(f"{name}: {describe_type(wanted[name])}" for name in wrong)
        )


def matches_arrow(arrow_type: "pa.DataType", kind: Any) -> bool:
    """Return whether an Arrow type holds values of ``kind``."""
    import pyarrow.types as types

    if types.is_dictionary(arrow_type):
        return matches_arrow(arrow_type.value_type, kind)
    if kind == "string":
        names = ("is_string", "is_large_string", "is_string_view")
        return any(getattr(types, name)(arrow_type) for name in names)
    if kind == "integer":
        return types.is_integer(arrow_type)
    if kind == "number":
        return types.is_integer(arrow_type) or types.is_floating(arrow_type)
    if kind == "boolean":
        return types.is_boolean(arrow_type)
    if isinstance(kind, list):
        names = ("is_list", "is_large_list", "is_fixed_size_list")
        is_list = any(getattr(types, name)(arrow_type) for name in names)
        return is_list and matches_arrow(arrow_type.value_type, kind[0])
    if not types.is_struct(arrow_type):
        return False
    fields = {field.name: field.type for field in arrow_type}
    return all(name in fields and matches_arrow(fields[name], sub) for name, sub in kind.items())


def matches_value(value: Any, kind: Any) -> bool:
    """Return whether a parsed value is of ``kind``."""
    if kind == "string":
        return isinstance(value, str)
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "boolean":
        return isinstance(value, bool)
    if isinstance(kind, list):
        return isinstance(value, list) and all(matches_value(item, kind[0]) for item in value)
    return isinstance(value, Mapping) and all(
        name in value and matches_value(value[name], sub) for name, sub in kind.items()
    )


def describe_type(kind: Any) -> str:
    """Return a readable form of ``kind``, such as ``struct(title: list of string)``."""
    if isinstance(kind, str):
        return kind
    if isinstance(kind, list):
        return f"list of {describe_type(kind[0])}"
    return (
        "struct(" + ", ".join(f"{name}: {describe_type(sub)}" for name, sub in kind.items()) + ")"
    )
