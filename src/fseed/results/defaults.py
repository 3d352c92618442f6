"""What fseed.collect does unless told otherwise, and the names of the files that it writes."""

from collections.abc import Iterator, Sequence

DEFAULT_MARGIN = 0.01  # largest difference that counts as none, a fraction
FORMATS = ("markdown", "csv", "parquet", "latex", "html")
DOCUMENTS = {"markdown": "tables.md", "latex": "tables.tex", "html": "report.html"}
DATA_TABLES = ("paired", "runs", "stages", "summary", "appendix")


def file_names(formats: Sequence[str]) -> Iterator[str]:
    """Yield the files that belong to ``formats`` in the order of writing, empty tables too."""
    yield from (name for kind, name in DOCUMENTS.items() if kind in formats)
    for table in DATA_TABLES:
        yield from (f"{table}.{kind}" for kind in ("csv", "parquet") if kind in formats)
