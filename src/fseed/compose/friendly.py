"""What Hydra and OmegaConf say about a configuration file, in one to three plain lines."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from fseed.compose.launcher_extras import EXTRAS, missing_extra
from fseed.compose.overrides import TASK_OPTIONS, schema_types
from fseed.errors import UserError, did_you_mean

MAX_LINES = 3


@contextmanager
def friendly_errors() -> Iterator[None]:
    """Turn errors of composition into UserError; everything else passes as it is."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error)) from error
    except YAMLError as error:
        raise UserError(_explain_yaml(error)) from error
    except ValueError as error:
        if isinstance(error, UserError) or not _is_from_hydra(error):
            raise
        raise UserError(_explain_value(error)) from error


def explain(error: Exception) -> str:
    """Return the message of a composition error: place, fault and near names."""
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key or error}: has no value; give {error.full_key or 'it'}=VALUE"
    if isinstance(error, MissingConfigException):
        return _explain_missing(error)
    text = "\n".join(str(part) for part in (error, error.__cause__) if part is not None)
    place = _find(r"In '([^']+)'", text)
    key = _find(r"full_key: (\S+)", text)
    where = f"conf {place}: " if place else ""
    if key is not None and key.startswith(TASK_OPTIONS):
        return f"{where}{key}: no such option of this task; its options stand in TASKS.md"
    if _find(r"(Key '[^']*') (?:not in|is not in)", text) and key:
        return f"{where}{key}: no such key{did_you_mean(key, schema_types())}"
    fault = _find(r"((?:Value|Invalid value|Cannot|Incompatible)[^\n]*)", text)
    if key and fault:
        return f"{where}{key}: {fault}"
    return _shorten(text)


def _explain_missing(error: MissingConfigException) -> str:
    group, _, option = str(error.missing_cfg_file or "").rpartition("/")
    known = list(error.options or ())
    if group == "hydra/launcher" and option in EXTRAS:
        return missing_extra(option)
    if not group:
        return _shorten(str(error))
    listed = f"\noptions: {', '.join(known)}" if known else ""
    return f"{group}={option}: no such option{did_you_mean(option, known)}{listed}"


def _explain_yaml(error: YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return f"not valid YAML: {_shorten(str(error))}"
    problem = getattr(error, "problem", None) or "not valid YAML"
    return f"{mark.name}, line {mark.line + 1}: {problem}"


def _explain_value(error: ValueError) -> str:
    text = _shorten(str(error))
    if "item value in defaults : bool" in text:
        return f"{text}\nYAML reads no, off, on and yes as true or false: put quotes around them"
    return text


def _is_from_hydra(error: ValueError) -> bool:
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return frame is not None and frame.tb_frame.f_globals["__name__"].startswith("hydra.")


def _find(pattern: str, text: str) -> str | None:
    match = re.search(pattern, text)
    return match[1] if match else None


def _shorten(text: str) -> str:
    lines = [line.strip() for line in text.splitlines()]
    kept = [line for line in lines if line and not line.startswith("See http")]
    return "\n".join(kept[:MAX_LINES])
