"""Rates of what a run does beside training: scoring a batch, and decoding answers."""

import statistics
import time
from collections.abc import Callable

import torch

from bench_throughput.jobs import SCORED_BATCH, Job
from bench_throughput.measured import device_name
from bench_throughput.ours import built_attempt
from bench_throughput.rows import Row, job_row
from bench_throughput.timing import StepClock
from bench_throughput.workload import Setting, build_batches
from fseed.models.captured_decode import build_decoder
from fseed.models.prompt_answer import PromptAnswer, read_prompt
from fseed.training.attempt import Attempt
from fseed.training.records import run_device

NEW_TOKENS = 32
NEVER = -1  # an end of text that no model writes


@torch.no_grad()
def measure_scoring(setting: Setting, job: Job) -> Row:
    """Return the milliseconds of scoring a batch, and the tokens per second of greedy decoding."""
    with built_attempt(setting, job, micro_batch=job.shape.batch) as attempt:
        config, learner = attempt.config, attempt.module.learner
        device = run_device(config)
        learner.to(device)
        if job.trainer == "unfused":
            learner.model.use_backend("chunked")
        clock = StepClock(device)
        batches = build_batches(attempt.data.splits["train"], config, steps=job.steps)
        on_device = [batch.to(device) for batch in batches]
        precision = torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
        with precision:
            seconds = [_timed(lambda b=b: learner.loss(b), clock) for b in on_device]
            decode_rate = _decode_rate(job, attempt, on_device[0], clock)
    median = statistics.median(seconds[job.warm_up :] or seconds)
    return job_row(
        job, "score",
        milliseconds=1e3 * median, tokens=on_device[0].num_tokens, device=device_name(clock),
        decoded_per_second=decode_rate, decoded_at_a_time=SCORED_BATCH[job.trainer],
    )  # fmt: skip


def _decode_rate(job: Job, attempt: Attempt, batch: PromptAnswer, clock: StepClock) -> float:
    model = attempt.module.model
    row = batch._replace(
        prompt=batch.prompt[:1].expand(SCORED_BATCH[job.trainer], -1),
        prompt_lengths=batch.prompt_lengths[:1].expand(SCORED_BATCH[job.trainer]),
    )
    last, state = read_prompt(model, row, future_seed=attempt.module.future_seed)

    decoder = build_decoder(model)

    def decode() -> object:
        logits = model.logits(last).float()
        return decoder(state, logits, max_new_tokens=NEW_TOKENS, end_of_text=NEVER)

    decode()
    return SCORED_BATCH[job.trainer] * NEW_TOKENS / _timed(decode, clock)


def _timed(call: Callable[[], object], clock: StepClock) -> float:
    clock.wait()
    started = time.perf_counter()
    call()
    clock.wait()
    return time.perf_counter() - started
