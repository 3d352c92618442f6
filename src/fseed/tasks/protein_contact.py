"""Protein contacts: a chain and some pairs of its residues in, one bit a pair out.

Worked example (invented, 4 pairs), order ``filler_last``; ``task_last`` puts the notes first::

    Sequence:
    MKTAYIAKQRGDPG

    Pairs:
    5-14 2-12 1-10 3-11

    Notes:
    GSHMLEDPVVKW

    Answer:
    0101<end of text>

Positions count from 1; pairs stand in random order: were they ascending, repeating the bit before
would be right for 56 % of real pairs under teacher forcing (the copy baseline does that). A bit is
1 when the two residues (their C-beta or C-alpha, as the data set has it) are at most
``CONTACT_DISTANCE`` apart. Pairs are at least ``MIN_SEPARATION`` apart in the chain, and both
residues are resolved (``valid_mask``). The notes are chains of other rows of the split; they tell
nothing about the answer and are cut first. Every character is one token, in the prompt as well.

With ``sampling=balanced`` each pair is in contact with chance one half; with ``natural`` the pairs
are drawn from all, of which a few percent are in contact. The number of contacts is drawn as well:
were half of 48 pairs in contact, counting the bits already given would predict 58 % of all bits.
Contacts are closer along the chain than other pairs: a threshold on the separation alone, chosen on
the real training chains, has a balanced accuracy of 0.58 on the validation chains (natural: 0.59).
The splits share no sequence cluster.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

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
from fseed.tasks.label_metrics import auroc, balanced_accuracy, count_pairs, count_rows, precision
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
from fseed.tasks.protein_mini import MINI_VERSION, generate_contacts
from fseed.tasks.sequence_clusters import cluster_sequences

CONTACT_DISTANCE = 8.0  # angstrom
MAX_COORDINATE = 1e6  # angstrom, far beyond any structure
MIN_SEPARATION = 8  # residues along the chain

BALANCED, NATURAL = "balanced", "natural"
SAMPLINGS = (BALANCED, NATURAL)

CONTACT, APART = "1", "0"
MAX_PAIRS = 256


@dataclass(frozen=True, kw_only=True)
class ProteinContactOptions:
    """How many pairs are asked for and how they are drawn, notes, and the chains that are used."""

    sampling: str = BALANCED
    num_pairs: int = 48
    num_notes: int = 2
    min_residues: int = 96
    max_residues: int = 384

    def __post_init__(self) -> None:
        """Raise ``ValueError`` for values out of range."""
        if self.sampling not in SAMPLINGS:
            raise ValueError(f"sampling={self.sampling}: must be {' or '.join(SAMPLINGS)}")
        check_chain_options(self)
        # a quarter of the pairs of the shortest chain, so that contacts can be found
        num_all = (self.min_residues - MIN_SEPARATION) * (self.min_residues - MIN_SEPARATION + 1)
        check_range("num_pairs", self.num_pairs, low=2, high=min(MAX_PAIRS, num_all // 8))


def read_key(row: Row) -> RowKey:
    """Return id and chain of a row; raises ``RowProblem``."""
    chain = read_chain(row["seq"])
    mask = row["valid_mask"] or []
    if len(mask) != len(chain):
        raise RowProblem("sequence and mask differ in length")
    if None in mask:
        raise RowProblem("mask with missing values")
    return RowKey(row_id=chain_id(chain), sequence=chain)


def build_example(row: Row, build: Build) -> Example:
    """Return the example of a row that ``read_key`` accepts; raises ``RowProblem``."""
    options = build.setting.options
    chain = read_chain(row["seq"])
    check_length(chain, options)
    row_id = chain_id(chain)
    resolved = np.array(row["valid_mask"], bool)
    pairs, touching = list_pairs(_read_coordinates(row["tertiary"], resolved), resolved)
    chosen = _draw_pairs(touching, options, build.generator(row_id))
    answer = "".join(CONTACT if bit else APART for bit in touching[chosen])
    return Example(
        example_id=row_id,
        kind="chain",
        sections={
            "chain": chain_section(chain),
            "queries": query_section(
                "Pairs", [f"{first + 1}-{second + 1}" for first, second in pairs[chosen].tolist()]
            ),
            "notes": draw_note_section(build, row_id, chain),
        },
        answers=(answer,),
        copied=repeat_labels(answer, first=APART),
        form=Form.characters,
        prompt_by_character=True,
        labels=(APART, CONTACT),
    )


def _read_coordinates(tertiary: Sequence[Any] | None, resolved: np.ndarray) -> np.ndarray:
    """Return the coordinates [residue, 3] in angstrom; raises ``RowProblem``."""
    points = tertiary or []
    if len(points) != len(resolved):
        raise RowProblem("sequence and coordinates differ in length")
    if any(point is None or len(point) != 3 for point in points):
        raise RowProblem("residue without three coordinates")
    coordinates = np.array(points, float)  # a missing number becomes NaN
    if not (np.abs(coordinates[resolved]) < MAX_COORDINATE).all():  # false for NaN too
        raise RowProblem("resolved residue without finite coordinates")
    return coordinates


def list_pairs(coordinates: np.ndarray, resolved: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return all pairs [pair, 2] of resolved residues far enough apart, and which are in contact.

    Pairs are in ascending order; residues count from zero.
    """
    first, second = np.triu_indices(len(resolved), k=MIN_SEPARATION)
    usable = resolved[first] & resolved[second]
    first, second = first[usable], second[usable]
    # squares are compared, so that a distance of exactly 8 is not lost to rounding
    squared = ((coordinates[first] - coordinates[second]) ** 2).sum(axis=1)
    return np.stack([first, second], axis=1), squared <= CONTACT_DISTANCE**2


def _draw_pairs(
    touching: np.ndarray, options: ProteinContactOptions, rng: np.random.Generator
) -> np.ndarray:
    """Return the numbers of the pairs asked for, in random order; raises ``RowProblem``."""
    if not touching.any():
        raise RowProblem("no pair in contact")
    if len(touching) < options.num_pairs:
        raise RowProblem(f"fewer than {options.num_pairs} pairs")
    if options.sampling == NATURAL:
        return rng.choice(len(touching), options.num_pairs, replace=False)
    contacts, others = np.flatnonzero(touching), np.flatnonzero(~touching)
    half = (options.num_pairs + 1) // 2
    if min(len(contacts), len(others)) < half:
        raise RowProblem(f"fewer than {half} pairs in contact or not in contact")
    lowest = options.num_pairs - len(others)
    wanted = int(np.clip(rng.binomial(options.num_pairs, 0.5), lowest, len(contacts)))
    drawn = [
        rng.choice(contacts, wanted, replace=False),
        rng.choice(others, options.num_pairs - wanted, replace=False),
    ]
    return rng.permutation(np.concatenate(drawn))


def balanced_items(rows: Sequence[ScoreRow]) -> list[tuple[float, float] | None]:
    """Return what each row adds to the balanced accuracy and to its number of pairs.

    Right pairs are weighted by the inverse share of their gold bit over all rows, so that sum over
    sum is the balanced accuracy. The weights depend on the gold bits alone and are therefore the
    same for all arms. None for every row when there is one gold bit only.
    """
    counts = [count_pairs(row["gold"], row["predicted"]) for row in rows]
    sizes = {bit: sum(_num_gold(row, bit) for row in counts) for bit in (APART, CONTACT)}
    if not all(sizes.values()):
        return [None] * len(rows)
    total = sum(sizes.values())
    weights = {bit: total / (2 * size) for bit, size in sizes.items()}
    return [
        (sum(row[bit, bit] * weight for bit, weight in weights.items()), row.total())
        for row in counts
    ]


def _num_gold(counts: Any, bit: str) -> int:
    return counts[bit, APART] + counts[bit, CONTACT]


def pool_balanced_accuracy(rows: Sequence[ScoreRow]) -> Pooled | None:
    """Return the balanced accuracy over all pairs of the rows."""
    counts = count_rows(rows)
    value = balanced_accuracy(counts)
    return None if value is None else Pooled(value, counts.total())


def pool_auroc(rows: Sequence[ScoreRow]) -> Pooled | None:
    """Return the area under the ROC curve over all pairs, from the probability of contact."""
    scored = [row for row in rows if row["label_scores"] is not None]
    scores = [score for row in scored for score in row["label_scores"]]
    truth = [bit == CONTACT for row in scored for bit in row["gold"]]
    value = auroc(truth, scores)
    return None if value is None else Pooled(value, len(scores))


def pool_precision(rows: Sequence[ScoreRow]) -> Pooled | None:
    """Return the precision of the predicted contacts; n is their number."""
    counts = count_rows(rows)
    value = precision(counts, positive=CONTACT)
    if value is None:
        return None
    return Pooled(value, counts[CONTACT, CONTACT] + counts[APART, CONTACT])


def generate_rows(setting: Setting) -> Iterator[dict[str, Any]]:
    """Yield the generated rows of a split; each serves either sampling."""
    return generate_contacts(
        setting.split,
        seed=setting.seed,
        min_residues=setting.options.min_residues,
        max_residues=setting.options.max_residues,
        num_each=(setting.options.num_pairs + 1) // 2,
        separation=MIN_SEPARATION,
    )


PROTEIN_CONTACT_MAP = DataSet(
    folder="protein_contact",
    hub_id="heya5/protein_contact_map",
    columns={"seq": "string", "tertiary": [["number"]], "valid_mask": ["boolean"]},
    key_columns=("seq", "valid_mask"),
    files={"train": ("train",), "validation": ("valid", "validation"), "test": ("test",)},
    hub_splits={"train": "train", "validation": "valid", "test": "test"},
    required=("train", "validation"),
)

PROTEIN_CONTACT = Task(
    name="protein_contact",
    summary="Which queried pairs of residues of a protein chain are in contact.",
    datasets={"protein_contact_map": PROTEIN_CONTACT_MAP},
    options=ProteinContactOptions,
    orders={
        "filler_last": ("chain", "queries", "notes"),
        "task_last": ("notes", "chain", "queries"),
    },
    order_aliases={"q_after": "filler_last", "q_first": "task_last"},
    metrics={
        "balanced_accuracy": pooled(
            "Mean of the fractions of right pairs among those in contact and among the others.",
            pool_balanced_accuracy,
            items=balanced_items,
            is_right=lambda row: row["num_correct"] == row["num_units"],
        ),
        "auroc": pooled("Area under the ROC curve of the probability of contact.", pool_auroc),
        "precision": pooled(
            "Fraction of the predicted contacts that are in contact.", pool_precision
        ),
        "accuracy": UNIT_ACCURACY,
        "full_vocabulary_accuracy": FULL_VOCABULARY_ACCURACY,
        "end_of_text_accuracy": END_OF_TEXT_ACCURACY,
        "loss": LOSS,
    },
    mini_version=MINI_VERSION,
    read_key=read_key,
    build_example=build_example,
    generate_mini=generate_rows,
    notes=note_rule("seq"),
    cluster=cluster_sequences,
    shared="shared sequence cluster",
)
