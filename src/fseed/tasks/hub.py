"""Rows from the Hugging Face hub, from the cached copy first and without a wait when offline."""

import hashlib
import json
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from fseed.errors import UserError
from fseed.tasks.base import DataSet
from fseed.tasks.columns import check_columns, matches_arrow
from fseed.tasks.rows import ArrowRows, Rows, readable

if TYPE_CHECKING:
    import datasets

PROBE_SECONDS = 1.0


def open_hub(dataset: DataSet) -> dict[str, Rows]:
    """Return the rows of the published splits, downloading them on first use.

    Raises ``UserError`` when nothing is cached and the hub cannot be reached.
    """
    import pyarrow.dataset as pads

    builder = _find_builder(dataset)
    with _one_line_error(dataset, "cannot be prepared"):
        builder.download_and_prepare()
        loaded: Any = builder.as_dataset()
    rows: dict[str, Rows] = {}
    for split, name in dataset.hub_splits.items():
        where = f"{dataset.hub_id} ({dataset.hub_config or 'default'}, {name})"
        if name not in loaded:
            if split not in dataset.required:
                continue
            raise UserError(f"{where}: no such split; found: {', '.join(loaded)}")
        table = loaded[name].data.table
        found = {field.name: field.type for field in table.schema}
        check_columns(found, dataset.columns, where=where, matches=matches_arrow)
        with readable(where):
            rows[split] = ArrowRows(pads.dataset(table), dataset.key_columns, where=where)
    return rows


def fingerprint_hub(dataset: DataSet) -> str:
    """Return the SHA-256 of id, config and revision of the data set; raises ``UserError``.

    The revision is that of the cached copy when there is one.
    """
    revision = str(_find_builder(dataset).hash)
    facts = [dataset.hub_id, dataset.hub_config, revision]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _find_builder(dataset: DataSet) -> "datasets.DatasetBuilder":
    """Return the builder of the cached copy, or of the hub's current revision."""
    if dataset.hub_id is None:
        raise UserError(
            f"{dataset.folder}: not on the hub; use data=mini, or data=local data.root=DIR"
        )
    datasets = _import_datasets()
    try:
        with _offline(datasets):
            return datasets.load_dataset_builder(dataset.hub_id, dataset.hub_config)
    except Exception:  # every release raises others, and all of them mean: not cached
        pass
    if not _is_reachable(datasets):
        raise _unreachable(dataset, datasets.config.HF_ENDPOINT)
    with _one_line_error(dataset, "cannot be loaded"):
        return datasets.load_dataset_builder(dataset.hub_id, dataset.hub_config)


def _import_datasets() -> Any:
    """Return the ``datasets`` module or say how to install it."""
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            "data=hub needs the package datasets: pip install 'fseed[hub]', or use data=local"
        ) from error
    module: Any = datasets  # its typed members differ between versions
    if hasattr(module.config, "HF_DATASETS_TRUST_REMOTE_CODE"):
        # before version 4 a data set could bring code, and the user was asked for leave to run it
        module.config.HF_DATASETS_TRUST_REMOTE_CODE = False
    return module


@contextmanager
def _offline(datasets: Any) -> Iterator[None]:
    """Make ``datasets`` answer from its cache alone, and silently.

    Its offline switch is read from the environment at import, and ``local_files_only`` of its
    download config is ignored (5.2), so the constant is set for the duration. This can go when a
    cached copy can be asked for by an argument.
    """
    before = datasets.config.HF_HUB_OFFLINE
    logger = logging.getLogger("datasets")
    level = logger.level
    datasets.config.HF_HUB_OFFLINE = True
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before
        logger.setLevel(level)


@contextmanager
def _one_line_error(dataset: DataSet, what: str) -> Iterator[None]:
    """Turn any error of the hub's libraries into one ``UserError``."""
    try:
        yield
    except Exception as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise UserError(f"{_describe(dataset)} {what}: {lines[0]}; {_advice(dataset)}") from error


def _unreachable(dataset: DataSet, endpoint: str) -> UserError:
    """Return the error for a hub that does not answer."""
    return UserError(
        f"data=hub: {endpoint} cannot be reached and {_describe(dataset)} is not in "
        f"the cache; {_advice(dataset)}"
    )


def _describe(dataset: DataSet) -> str:
    """Return id and config of a data set on the hub."""
    return f"{dataset.hub_id} ({dataset.hub_config or 'default'})"


def _advice(dataset: DataSet) -> str:
    """Return what to do without the hub, in one line."""
    files = " and ".join(f"{dataset.files[split][0]}.parquet" for split in dataset.required)
    return (
        f"offline, use data=local data.root=FOLDER with {dataset.folder}/{files}, "
        "or load it once where there is a network and set HF_HOME to that copy."
    )


def _is_reachable(datasets: Any) -> bool:
    """Return whether the hub, or the proxy in front of it, accepts a connection.

    Asked first because the hub's own client retries for more than 20 seconds. It runs in a thread
    because a name look-up has no time limit of its own.
    """
    if datasets.config.HF_HUB_OFFLINE:
        return False
    endpoint = str(datasets.config.HF_ENDPOINT)
    scheme = urlsplit(endpoint).scheme
    target = urlsplit(getproxies().get(scheme, endpoint))
    port = target.port or (80 if target.scheme == "http" else 443)
    answers: list[bool] = []
    probe = threading.Thread(
        target=lambda: answers.append(_accepts(target.hostname or "", port)), daemon=True
    )
    probe.start()
    probe.join(2 * PROBE_SECONDS)
    return bool(answers) and answers[0]


def _accepts(host: str, port: int) -> bool:
    """Return whether ``host`` accepts a TCP connection."""
    try:
        socket.create_connection((host, port), timeout=PROBE_SECONDS).close()
    except OSError:
        return False
    return True
