"""Protein secondary structure: a chain and some of its positions in, one label a position out.

Worked example (invented, 6 queries), order ``filler_last``; ``task_last`` puts the notes first::

    Sequence:
    MKTAYIAKQRGDPG

    Positions:
    11 3 2 13 8 7

    Notes:
    GSHMLEDPVVKW

    Answer:
    THH~HH<end of text>

Positions count from 1 and stand in random order: were they ascending, repeating the label before
would be right for 44 % of real residues under teacher forcing. That is what the copy baseline does;
in random order it is no better than the constant. The notes are chains of other rows of the split;
they tell nothing about the answer and are cut first. Every character is one token, in the prompt as
well, so that residue and label are one token each.

Labels are the eight states of DSSP, ``~`` for none of the others, or three: H for H, G and I, E for
E and B, C for the rest. The data set ``netsurfp2`` has three, and a mask: only residues with mask 1
(resolved in the structure) are asked for. The splits share no sequence cluster.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from fseed.tasks.base import (
    Build,
    DataSet,
    Example,
    Form,
    Row,
    RowKey,
    RowProblem,
    ScoreRow,
    Setting,
    Task,
)
from fseed.tasks.label_metrics import count_rows, macro_f1
from fseed.tasks.metrics import (
    END_OF_TEXT_ACCURACY,
    FULL_VOCABULARY_ACCURACY,
    LOSS,
    UNIT_ACCURACY,
    Pooled,
    pooled,
)
from fseed.tasks.protein_chains import (
    chain_id,
    chain_section,
    check_chain_options,
    check_length,
    check_range,
    draw_note_section,
    note_rule,
    query_section,
    read_chain,
    repeat_labels,
)
from fseed.tasks.protein_mini import MINI_VERSION, generate_structures
from fseed.tasks.sequence_clusters import cluster_sequences

EIGHT_STATES = "GHIBEST~"
THREE_STATES = "HEC"
LABELS = {8: EIGHT_STATES, 3: THREE_STATES}

# a label of either alphabet to its label among three
TO_THREE = dict(zip("GHIBESTC~", "HHHEECCCC", strict=True))

# the only data set whose labels are three
THREE_STATE_DATA = "netsurfp2"


@dataclass(frozen=True, kw_only=True)
class ProteinSsOptions:
    """Data set, number of states, of queries and of notes, and the chains that are used."""

    dataset: str = "lamm"
    states: int = 8
    num_queries: int = 48
    num_notes: int = 4
    min_residues: int = 96
    max_residues: int = 512

    def __post_init__(self) -> None:
        """Raise ``ValueError`` for values out of range."""
        if self.states not in LABELS:
            raise ValueError(f"states={self.states}: must be 8 or 3")
        if self.dataset == THREE_STATE_DATA and self.states != 3:
            raise ValueError(
                f"states={self.states}: must be 3, data set {self.dataset} has no more"
            )
        check_chain_options(self)
        check_range("num_queries", self.num_queries, low=1, high=self.min_residues)


def read_key(row: Row) -> RowKey:
    """Return id and chain of a row; raises ``RowProblem``.

    Rows with a mask have three states, the others eight.
    """
    chain = read_chain(row["Sequence"])
    labels = row["Secondary_structure"] or ""
    if len(labels) != len(chain):
        raise RowProblem("sequence and labels differ in length")
    if not set(labels) <= set(THREE_STATES if "Mask" in row else EIGHT_STATES):
        raise RowProblem("label outside the alphabet")
    if "Mask" in row:
        _check_mask(row["Mask"] or "", chain)
    return RowKey(row_id=chain_id(chain), sequence=chain)


def _check_mask(mask: str, chain: str) -> None:
    if len(mask) != len(chain):
        raise RowProblem("sequence and mask differ in length")
    if not set(mask) <= {"0", "1"}:
        raise RowProblem("mask with other characters than 0 and 1")


def build_example(row: Row, build: Build) -> Example:
    """Return the example of a row that ``read_key`` accepts; raises ``RowProblem``."""
    options = build.setting.options
    chain = read_chain(row["Sequence"])
    check_length(chain, options)
    row_id = chain_id(chain)
    places = _draw_places(row, build, row_id)
    labels = row["Secondary_structure"]
    if options.states == 3:
        labels = "".join(TO_THREE[label] for label in labels)
    answer = "".join(labels[place] for place in places)
    return Example(
        example_id=row_id,
        kind="chain",
        sections={
            "chain": chain_section(chain),
            "queries": query_section("Positions", [str(place + 1) for place in places]),
            "notes": draw_note_section(build, row_id, chain),
        },
        answers=(answer,),
        copied=repeat_labels(answer, first=LABELS[options.states][0]),
        form=Form.characters,
        prompt_by_character=True,
        labels=tuple(LABELS[options.states]),
    )


def _draw_places(row: Row, build: Build, row_id: str) -> list[int]:
    """Return the queried positions, from zero: resolved residues in random order, all different."""
    wanted = build.setting.options.num_queries
    mask = row.get("Mask") or "1" * len(row["Sequence"])
    resolved = [place for place, flag in enumerate(mask) if flag == "1"]
    if len(resolved) < wanted:
        raise RowProblem(f"fewer than {wanted} resolved residues")
    return build.generator(row_id).choice(resolved, wanted, replace=False).tolist()


def pool_macro_f1(rows: Sequence[ScoreRow]) -> Pooled | None:
    """Return the macro F1 of all queried residues of the rows."""
    counts = count_rows(rows)
    value = macro_f1(counts)
    return None if value is None else Pooled(value, counts.total())


def pool_q3(rows: Sequence[ScoreRow]) -> Pooled | None:
    """Return the fraction of queried residues that are right when reduced to three states."""
    counts = count_rows(rows)
    total = counts.total()
    right = sum(n for (truth, guess), n in counts.items() if TO_THREE[truth] == TO_THREE[guess])
    return Pooled(right / total, total) if total else None


def generate_rows(setting: Setting) -> Iterator[dict[str, Any]]:
    """Yield the generated rows of a split."""
    return generate_structures(
        setting.split,
        seed=setting.seed,
        min_residues=setting.options.min_residues,
        max_residues=setting.options.max_residues,
    )


COLUMNS = {"Sequence": "string", "Secondary_structure": "string"}

_make_dataset = partial(DataSet, folder="protein_ss")

LAMM = _make_dataset(
    hub_id="lamm-mit/protein_secondary_structure_from_PDB",
    columns=COLUMNS,
    key_columns=tuple(COLUMNS),
    files={
        "train": ("train", "lamm_pdb_subset_train"),
        "validation": ("validation",),
        "test": ("test",),
    },
    hub_splits={"train": "train"},
)

# chains of 2024 on which Porter 6 was validated: one file, from which all splits are made
PORTER6 = _make_dataset(
    hub_id=None,
    columns=COLUMNS,
    key_columns=tuple(COLUMNS),
    files={"train": ("porter6_2024_validation",)},
    hub_splits={},
)

NETSURFP2 = _make_dataset(
    hub_id=None,
    columns={**COLUMNS, "Mask": "string"},
    key_columns=(*COLUMNS, "Mask"),
    files={split: (f"netsurfp2_ss3_{split}",) for split in ("train", "validation", "test")},
    hub_splits={},
    required=("train", "validation"),
)

PROTEIN_SS = Task(
    name="protein_ss",
    summary="Secondary structure of queried residues of a protein chain, 8 or 3 states.",
    datasets={"lamm": LAMM, "porter6": PORTER6, "netsurfp2": NETSURFP2},
    options=ProteinSsOptions,
    orders={
        "filler_last": ("chain", "queries", "notes"),
        "task_last": ("notes", "chain", "queries"),
    },
    order_aliases={"q_after": "filler_last", "q_first": "task_last"},
    metrics={
        "residue_accuracy": UNIT_ACCURACY,
        "q3": pooled("Fraction of queried residues right among three states (H, E, C).", pool_q3),
        "macro_f1": pooled("Mean F1 of the labels over all queried residues.", pool_macro_f1),
        "full_vocabulary_accuracy": FULL_VOCABULARY_ACCURACY,
        "end_of_text_accuracy": END_OF_TEXT_ACCURACY,
        "loss": LOSS,
    },
    mini_version=MINI_VERSION,
    read_key=read_key,
    build_example=build_example,
    generate_mini=generate_rows,
    notes=note_rule("Sequence"),
    cluster=cluster_sequences,
    shared="shared sequence cluster",
)
