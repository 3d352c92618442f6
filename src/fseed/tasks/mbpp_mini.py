"""Generated MBPP rows: tiny functions of a number, of a list or of a word.

A problem has two steps with constants, such as "adds 3 to a number, then multiplies it by 2"; the
function has an invented name, which problem, tests and solution share. Three rows in a row are of
the three kinds, in shuffled order. Every test is a call with its value; the values are computed
here, not by the solution's text.

There are 576 programs of a number, 384 of a list and 320 of a word. A hash of the steps decides the
split of a program, and function names are disjoint between the splits, so no two splits share a
program under any name. Row ``i`` of a split depends on the version, the seed, the split and ``i``
alone. A change that moves any row needs a new ``MINI_VERSION``.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from fseed.tasks.generated_splits import split_of
from fseed.tasks.hotpot_mini import SPLITS, people_names
from fseed.tasks.mini_words import keyed_generator, shuffled_place

MINI_VERSION = 1

NUM_TESTS = 3
LIST_LENGTH = 4
WORDS = ("lamp", "drum", "boat", "chair", "clock", "rope", "kite", "bell", "stone", "river")
ENDINGS = ("a", "e", "i", "o", "u", "en", "er", "ot")
_CONSTANTS = range(2, 10)


@dataclass(frozen=True)
class Step:
    """One step: what it does in words, in Python around ``{}``, and its effect."""

    words: str
    python: str
    apply: Callable[[Any], Any]


@dataclass(frozen=True)
class Program:
    """A function of one argument, and values to try it on."""

    words: str
    argument: str
    body: str
    apply: Callable[[Any], Any]
    draw: Callable[[np.random.Generator], list[Any]]


def generate_mini(split: str, *, seed: int) -> Iterator[dict[str, Any]]:
    """Yield rows of one split without end, in the schema of the original data.

    ``seed`` is not negative and equals ``data.seed``.
    """
    names = people_names(split)
    for index in count():
        kind = shuffled_place(MINI_VERSION, seed, split, index=index, size=len(_KINDS))
        rng = keyed_generator(MINI_VERSION, seed, split, index)
        program = _KINDS[kind](rng)
        while split_of(program.words) != split:
            program = _KINDS[kind](rng)
        name = names[int(rng.integers(len(names)))].lower()
        yield _build_row(index * len(SPLITS) + SPLITS.index(split), name, program, rng)


def number_steps() -> list[Step]:
    """Return the steps that turn a number into another one."""
    steps = []
    for c in _CONSTANTS:
        steps += [
            Step(f"adds {c} to {{}}", f"{{}} + {c}", lambda n, c=c: n + c),
            Step(f"subtracts {c} from {{}}", f"{{}} - {c}", lambda n, c=c: n - c),
            Step(f"multiplies {{}} by {c}", f"{{}} * {c}", lambda n, c=c: n * c),
        ]
    return steps


def choice_steps() -> list[Step]:
    """Return the conditions that keep numbers of a list."""
    steps = []
    for c in _CONSTANTS:
        steps += [
            Step(f"greater than {c}", f"{{}} > {c}", lambda n, c=c: n > c),
            Step(f"less than {c}", f"{{}} < {c}", lambda n, c=c: n < c),
        ]
    return steps


def word_steps() -> list[Step]:
    """Return the steps that cut or repeat a word."""
    steps = []
    for c in (2, 3):
        steps += [
            Step(f"takes the first {c} letters of a word", f"{{}}[:{c}]", lambda s, c=c: s[:c]),
            Step(f"takes the last {c} letters of a word", f"{{}}[-{c}:]", lambda s, c=c: s[-c:]),
            Step(f"drops the first {c} letters of a word", f"{{}}[{c}:]", lambda s, c=c: s[c:]),
            Step(f"drops the last {c} letters of a word", f"{{}}[:-{c}]", lambda s, c=c: s[:-c]),
            Step(f"repeats a word {c} times", f"{{}} * {c}", lambda s, c=c: s * c),
        ]
    return steps


def ending_steps() -> list[Step]:
    """Return the steps that add letters to what a step on a word leaves."""
    steps = []
    for ending in ENDINGS:
        for times in (1, 2):
            add = ending * times
            for words, python, front in (
                (f"puts {add} before it", f"'{add}' + {{}}", True),
                (f"puts {add} behind it", f"{{}} + '{add}'", False),
            ):
                steps.append(Step(words, python, lambda s, a=add, f=front: a + s if f else s + a))
    return steps


def _draw_number(rng: np.random.Generator) -> Program:
    """Return a program of two steps on a number."""
    first, second = _draw_step(rng, number_steps()), _draw_step(rng, number_steps())
    inner = first.python.format("n")
    # a product needs its left side in brackets, unless that is a product as well
    needs_brackets = "*" in second.python and "*" not in inner
    return Program(
        words=f"{first.words.format('a number')}, then {second.words.format('it')}",
        argument="n",
        body=second.python.format(f"({inner})" if needs_brackets else inner),
        apply=lambda n: second.apply(first.apply(n)),
        draw=lambda rng: [int(n) for n in rng.permutation(20)[:NUM_TESTS]],
    )


def _draw_list(rng: np.random.Generator) -> Program:
    """Return a program that chooses from a list and changes what it chose."""
    chosen, step = _draw_step(rng, choice_steps()), _draw_step(rng, number_steps())
    return Program(
        words=f"{step.words.format('the numbers')} of a list that are {chosen.words}",
        argument="xs",
        body=f"[{step.python.format('x')} for x in xs if {chosen.python.format('x')}]",
        apply=lambda xs: [step.apply(x) for x in xs if chosen.apply(x)],
        draw=lambda rng: [
            [int(x) for x in rng.permutation(12)[:LIST_LENGTH]] for _ in range(NUM_TESTS)
        ],
    )


def _draw_word(rng: np.random.Generator) -> Program:
    """Return a program that cuts or repeats a word and adds letters."""
    first, second = _draw_step(rng, word_steps()), _draw_step(rng, ending_steps())
    return Program(
        words=f"{first.words}, then {second.words}",
        argument="s",
        body=second.python.format(first.python.format("s")),
        apply=lambda s: second.apply(first.apply(s)),
        draw=lambda rng: [WORDS[int(i)] for i in rng.permutation(len(WORDS))[:NUM_TESTS]],
    )


_KINDS = (_draw_number, _draw_list, _draw_word)


def _draw_step(rng: np.random.Generator, steps: list[Step]) -> Step:
    return steps[int(rng.integers(len(steps)))]


def _build_row(
    task_id: int, name: str, program: Program, rng: np.random.Generator
) -> dict[str, Any]:
    """Return a row in the schema of the original data."""
    tests = [f"assert {name}({value!r}) == {program.apply(value)!r}" for value in program.draw(rng)]
    return {
        "task_id": task_id,
        "text": f"Write a function {name} that {program.words}.",
        "code": f"def {name}({program.argument}):\n    return {program.body}",
        "test_list": tests,
        "test_setup_code": "",
        "challenge_test_list": [],
    }
