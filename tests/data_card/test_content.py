from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest

from fseed.compose.loader import Composer, hydra_session
from fseed.config.schema import RunConfig
from fseed.data_card.blocks import Bin, Block, Histogram, Sample, Table
from fseed.data_card.content import Subject, build_card, count_bins
from fseed.models.tokenizer import ByteTokenizer
from fseed.tasks.cache import CacheOutcome, CacheReport
from fseed.tasks.loading import TaskData
from fseed.tasks.registry import build_request, load_task_data

SMALL = ("data.num_train=40", "data.num_validation=20", "data.num_test=10")


def compose(*overrides: str) -> RunConfig:
    with hydra_session() as hydra:
        return Composer(hydra.config_loader).compose([*SMALL, *overrides]).config


def build_subject(*overrides: str) -> Subject:
    config = compose(*overrides)
    request = build_request(config.task, config.data, splits=("train", "validation"))
    return Subject(
        config=config,
        task=request.task,
        options=request.options,
        data=load_task_data(config.task, config.data, ByteTokenizer()),
        cache=CacheReport(CacheOutcome.hit, 0.125, None),
        tokenizer=ByteTokenizer(),
    )


def cells(blocks: Sequence[Block], title: str) -> dict[str, Sequence[str]]:
    """Return the rows of the table called ``title`` by their first cell."""
    (table,) = (b for b in blocks if isinstance(b, Table) and b.title == title)
    return {row[0]: row[1:] for row in table.rows}


@pytest.fixture(scope="module")
def hotpot() -> Subject:
    return build_subject("task=hotpot")


def test_card_says_first_what_it_is_about(hotpot: Subject) -> None:
    card = build_card(hotpot)
    start = hotpot.data.data_hash[:16]
    assert card.heading == f"hotpot, question_last, mini data, byte tokenizer, data {start}"
    assert card.summary == hotpot.task.summary
    setting = cells(card.blocks, "Setting")
    assert setting["data hash"] == (hotpot.data.data_hash,)
    assert setting["cache"] == ("hit, loaded in 0.12 s",)
    assert setting["data set"] == ("generated, in the columns of hotpotqa/hotpot_qa (distractor)",)


def test_counts_add_up(hotpot: Subject) -> None:
    report = replace(
        hotpot.data.preflight.splits["train"],
        num_rows=1100,
        dropped={"empty answer": 40, "repeated id": 5},
        overlap={"shared id": 55},
        num_cut=3,
        num_lost_gold=2,
    )
    splits = hotpot.data.preflight.splits | {"train": report}
    data = replace(hotpot.data, preflight=replace(hotpot.data.preflight, splits=splits))
    blocks = build_card(replace(hotpot, data=data)).blocks
    assert cells(blocks, "Rows") == {
        "train": ("1,100", "45", "55", "1,000", "40", "3", "2"),
        "validation": ("20", "0", "0", "20", "20", "0", "0"),
    }
    assert cells(blocks, "Dropped rows") == {
        "empty answer": ("40", "0"),
        "repeated id": ("5", "0"),
    }
    assert cells(blocks, "Overlap with a split that must stay clean") == {"shared id": ("55", "0")}


def test_balance_baselines_and_padding(hotpot: Subject) -> None:
    blocks = build_card(hotpot).blocks
    assert cells(blocks, "Kinds")["bridge"] == ("24 (60.0 %)", "12 (60.0 %)")
    answers = cells(blocks, "Most frequent answers (train)")
    assert set(answers) >= {"no", "yes"}
    baselines = cells(blocks, "Baselines on validation")
    constant = hotpot.data.constant_baseline["token_accuracy"]
    assert baselines["token_accuracy"][:2] == (f"{constant:.4f}", "-")
    assert baselines["token_accuracy"][2] == hotpot.task.metrics["token_accuracy"].sentence
    assert baselines["f1_bridge"][2] == ""
    padding = cells(blocks, "Padding of training batches")
    assert padding["examples a batch (budget.batch_size)"] == ("16",)
    assert padding["batches an epoch"] == ("2",)


def test_too_much_padding_and_too_few_examples_are_said(hotpot: Subject) -> None:
    examples = hotpot.data.splits["train"]
    uneven = [
        replace(example, prompt_ids=[1] * (10 if number % 2 else 1000))
        for number, example in enumerate(examples[:17])
    ]
    data = replace(hotpot.data, splits=hotpot.data.splits | {"train": uneven})
    (table,) = (
        block
        for block in build_card(replace(hotpot, data=data)).blocks
        if block.title == "Padding of training batches"
    )
    assert isinstance(table, Table)
    assert table.note == "Above 6.0 %: lower budget.batch_size or raise data.num_train."
    short = replace(data, splits={**data.splits, "train": uneven[:3]})
    blocks = build_card(replace(hotpot, data=short)).blocks
    assert "found 3" in cells(blocks, "Padding of training batches")["none"][0]


def test_labels_are_counted_per_scored_unit() -> None:
    subject = build_subject("task=arc")
    labels = cells(build_card(subject).blocks, "Labels of the scored units")
    counts = [int(row[0].split()[0]) for row in labels.values()]
    assert sum(counts) == sum(len(e.units) for e in subject.data.splits["train"])
    assert set(labels) >= {"A", "B", "C", "D"}
    # a label that is offered and never right is listed too
    never = [replace(e, label_ids=(*e.label_ids, ord("Z"))) for e in subject.data.splits["train"]]
    data: TaskData = replace(subject.data, splits=subject.data.splits | {"train": never})
    labels = cells(build_card(replace(subject, data=data)).blocks, "Labels of the scored units")
    assert labels["Z"][0] == "0 (0.0 %)"


@pytest.mark.parametrize(
    ("task", "title", "is_marked"),
    [
        ("rightcopy", "prompt, masked positions marked", True),
        ("hotpot_retrieval", "context", False),
        ("sudoku4", "prompt", False),
    ],
)
def test_examples_of_every_objective(task: str, title: str, is_marked: bool) -> None:
    blocks = build_card(build_subject(f"task={task}")).blocks
    samples = [block for block in blocks if isinstance(block, Sample)]
    assert len(samples) == 3
    name, spans = samples[0].parts[0]
    assert name == title
    assert any(span.is_marked for span in spans) == is_marked


def test_histograms_hold_every_example(hotpot: Subject) -> None:
    charts = [block for block in build_card(hotpot).blocks if isinstance(block, Histogram)]
    assert [sum(part.count for part in chart.bins) for chart in charts] == [40, 40]
    answers = [len(e.answer_ids) - 1 for e in hotpot.data.splits["train"]]
    assert (charts[1].bins[0].low, charts[1].bins[-1].high) == (min(answers), max(answers))


def test_bins_cover_the_range() -> None:
    assert count_bins([]) == []
    assert count_bins([5, 5]) == [Bin(5, 5, 2)]
    assert [part.label for part in count_bins(list(range(25)))][-1] == "24"
    wide = count_bins([0, 1000])
    assert (wide[0].count, wide[-1].count, len(wide)) == (1, 1, 12)
    assert all(a.high + 1 == b.low for a, b in pairwise(wide))
    assert wide[-1].high == 1000
