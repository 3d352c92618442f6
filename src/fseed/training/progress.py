"""What a person sees while a run trains: one bar, or plain lines where there is no terminal."""

from typing import Any

import lightning as L
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fseed.heartbeat import beat
from fseed.lasting_console import LastingConsole
from fseed.training.run_log import RunLog

PLAIN_LINES = 4  # progress lines of a run without a terminal


class ShowProgress(L.Callback):
    """A bar with loss, tokens per second and time left."""

    def __init__(self, log: RunLog, *, title: str, num_steps: int, visible: bool) -> None:
        """Show ``title`` and the rows of ``log``; ``visible=False`` prints nothing."""
        self.run_log, self.title, self.num_steps, self.visible = log, title, num_steps, visible
        self.console = LastingConsole(stderr=True)
        self.bar = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=None), MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"), TimeRemainingColumn(compact=True),
            console=self.console, disable=not (visible and self.console.is_terminal),
        )  # fmt: skip
        self.row = self.bar.add_task(title, total=num_steps, status="")

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Start drawing."""
        self.bar.start()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Stop drawing; leaves the finished bar."""
        self.bar.stop()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin where a resumed run left off."""
        self.bar.update(self.row, completed=trainer.global_step)
        beat("training", step=trainer.global_step, num_steps=self.num_steps)

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any, **_unused: Any) -> None:
        """Advance by one step."""
        # RecordSteps runs right before this callback; on a GPU it is a step behind
        rows = reversed(self.run_log.rows)
        last = next((row for row in rows if row["kind"] == "train"), None)
        if last is None:
            return
        numbers = {key: last[key] for key in ("loss", "tokens_per_second")}
        beat("training", step=trainer.global_step, num_steps=self.num_steps, **numbers)
        status = f"loss {last['loss']:.3f}  {last['tokens_per_second']:,.0f} tok/s"
        self.bar.update(self.row, completed=trainer.global_step, status=status)
        if self.visible and not self.console.is_terminal and self._is_line_due(trainer.global_step):
            self.console.print(
                f"{self.title}  step {trainer.global_step}/{self.num_steps}  {status}"
            )

    def show_evaluation(self, batch: int, num_batches: int) -> None:
        """Show that a split is being scored."""
        beat(f"scoring {batch + 1}/{num_batches}")
        self.bar.update(self.row, status=f"scoring {batch + 1}/{num_batches}")

    def _is_line_due(self, step: int) -> bool:
        return step % max(self.num_steps // PLAIN_LINES, 1) == 0 or step == self.num_steps
