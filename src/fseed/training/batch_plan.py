"""Which examples a step reads: a pure function of (seed, step), alike for every arm; no torch."""

from collections.abc import Sequence

import numpy as np

from fseed.errors import UserError
from fseed.tasks.base import EncodedExample

# similar lengths are put together among this many batches drawn at random; the number is doubled
# while pads are above MAX_PADDING of the true tokens, so batches are as random as that allows
MIN_POOL_BATCHES = 8
MAX_PADDING = 0.05


class BatchPlan:
    """Example numbers of every optimiser step.

    One epoch visits every example once (a rest smaller than a batch is left out, another one
    each epoch). It is drawn at random in pools of ``pool_batches`` batches, and each pool is cut
    into batches of similar lengths.

    Raises:
        UserError: if there are fewer examples than one batch holds.
    """

    def __init__(self, examples: Sequence[EncodedExample], *, seed: int, batch_size: int) -> None:
        """Store the examples; an epoch is planned when it is asked for."""
        if len(examples) < batch_size:
            raise UserError(
                f"budget.batch_size={batch_size} needs as many training examples, "
                f"found {len(examples)}; lower budget.batch_size or raise data.num_train"
            )
        self.examples, self.seed, self.batch_size = examples, seed, batch_size
        self.steps_per_epoch = len(examples) // batch_size
        self._lengths = np.array([_lengths(example) for example in examples])
        self.pool_batches = self._choose_pool()
        self._epoch, self._batches = -1, np.empty(0, dtype=np.int64)

    def indices(self, step: int) -> np.ndarray:
        """Return the example numbers of one step, [batch_size]."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._plan_epoch(epoch, self.pool_batches)
        return self._batches[position]

    def chosen(self, step: int) -> list[EncodedExample]:
        """Return the examples of one step."""
        return [self.examples[i] for i in self.indices(step)]

    def tokens(self, step: int) -> int:
        """Count the tokens read in one step, without pads and without repetition."""
        return sum(count_tokens(example) for example in self.chosen(step))

    def padding_overhead(self) -> float:
        """Return the share of pads of the first epoch: tokens processed / true tokens - 1."""
        return self._share_of_pads(self._plan_epoch(0, self.pool_batches))

    def _choose_pool(self) -> int:
        """Return the smallest pool whose first epoch has few pads, else one of the whole epoch."""
        size = MIN_POOL_BATCHES
        while size < self.steps_per_epoch:
            if self._share_of_pads(self._plan_epoch(0, size)) <= MAX_PADDING:
                break
            size *= 2
        return size

    def _plan_epoch(self, epoch: int, pool_batches: int) -> np.ndarray:
        """Return the batches of one epoch, [steps_per_epoch, batch_size]."""
        generator = np.random.default_rng([self.seed, epoch])
        order = generator.permutation(len(self.examples))[: self.steps_per_epoch * self.batch_size]
        size = pool_batches * self.batch_size
        batches = [
            batch
            for start in range(0, len(order), size)
            for batch in cut_pool(
                order[start : start + size], self._lengths, batch_size=self.batch_size
            )
        ]
        return generator.permutation(np.stack(batches), axis=0)

    def _share_of_pads(self, batches: np.ndarray) -> float:
        lengths = self._lengths[batches]
        return float(self.batch_size * lengths.max(axis=1).sum() / lengths.sum() - 1)


def cut_pool(pool: np.ndarray, lengths: np.ndarray, *, batch_size: int) -> list[np.ndarray]:
    """Cut a pool of examples into batches with few pads.

    Every part is sorted by prompt or by answer length and cut in two where that leaves the fewest
    tokens to process, until all parts are batches. ``lengths`` [N, 2] are the prompt and answer
    length of every example; the size of ``pool`` is a multiple of ``batch_size``.
    """
    batches: list[np.ndarray] = []
    parts = [pool]
    while parts:
        part = parts.pop()
        if len(part) == batch_size:
            batches.append(part)
        else:
            parts += _cut_in_two(part, lengths, batch_size)
    return batches


def _cut_in_two(part: np.ndarray, lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Return the two halves, each of whole batches, with the fewest tokens to process."""
    places = np.arange(batch_size, len(part), batch_size)
    found = []
    for side in (0, 1):
        ordered = part[np.argsort(lengths[part, side], kind="stable")]
        # the longest prompt plus the longest answer before and after every place
        longest = np.maximum.accumulate(lengths[ordered]).sum(axis=1)
        rest = np.maximum.accumulate(lengths[ordered][::-1])[::-1].sum(axis=1)
        tokens = places * longest[places - 1] + (len(part) - places) * rest[places]
        best = int(np.argmin(tokens))
        found.append((tokens[best], side, ordered, places[best]))
    _, _, ordered, place = min(found, key=lambda cut: cut[:2])
    return [ordered[:place], ordered[place:]]


def count_tokens(example: EncodedExample) -> int:
    """Count prompt and answer tokens; the answer of an in-place fill is part of its prompt."""
    return sum(_lengths(example))


def steps_for_tokens(plan: BatchPlan, *, tokens: int) -> int:
    """Return the fewest steps whose batches hold at least ``tokens`` tokens."""
    steps, seen = 0, 0
    while seen < tokens:
        seen += plan.tokens(steps)
        steps += 1
    return steps


def evaluation_batches(
    examples: Sequence[EncodedExample], *, batch_size: int
) -> list[list[EncodedExample]]:
    """Split a whole split into batches of similar length, none of a single example if avoidable."""
    ordered = sorted(examples, key=lambda e: (len(e.prompt_ids), e.example_id))
    num_batches = -(-len(ordered) // batch_size)
    parts = np.array_split(np.arange(len(ordered)), num_batches)
    return [[ordered[i] for i in part] for part in parts]


def _lengths(example: EncodedExample) -> tuple[int, int]:
    """Return the tokens of prompt and answer, which are padded apart."""
    return len(example.prompt_ids), 0 if example.mask_positions else len(example.answer_ids)
