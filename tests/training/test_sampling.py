import torch

from fseed.training.sampling import sample_generators
from tests.training.build import build_example

EXAMPLES = [build_example(name, "same prompt", "same answer") for name in ("a", "b", "c")]


def first_numbers(examples, *, seed=0, sample=1):
    generators = sample_generators(examples, seed=seed, sample=sample)
    assert generators is not None
    return [torch.rand((), generator=generator).item() for generator in generators]


def test_the_greedy_answer_draws_nothing():
    assert sample_generators(EXAMPLES, seed=0, sample=0) is None


def test_every_seed_example_and_sample_has_its_own_generator():
    drawn = [
        number
        for seed in (0, 1, 11)
        for sample in (1, 2, 11)
        for number in first_numbers(EXAMPLES, seed=seed, sample=sample)
    ]
    assert len(set(drawn)) == len(drawn)


def test_a_generator_depends_on_nothing_else():
    numbers = first_numbers(EXAMPLES)
    assert first_numbers(EXAMPLES) == numbers
    assert first_numbers(EXAMPLES[::-1]) == numbers[::-1]
    assert first_numbers(EXAMPLES[1:2]) == numbers[1:2]
