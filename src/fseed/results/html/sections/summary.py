"""Arms over several tasks, and the appendix of arms without a result."""

from fseed.results.collection import Collection
from fseed.results.formats import seed_ranges
from fseed.results.html.markup import Html, element
from fseed.results.html.plain_table import render_plain_table
from fseed.results.html.words import NOT_RECORDED, pp, sentence
from fseed.results.summary import appendix_rows, task_summaries

_ACROSS = (
    *("Arm", "Mean difference, pp", "Tasks +/0/\u2212", "Helps", "Hurts", "Equivalent"),
    *("Stage", "Source", "Model", "Tasks", "Pruned on"),
)


def render_across_tasks(collection: Collection) -> Html:
    """Return a row per arm that was measured on two tasks or more; nothing without any."""
    rows = [
        [
            *(row.arm, pp(row.mean_difference)),
            f"{row.num_up}/{row.num_tied}/{row.num_down} of {row.num_tasks}",
            *(str(row.num_helps), str(row.num_hurts), str(row.num_equivalent)),
            *(row.stage, row.source, row.model, row.tasks, row.pruned or "0"),
        ]
        for row in task_summaries(collection)
    ]
    if not rows:
        return Html("")
    told = (
        "Interquartile mean over tasks of arm minus no_fs, each task in its own metric and counted "
        "once. It says nothing about a single task, and no test is made on it."
    )
    return Html(element("p", told) + render_plain_table(_ACROSS, rows, label="arms over tasks"))


def render_appendix(collection: Collection) -> Html:
    """Return every arm without a result with its reason; nothing when all have one."""
    rows = [
        [
            *(row.task, row.stage, row.arm),
            seed_ranges(row.seeds) if row.seeds else NOT_RECORDED,
            *(row.state.replace("_", " "), row.reason_code, sentence(row.reason)),
        ]
        for row in appendix_rows(collection)
    ]
    if not rows:
        return Html("")
    names = ("Task", "Stage", "Arm", "Seeds", "State", "Code", "Reason")
    heading = element("h3", "Arms without a result")
    return Html(heading + render_plain_table(names, rows, label="arms without a result"))
