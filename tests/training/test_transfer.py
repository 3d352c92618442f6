import torch

from fseed.models.prompt_answer import PromptAnswer
from fseed.training.transfer import fetch, move_batch, one_behind
from tests.models.build import build_batch


def test_every_call_is_made_after_the_next_one_was_started():
    seen = []

    def start(number):
        seen.append(f"start {number}")

        def finish():
            seen.append(f"finish {number}")
            return number

        return finish

    assert list(one_behind(start(number) for number in range(3))) == [0, 1, 2]
    assert seen == ["start 0", "start 1", "finish 0", "start 2", "finish 1", "finish 2"]


def test_nothing_and_one_call_work_too():
    assert list(one_behind(iter(()))) == []
    assert list(one_behind([lambda: 5])) == [5]


def test_on_a_cpu_nothing_is_copied():
    one, other = torch.zeros(2), torch.ones(3)
    found = fetch([one, other])()
    assert [x.data_ptr() for x in found] == [one.data_ptr(), other.data_ptr()]
    batch = build_batch([3, 2], [1, 2])._replace(noise_keys=(1, 2))
    moved = move_batch(batch, torch.device("cpu"))
    assert isinstance(moved, PromptAnswer)
    assert moved.noise_keys == (1, 2)
    assert moved.prompt.data_ptr() == batch.prompt.data_ptr()
