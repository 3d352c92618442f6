from pathlib import Path

import pytest

from fseed.errors import UserError
from fseed.sweep.staged.book import BASELINE, CONTROLS, Slot, build_book, list_arms
from fseed.sweep.staged.stages import build_stages
from tests.configs import compose, compose_below, composer
from tests.sweep.staged.sweeps import Bench


def book_of(*points: str):
    composed = [compose(*words.split()) for words in points]
    return build_book(composed, compose=compose_below)


def test_every_control_of_the_mechanism_is_known() -> None:
    assert set(CONTROLS) == {
        *("aa", "shuffled_state", "random_state", "learned_state", "same_layer"),
        "repeat_prompt",
    }


def test_the_runs_of_a_slot_differ_in_the_seed_alone(tmp_path: Path) -> None:
    book = Bench(tmp_path).build().book
    slot = Slot("hotpot", "raw_l10", "quick")
    first, second = book.run(slot, seed=0), book.run(slot, seed=1)
    assert (first.config.seed, second.config.seed) == (0, 1)
    assert first.arm_key == second.arm_key
    assert first.pair_key != second.pair_key
    assert "seed=1" in second.overrides
    again = composer().compose(second.overrides).config
    assert (again.seed, again.sweep.stage, again.fs) == (1, "quick", second.config.fs)


def test_arms_and_controls_share_the_baseline_of_their_seed(tmp_path: Path) -> None:
    book = Bench(tmp_path, controls=True).build().book
    base = book.run(Slot("hotpot", BASELINE, "confirm"), seed=12)
    assert base.config.budget.test
    slots = [Slot("hotpot", "raw_l10", "confirm"), *book.controls("hotpot", "raw_l10")]
    runs = [book.run(slot, seed=12) for slot in slots]
    assert {run.pair_key for run in runs} == {base.pair_key}
    assert len({run.arm_key for run in runs}) == 1 + len(CONTROLS)
    assert [run.config.control.kind.value for run in runs[1:]] == list(CONTROLS)


def test_the_doubled_prompt_is_one_run_for_all_arms(tmp_path: Path) -> None:
    book = Bench(tmp_path, controls=True).build().book
    slots = [Slot("hotpot", arm, "confirm", "repeat_prompt") for arm in book.arms]
    assert len({book.run(slot, seed=12).run_id for slot in slots}) == 1


@pytest.mark.parametrize(("control", "num_runs"), [("random_state", 1), ("same_layer", 2)])
def test_arms_that_a_control_cannot_tell_apart_share_its_run_and_folder(
    control: str, num_runs: int
) -> None:
    book = book_of("fs=scalar_l10", "fs=scalar_l10 fs_variant.detach=false")
    slots = [Slot("hotpot", arm, "confirm", control) for arm in book.arms]
    runs = [book.run(slot, seed=12) for slot in slots]
    assert len({run.run_id for run in runs}) == num_runs
    assert len({run.run_dir for run in runs}) == num_runs


def test_arms_are_listed_with_their_controls(tmp_path: Path) -> None:
    sweep = Bench(tmp_path, controls=True).build()
    assert [arm.label for arm in sweep.arms if arm.control == "none"] == ["scalar_l10", "raw_l10"]
    beside = [arm.control for arm in sweep.arms if arm.control_of == "raw_l10"]
    assert beside == list(CONTROLS)
    assert len(list_arms(sweep.book, sweep.stages, has_controls=False)) == 2


def test_the_baseline_is_no_arm() -> None:
    assert book_of("task=hotpot fs=no_fs", "task=hotpot fs=raw_l10").arms == ["raw_l10"]
    with pytest.raises(UserError, match=r"needs an arm beside no_fs"):
        book_of("task=hotpot fs=no_fs")


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (["fs=raw_l10 control=aa"], r"control=aa: a staged sweep adds every control"),
        (["fs=raw_l10 sweep.baseline=none"], r"sweep\.baseline=none: .* paired"),
        (["fs=raw_l10 budget.test=true"], r"budget\.test=true: .* when it confirms"),
        (["task=hotpot", "task=hotpot_2048"], r"task=hotpot and task=hotpot_2048 are both hotpot"),
    ],
)
def test_points_that_make_no_staged_sweep_are_refused(points: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        book_of(*points)


def test_one_arm_under_two_names_is_refused() -> None:
    from fseed.config.schema import SweepConfig

    book = book_of("fs=scalar_l10", "fs=scalar_l8 lstart=10")
    with pytest.raises(UserError, match=r"scalar_l10 and scalar_l8,lstart=10 are the same arm"):
        list_arms(book, build_stages(SweepConfig(), first_seed=0), has_controls=False)


def test_a_control_that_cannot_run_is_told_before_the_start(tmp_path: Path) -> None:
    words = ["budget.batch_size=1"]
    bench = Bench(tmp_path, *words, controls=True)
    bench.arms = ["raw_l10"]
    with pytest.raises(UserError, match=r"(?s)hotpot, control=shuffled_state: .*controls=false"):
        bench.build()
    assert Bench(tmp_path, *words).build().book.arms == ["scalar_l10", "raw_l10"]


def test_words_of_the_preflight_reach_every_run(tmp_path: Path) -> None:
    book = Bench(tmp_path).build().book
    slot = Slot("hotpot", "raw_l10", "quick")
    assert book.run(slot, seed=0).config.trainer.micro_batch_size is None
    book.add_words("hotpot", ["trainer.micro_batch_size=2"])
    for arm in (BASELINE, "raw_l10"):
        run = book.run(Slot("hotpot", arm, "quick"), seed=0)
        assert run.config.trainer.micro_batch_size == 2


def test_a_word_of_the_preflight_replaces_that_of_the_command(tmp_path: Path) -> None:
    book = Bench(tmp_path, "trainer.micro_batch_size=4").build().book
    book.add_words("hotpot", ["trainer.micro_batch_size=2"])
    run = book.run(Slot("hotpot", "raw_l10", "quick"), seed=0)
    assert run.config.trainer.micro_batch_size == 2
    assert sum(word.startswith("trainer.micro_batch_size") for word in run.overrides) == 1


def test_remarks_name_the_arms_they_are_about(tmp_path: Path) -> None:
    book = Bench(tmp_path, "fs_variant.clip=64").build().book
    (note,) = [note for note in book.notes() if "fs_variant.clip=64" in note]
    assert note.startswith("note: ")
    assert "scalar_l10" in note
