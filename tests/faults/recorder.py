"""pytest plugin: a JSON line per test and its outcome into the file $FSEED_FAULTS names."""

import json
import os
from pathlib import Path

import pytest

VARIABLE = "FSEED_FAULTS"


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep the outcome of the call, or of a setup that did not get that far."""
    if report.when == "teardown" or (report.when == "setup" and report.passed):
        return
    line = {
        "test": report.nodeid,
        "outcome": report.outcome,
        "seconds": round(report.duration, 2),
        "told": dict(report.user_properties).get("told"),
    }
    with Path(os.environ[VARIABLE]).open("a") as file:
        file.write(json.dumps(line) + "\n")
