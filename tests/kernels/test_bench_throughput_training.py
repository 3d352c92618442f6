"""The benchmark of training on a CPU: equal losses, FLA's names, batches, and all of it at once."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.autograd import DeviceType

from bench_throughput.fla_model import IGNORED, NotEqual, join_rows, to_fla
from bench_throughput.flops import Load
from bench_throughput.jobs import Job, Shape
from bench_throughput.measured import Measured, train_row
from bench_throughput.parts import Work
from bench_throughput.profiling import sum_parts, works_on_gpu
from bench_throughput.rows import read_rows
from bench_throughput.sides import joined_loss, seeded_loss, shorten
from bench_throughput.timing import StepClock
from bench_throughput.workload import cut_examples, start_like_trained
from fseed.models.future_seed import FutureSeed, FutureSeedOptions
from fseed.models.initialization import initialize
from fseed.models.prompt_answer import PromptAnswer
from fseed.models.rwkv7 import RWKV7
from fseed.models.shape import RWKV7Shape
from fseed.tasks.base import Objective
from fseed.training.batches import collate
from fseed.training.objectives import Learner

SHAPE = RWKV7Shape(
    num_layers=2, width=32, head_size=16, ffn_width=64, decay_rank=4, in_context_rank=4,
    value_rank=4, gate_rank=4, vocab_size=40,
)  # fmt: skip
HERE = Path(__file__).parents[2] / "kernels" / "bench_throughput"


def build(*, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    model = initialize(RWKV7(SHAPE), generator=generator)
    start_like_trained(model, generator=generator)
    return model.to(dtype)


def draw_batch():
    generator = torch.Generator().manual_seed(1)
    prompt, answer = (
        torch.randint(SHAPE.vocab_size, size, generator=generator) for size in ((3, 12), (3, 5))
    )
    return PromptAnswer(prompt, torch.tensor([12, 7, 9]), answer, torch.tensor([5, 1, 3]))


def test_no_matrix_is_left_at_zero():
    assert all(p.any() for p in build().parameters() if p.ndim >= 2)


def test_logits_of_every_position_give_the_loss_of_the_learner():
    model, batch = build(), draw_batch()
    expected = Learner(model, None, objective=Objective.answer).loss(batch)
    assert joined_loss(model, *join_rows(batch)).item() == pytest.approx(expected.item(), abs=1e-6)


def test_seeded_loss_is_that_of_the_learner():
    model, batch = build(), draw_batch()
    options = FutureSeedOptions(lstart=1)
    future_seed = FutureSeed(
        options, num_layers=SHAPE.num_layers, num_heads=SHAPE.num_heads, width=SHAPE.width
    ).double()
    expected = Learner(model, future_seed, objective=Objective.answer).loss(batch)
    assert seeded_loss(model, future_seed, batch).item() == pytest.approx(expected.item(), abs=1e-6)
    plain = joined_loss(model, *join_rows(batch))
    assert abs(plain.item() - expected.item()) > 1e-6


def test_rows_are_joined_without_the_pads_between():
    batch = draw_batch()
    ids, labels = join_rows(batch)
    assert ids.shape == (3, 17)
    assert ids[1, :8].tolist() == [*batch.prompt[1, :7].tolist(), int(batch.answer[1, 0])]
    assert labels[1, :8].tolist() == [*[IGNORED] * 7, int(batch.answer[1, 0])]
    assert (labels != IGNORED).sum() == batch.answer_lengths.sum()


def test_shortened_batches_keep_true_tokens_alone():
    short = shorten(draw_batch())
    assert short.prompt.shape == (2, 7)
    assert short.answer.shape == (2, 1)


def names_of_fla(model):
    """Their names and shapes, written down from their modules, not from our table."""
    width, found = SHAPE.width, {}
    found["model.embeddings.weight"] = (SHAPE.vocab_size, width)
    found["lm_head.weight"] = (SHAPE.vocab_size, width)
    found |= {f"model.norm.{part}": (width,) for part in ("weight", "bias")}
    for layer in range(SHAPE.num_layers):
        block = f"model.layers.{layer}."
        norms = ("attn_norm", "ffn_norm", *(["pre_norm"] if layer == 0 else []), "attn.g_norm")
        found |= {f"{block}{n}.{part}": (width,) for n in norms for part in ("weight", "bias")}
        found |= {f"{block}attn.x_{x}": (1, 1, width) for x in "rwkvag"}
        found |= {f"{block}attn.{x}": (width,) for x in ("k_k", "k_a")}
        found[f"{block}attn.r_k"] = (SHAPE.num_heads, SHAPE.head_size)
        found |= {f"{block}attn.{x}_proj.weight": (width, width) for x in "rkvo"}
        for x in "wag" if layer == 0 else "wavg":
            found[f"{block}attn.{x}_lora.lora.0.weight"] = (4, width)
            found[f"{block}attn.{x}_lora.lora.2.weight"] = (width, 4)
            if x != "g":
                found[f"{block}attn.{x}_lora.lora.2.bias"] = (width,)
        found[f"{block}ffn.x_k"] = (width,)
        found[f"{block}ffn.key.weight"] = (SHAPE.ffn_width, width)
        found[f"{block}ffn.value.weight"] = (width, SHAPE.ffn_width)
    return {name: torch.empty(size) for name, size in found.items()}


def test_every_tensor_of_theirs_is_one_of_ours():
    model = build()
    wanted = names_of_fla(model)
    found = to_fla(model, wanted)
    assert {name: x.shape for name, x in found.items()} == {n: x.shape for n, x in wanted.items()}
    att = model.layers[1].att
    assert found["model.layers.1.attn.w_lora.lora.0.weight"].equal(att.w1.T)
    assert found["model.layers.1.attn.v_lora.lora.2.bias"].equal(att.v0.flatten())
    assert found["model.layers.1.attn.r_proj.weight"].equal(att.receptance.weight)


def test_a_tensor_without_counterpart_is_refused():
    model = build()
    wanted = names_of_fla(model)
    with pytest.raises(NotEqual, match=r"their model.layers.0.attn.new is none of ours"):
        to_fla(model, {**wanted, "model.layers.0.attn.new": torch.empty(1)})
    wanted.pop("model.layers.1.ffn.x_k")
    with pytest.raises(NotEqual, match=r"they have no blocks.1.ffn.x_k"):
        to_fla(model, wanted)


def test_examples_are_the_text_with_an_answer_at_its_end():
    text = np.arange(1, 31)
    examples = cut_examples(text, Shape(2, 20), num_batches=2, end_of_text=0, ragged=0.0)
    assert [len(e.prompt_ids) + len(e.answer_ids) for e in examples] == [20] * 4
    assert examples[0].prompt_ids == list(range(1, 19))
    assert examples[0].answer_ids == [19, 0]
    # the text begins again where it ends
    assert examples[1].prompt_ids[:12] == [*range(21, 31), 1, 2]
    ragged = cut_examples(text, Shape(2, 20), num_batches=8, end_of_text=0, ragged=0.5)
    lengths = {len(e.prompt_ids) + len(e.answer_ids) for e in ragged}
    assert len(lengths) > 2
    assert min(lengths) >= 10
    assert max(lengths) <= 20


def test_a_row_tells_a_cold_start_from_another_shape():
    job = Job("compare", "ours", Shape(2, 8), 4, 1)
    clock = StepClock(torch.device("cpu"))
    clock.start()
    for _ in range(4):
        clock.mark()
    found = Measured(
        clock=clock, shape=SHAPE, load=Load(16, 2, 2), padded=16, batches="a", peak_gib=1.0,
        micro_batch=2, losses=[1.0] * 4, grad_norms=[1.0] * 4,
    )  # fmt: skip
    row = train_row(job, found, process_started=clock.started - 7.0)
    assert row["cold_seconds"] == pytest.approx(7.0, abs=0.1)
    assert row["steady_seconds"] >= row["cold_seconds"]
    assert row["timed"] == 3
    assert "cold_seconds" not in train_row(job, found, process_started=None)


def event(name, *, kernels=(), microseconds=0.0, device=DeviceType.CPU, sizes=(), parent=None):
    return SimpleNamespace(
        name=name,
        device_type=device,
        kernels=[SimpleNamespace(name=n, duration=d) for n, d in kernels],
        time_range=SimpleNamespace(elapsed_us=lambda: microseconds),
        input_shapes=sizes,
        cpu_parent=parent,
        is_user_annotation=False,
    )


def test_kernels_are_counted_once_with_their_operator_where_it_is_known():
    gpu = DeviceType.CUDA
    outer = event("LinearFunction")
    works = works_on_gpu(
        [
            event("aten::mm", kernels=[("gemm", 5.0)], sizes=[[8, 4], [4, 4]], parent=outer),
            event("cudaLaunchKernel", kernels=[("gemm", 5.0)]),
            event("gemm", microseconds=5.0, device=gpu),
            event("gemm", microseconds=3.0, device=gpu),
            event("Optimizer.step#AdamW.step", microseconds=50.0, device=gpu),
        ]
    )
    found = [(w.kernel, w.operator, w.sizes, w.ranges, w.microseconds) for w in works]
    assert found == [
        ("gemm", "aten::mm", ((8, 4), (4, 4)), ("LinearFunction",), 5.0),
        ("gemm", "", (), (), 3.0),
    ]


def test_batches_of_the_run_are_those_of_the_loop():
    text = np.arange(1, 400)
    examples = cut_examples(text, Shape(2, 20), num_batches=2, end_of_text=0, ragged=0.3)
    batch = collate(examples[:2])
    ids, labels = join_rows(batch)
    wanted = [*examples[0].prompt_ids, *examples[0].answer_ids]
    assert ids[0, : len(wanted)].tolist() == wanted
    assert labels[0][labels[0] != IGNORED].tolist() == examples[0].answer_ids


@pytest.mark.slow
def test_smoke_does_all_of_it(tmp_path):
    command = [sys.executable, str(HERE), "--output", str(tmp_path), "--smoke"]
    done = subprocess.run([*command, "--commit", "test"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "throughput.md").read_text()
    for title in ("Speed", "Start", "First steps", "Profile", "Memory", "Projection", "In short"):
        assert f"## {title}" in page
    assert "NOT EQUAL" not in page
    assert "needs a GPU" in page
    lines = (tmp_path / "curves.csv").read_text().splitlines()
    assert lines[0] == 'step,fseed,"fseed, Future-Seed",unfused'
    assert len(lines) == 9
    assert done.stdout.rstrip().splitlines()[-1].startswith("| unfused |")


@pytest.mark.slow
def test_a_training_that_is_not_equal_fails_the_command(tmp_path):
    """With another learning rate the first losses are the same, the later ones are not."""
    code = (
        f"import sys; sys.path.insert(0, {str(HERE.parent)!r})\n"
        "from bench_throughput import worker, workload\n"
        "words = workload.base_words\n"
        "workload.LEARNING_RATE = 0.3 if sys.argv[1] == 'ours' else 3e-4\n"
        "from pathlib import Path\n"
        "from bench_throughput.jobs import Job, Shape\n"
        f"setting = workload.Setting(Path({str(tmp_path)!r}), model='nano', device='cpu')\n"
        "workload.prepare(setting, num_examples=8)\n"
        "job = Job('compare', sys.argv[1], Shape(2, 24), 5, 1)\n"
        f"worker.run_jobs(setting, [job], Path({str(tmp_path)!r}) / 'rows.jsonl',"
        " process_started=0.0, max_seconds=60)\n"
    )
    for name in ("unfused", "ours"):
        subprocess.run([sys.executable, "-c", code, name], check=True)
    command = [sys.executable, str(HERE), "--output", str(tmp_path), "--merge"]
    done = subprocess.run([*command, str(tmp_path / "rows.jsonl")], capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "NOT EQUAL" in done.stdout


def test_parts_of_a_step_add_up():
    works = [
        Work("relu_squared_forward", "", (), (), 4000.0),
        Work("vectorized_elementwise", "aten::add", (), (), 2000.0),
        Work("vectorized_elementwise", "aten::add", (), (), 1000.0),
    ]
    parts, rest = sum_parts(works, SHAPE, steps=2)
    assert parts == {"channel mix": 2.0, "everything else": 1.5}
    assert rest == {"aten::add": 1.5}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_command_on_a_gpu(tmp_path):
    words = ["--model", "nano", "--shapes", "2x128,8x128", "--steps", "8", "--warm-up", "3"]
    words += ["--trainers", "ours,ours_fs,unfused", "--profile", "--memory"]
    command = [sys.executable, str(HERE), "--output", str(tmp_path), *words, "--commit", "test"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = read_rows(tmp_path / "throughput.jsonl")
    graphs = [row["step"] for row in rows if row["kind"] == "train" and row["trainer"] == "ours"]
    assert all(step.startswith("graph") for step in graphs)
    profiles = {row["choice"]: row["parts"] for row in rows if row["kind"] == "profile"}
    # kernel by kernel every matrix product has its part
    assert "matrix products" not in profiles["kernel by kernel"]
    assert profiles["kernel by kernel"]["wkv7 backward"] > 0
