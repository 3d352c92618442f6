from pathlib import Path

from fseed.tasks.registry import TASKS
from fseed.tasks.task_list import render_list

PAGE = Path(__file__).parents[2] / "TASKS.md"


def test_the_page_matches_the_code():
    assert PAGE.read_text() == render_list() + "\n", (
        "python -m fseed.tasks.task_list > TASKS.md prints it anew"
    )


def test_every_task_has_a_row_and_a_section():
    page = render_list()
    for name, task in TASKS.items():
        assert f"| [`{name}`](#{name}) | {task.summary} |" in page
        assert f"\n## {name}\n" in page
        assert all(f"- metric `{metric}`" in page for metric in task.metrics)
