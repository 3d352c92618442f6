"""Runs side by side: as many workers as slots, each job once, every end an outcome."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from selectors import EVENT_READ, DefaultSelector

from rich.console import Console

from fseed.config.schema import LauncherConfig
from fseed.lasting_console import LastingConsole
from fseed.launch.attempts import EXIT_SECONDS, Attempt, Limits
from fseed.launch.endings import Ending, Rule, decide_retry
from fseed.launch.job import Job
from fseed.launch.live_table import RunTable
from fseed.launch.packing import choose_runs_per_gpu
from fseed.launch.process import WORKER_COMMAND, WorkerProcess
from fseed.launch.slots import Slot, SlotPlan, plan_slots
from fseed.launch.stop_request import STOPPING, StopRequest
from fseed.planned_run import RunOutcome
from fseed.sweep.failures import failure_class

POLL_SECONDS = 0.05  # how soon the end of a process is seen

INTERRUPTED = RunOutcome("interrupted", "stopped; the same command continues it", 130)


@dataclass
class _Task:
    """A job, its place in the answer, and what may still be tried."""

    job: Job
    index: int
    num_left: int
    not_before: float = 0.0


@dataclass
class Pool:
    """What is waiting, what runs where, and what has ended."""

    tasks: list[_Task]
    slots: list[Slot]
    limits: Limits
    command: Sequence[str]
    table: RunTable
    outcomes: dict[int, RunOutcome] = field(default_factory=dict)
    reuse: bool = False
    running: dict[Slot, tuple[_Task, Attempt]] = field(default_factory=dict)
    idle: dict[Slot, WorkerProcess] = field(default_factory=dict)

    def run(self, stop: StopRequest) -> None:
        """Work until nothing is left, or until all have stopped after a signal."""
        try:
            while self.running or (self.tasks and not stop.count):
                self._start_due(stop)
                self._wait()
                self._obey(stop)
                for slot in list(self.running):
                    self._look_after(slot, is_stopping=stop.count > 0)
                self.table.update(self.attempts, self.num_waiting)
        finally:
            self._end_all()

    @property
    def attempts(self) -> list[Attempt]:
        """What runs now."""
        return [attempt for _, attempt in self.running.values()]

    @property
    def num_waiting(self) -> int:
        """How many jobs no slot has taken yet."""
        return len(self.tasks)

    def _start_due(self, stop: StopRequest) -> None:
        now = time.monotonic()
        for slot in self.slots:
            due = [task for task in self.tasks if task.not_before <= now]
            if stop.count or not due:
                return
            if slot not in self.running:
                self.tasks.remove(due[0])
                self._start(due[0], slot)

    def _start(self, task: _Task, slot: Slot) -> None:
        try:
            worker = self._take_idle(slot) or WorkerProcess(slot, command=self.command)
        except OSError as error:
            outcome = RunOutcome("failed", f"cannot start a process: {error.strerror}", 1)
            self._settle(task, Ending.not_started, outcome, None)
            return
        attempt = Attempt(task.job, worker, self.limits)
        if not self.reuse:
            worker.close()
        self.running[slot] = (task, attempt)
        self.table.started(attempt)

    def _take_idle(self, slot: Slot) -> WorkerProcess | None:
        """Return the worker that waits in a slot, if it still lives."""
        worker = self.idle.pop(slot, None)
        if worker is not None and worker.poll() is not None:
            worker.release()
            return None
        return worker

    def _wait(self) -> None:
        """Sleep until a worker answers, at most ``POLL_SECONDS``."""
        with DefaultSelector() as selector:
            for attempt in self.attempts:
                if not attempt.worker.is_silent:
                    selector.register(attempt.worker, EVENT_READ)
            if selector.get_map():
                selector.select(POLL_SECONDS)
            else:
                time.sleep(POLL_SECONDS)

    def _obey(self, stop: StopRequest) -> None:
        if stop.count and not self.table.is_stopping:
            self.table.stopping(STOPPING)
            for attempt in self.attempts:
                attempt.stop()
        if stop.is_urgent:
            for attempt in self.attempts:
                attempt.worker.kill()

    def _look_after(self, slot: Slot, *, is_stopping: bool) -> None:
        task, attempt = self.running[slot]
        attempt.listen()
        attempt.watch()
        code = attempt.worker.poll()
        is_kept = code is None and self.reuse and attempt.can_go_on
        if code is None and not is_kept:
            attempt.hurry()
            return
        ending, outcome = attempt.conclude(code)
        del self.running[slot]
        if is_kept:
            self.idle[slot] = attempt.worker
        else:
            attempt.worker.release()
        self._settle(task, ending, outcome, attempt, is_stopping=is_stopping)

    def _settle(
        self,
        task: _Task,
        ending: Ending,
        outcome: RunOutcome,
        attempt: Attempt | None,
        *,
        is_stopping: bool = False,
    ) -> None:
        """Keep the outcome of an attempt, or put its job back."""
        rule = Rule(False, "it ended by itself")
        if outcome.status in ("failed", "interrupted"):
            failure = failure_class(task.job.run) if ending is Ending.answered else None
            rule = decide_retry(ending, failure=failure, num_left=task.num_left)
        if rule.is_retried and not is_stopping:
            task.num_left -= 1
            task.not_before = time.monotonic() + rule.wait_seconds
            self.tasks.append(task)
            self.table.retried(task.job, attempt, outcome, rule.reason)
            return
        self.outcomes[task.index] = outcome
        self.table.ended(task.job, attempt, outcome)

    def _end_all(self) -> None:
        """Leave no process behind, whatever brought us here."""
        for worker in self.idle.values():
            worker.close()
        for attempt in self.attempts:
            attempt.worker.kill()
        workers = [*self.idle.values(), *(attempt.worker for attempt in self.attempts)]
        for worker in workers:
            if worker.wait(EXIT_SECONDS) is None:
                worker.kill()
                worker.wait(EXIT_SECONDS)
            worker.release()
        self.running.clear()
        self.idle.clear()


def launch_jobs(
    jobs: Sequence[Job],
    options: LauncherConfig,
    *,
    plan: SlotPlan | None = None,
    command: Sequence[str] = WORKER_COMMAND,
    console: Console | None = None,
) -> list[RunOutcome]:
    """Run every job in a process of its own, as many at a time as there are slots.

    Returns one outcome per job, in order. Call it from the main thread.

    Raises:
        KeyboardInterrupt: after Ctrl-C or SIGTERM, when every run has saved and ended.
        UserError: for slots that this machine does not have.
    """
    table = RunTable(console or LastingConsole(stderr=True), jobs)
    if plan is None:
        fit = choose_runs_per_gpu(jobs, options, say=table.say)
        plan = plan_slots(jobs, options, runs_per_gpu=fit)
    tasks = [_Task(job, index, options.retries) for index, job in enumerate(jobs)]
    table.say(plan.note)
    command = (*command, "--resident") if options.reuse else command
    pool = Pool(tasks, list(plan.slots), Limits.of(options), command, table, reuse=options.reuse)
    with StopRequest() as stop:
        try:
            pool.run(stop)
        finally:
            table.close()
    if stop.count:
        table.say(table.summary(pool.outcomes.values(), num_waiting=pool.num_waiting))
        raise KeyboardInterrupt
    return [pool.outcomes.get(index, INTERRUPTED) for index in range(len(jobs))]
