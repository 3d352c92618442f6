"""The Lightning module of a run: loss, micro-batches, optimiser and gradient clipping."""

from collections.abc import Callable, Mapping
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from fseed.config.schema import RunConfig
from fseed.models.future_seed import FutureSeed
from fseed.models.prompt_answer import PromptAnswer
from fseed.models.rwkv7 import RWKV7
from fseed.ops.cuda_graphs import Recorder
from fseed.tasks.base import Objective
from fseed.training.captured_step import PLAIN, StepPlan, StepRunner
from fseed.training.cast_weights import CastWeights, reads_once
from fseed.training.distributed import ALONE, Ranks
from fseed.training.micro_batches import split_batch
from fseed.training.objectives import Learner
from fseed.training.optimizer import (
    build_optimizer,
    build_warmup,
    clip_gradients,
    freeze_gates,
    keep_rates_on_device,
    plain_rates,
    plain_warmup,
)
from fseed.training.static_batch import static_parts


class FutureSeedModule(L.LightningModule):
    """One arm in training; the loss is that of its objective.

    With a plan of static steps ``training_step`` does the whole step, the optimiser's part too, and
    what Lightning would do behind it is left out; Lightning counts, schedules and saves as always.
    """

    def __init__(
        self,
        config: RunConfig,
        learner: Learner,
        *,
        ranks: Ranks = ALONE,
        prepare: Callable[[DeviceMesh | None], None] | None = None,
        plan: StepPlan = PLAIN,
        recorder: Callable[[], Recorder] | None = None,
    ) -> None:
        """Hold the parts; nothing is built here.

        ``prepare`` shards the learner over the mesh of the ranks, before it has an optimiser.
        ``recorder`` opens what captures the steps of ``plan``, when training starts.
        """
        super().__init__()
        self.config, self.learner, self.ranks = config, learner, ranks
        self._prepare, self.plan, self._open_recorder = prepare, plan, recorder
        self.runner: StepRunner | None = None
        self._cast: CastWeights | None = None  # of static steps
        # of what the objective trains before clipping, gates aside: backbone and task head
        self.grad_norms: tuple[Tensor, Tensor] | None = None  # on the device
        self._gates_before: Tensor | None = None
        self._strengths: Tensor | None = None

    @property
    def model(self) -> RWKV7:
        """The backbone."""
        return self.learner.model

    @property
    def future_seed(self) -> FutureSeed | None:
        """The gates; None for the baseline."""
        return self.learner.future_seed

    def configure_model(self) -> None:
        """Freeze what has no learning rate, and shard where the ranks share the weights."""
        if self.future_seed is not None:
            # before DDP or FSDP2 learn which gradients to expect
            freeze_gates(self.future_seed, self.config)
        if self._prepare is not None:
            self._prepare(self.device_mesh)
            self._prepare = None

    def on_train_start(self) -> None:
        """Open what does static steps, behind the restoring of a checkpoint."""
        if not self.plan.is_static:
            return
        optimizer = self._plain_optimizer()
        assert isinstance(optimizer, torch.optim.AdamW)
        keep_rates_on_device(optimizer)
        if reads_once(self.config, self.learner):
            self._cast = CastWeights(self.learner)
        recorder = self._open_recorder
        self.runner = StepRunner(
            gradients=self._static_gradients,
            update=self._static_update,
            device=self.device,
            recorder=recorder() if recorder is not None and self.plan.mode == "graph" else None,
        )

    def on_train_end(self) -> None:
        """Let go of the graphs: Lightning moves the weights that they point to."""
        if self.runner is not None:
            self.runner.close()
            self._cast = None

    def transfer_batch_to_device(
        self, batch: PromptAnswer, device: torch.device, dataloader_idx: int
    ) -> PromptAnswer:
        """Leave the batches of static steps on the host, from where the step copies them."""
        return batch if self.plan.is_static else batch.to(device)

    def training_step(self, batch: PromptAnswer, batch_idx: int) -> dict[str, Tensor]:
        """Return ``loss``, whose backward pass is left to do, and ``batch_loss``, both in nats.

        They are equal without micro-batches and other ranks; with micro-batches, ``loss`` is the
        share of the last part. ``batch_loss`` is that of the whole batch of all ranks. A static
        step leaves nothing to do and returns its ``numbers`` as well.
        """
        if self.runner is not None:
            numbers = self.runner.run(batch)
            return {"loss": numbers[0], "batch_loss": numbers[0], "numbers": numbers}
        self._gates_before = self._gates()
        size = self.config.trainer.micro_batch_size
        *parts, last = split_batch(batch, size=size, ranks=self.ranks)
        # here, not behind this method: the parts add to the gradients before it returns
        super().optimizer_zero_grad(0, batch_idx, self._plain_optimizer())
        batch_loss = torch.zeros((), device=self.device)
        for part in parts:
            loss = self._share_of_loss(*part)
            # under autocast the backward pass would round what autograd computes in float32
            with torch.autocast(self.device.type, enabled=False):
                loss.backward()
            batch_loss = batch_loss + loss.detach()
        loss = self._share_of_loss(*last)
        return {"loss": loss, "batch_loss": self.ranks.mean(batch_loss + loss.detach())}

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Run the backward pass, which a static step has behind it."""
        if self.runner is None:
            super().backward(loss, *args, **kwargs)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Let Lightning step the optimiser; a static step is in the closure as a whole."""
        if self.runner is None:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        elif optimizer_closure is not None:
            optimizer_closure()

    def optimizer_zero_grad(self, *_: Any, **_unused: Any) -> None:
        """Leave the gradients alone, see ``training_step``."""

    def _static_gradients(self, batch: PromptAnswer) -> tuple[Tensor, Tensor]:
        """Compute the gradients of a batch on the device; return its loss and the gates before."""
        # weights that were cast outside must not be read here, nor those cast here outside: memory
        # of a graph means nothing but while it is replayed
        torch.clear_autocast_cache()
        gates_before = self._gates()
        self._plain_optimizer().zero_grad()
        if self._cast is not None:
            self._cast.refresh()
        batch_loss = torch.zeros((), device=self.device)
        for part in static_parts(batch, size=self.config.trainer.micro_batch_size):
            loss = self._static_share(part)
            with torch.autocast(self.device.type, enabled=False):
                loss.backward()
            if self._cast is not None:
                self._cast.collect()
            batch_loss = batch_loss + loss.detach()
        torch.clear_autocast_cache()
        return batch_loss, gates_before

    def _static_share(self, part: PromptAnswer) -> Tensor:
        """Return the loss of a part as its share of that of the batch, see ``static_parts``."""
        loss = self.learner(part) if self._cast is None else self._cast.loss(part)
        if self.learner.objective is not Objective.retrieval:
            return loss
        assert part.num_targets is not None
        return loss * (part.answer_lengths.sum() / part.num_targets)

    def _static_update(self, found: tuple[Tensor, Tensor]) -> Tensor:
        """Clip and step; return the numbers of the step, see ``step_numbers``."""
        loss, self._gates_before = found
        optimizer = self._plain_optimizer()
        with torch.autocast(self.device.type, enabled=False):
            self.configure_gradient_clipping(optimizer)
            optimizer.step()
        return self._stack_numbers(loss)

    def step_numbers(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """Return loss, both gradient norms, gates before and gates behind the step, [3 + 2 S].

        They are on the device of the run; nobody waits for them here. ``outputs`` are those of
        ``training_step``.
        """
        numbers = outputs.get("numbers")
        return self._stack_numbers(outputs["batch_loss"]) if numbers is None else numbers

    def _stack_numbers(self, loss: Tensor) -> Tensor:
        assert self.grad_norms is not None
        assert self._gates_before is not None
        parts = (loss, *self.grad_norms, self._gates_before, self._gates())
        return torch.cat([part.detach().float().reshape(-1) for part in parts])

    def _gates(self) -> Tensor:
        """Return the gates of all seeded layers, [S]; none for the baseline."""
        if self.future_seed is None:
            return torch.zeros(0, device=self.device)
        if self._strengths is None:
            self._strengths = torch.tensor(self.future_seed.strengths, device=self.device)
        return self.future_seed.gate_tensor(self._strengths)

    def _share_of_loss(self, part: PromptAnswer, share: float) -> Tensor:
        loss = self.learner(part)
        return loss if share == 1 else loss * share

    def _plain_optimizer(self) -> torch.optim.Optimizer:
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, torch.optim.Optimizer)
        return optimizer

    def configure_optimizers(self) -> Any:
        """AdamW with the groups of ``optimizer.py`` and a linear warm-up per step."""
        optimizer = build_optimizer(self.config, self.learner)
        warmup = build_warmup(optimizer, warmup_steps=self.config.optim.warmup_steps)
        return [optimizer], [{"scheduler": warmup, "interval": "step"}]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Number the optimiser's states in the order of the parameters, as FSDP2 does.

        So a file of one device goes on in parts; a plain optimiser reads any numbers, by position.
        """
        parameters = list(self.parameters())
        if any(hasattr(parameter, "full_tensor") for parameter in parameters):
            return
        places = {id(parameter): i for i, parameter in enumerate(parameters)}
        groups = self._plain_optimizer().param_groups
        numbers = [places[id(parameter)] for group in groups for parameter in group["params"]]
        (state,) = checkpoint["optimizer_states"]
        checkpoint["optimizer_states"] = [
            {
                "state": {numbers[i]: values for i, values in state["state"].items()},
                "param_groups": [
                    {**plain_rates(group), "params": [numbers[i] for i in group["params"]]}
                    for group in state["param_groups"]
                ],
            }
        ]
        warmups = checkpoint["lr_schedulers"]
        checkpoint["lr_schedulers"] = [plain_warmup(warmup) for warmup in warmups]

    def configure_gradient_clipping(
        self, optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any
    ) -> None:
        """Clip backbone, task head, gates and learned state apart: none changes another's step."""
        bound = self.config.optim.grad_clip
        norm = clip_gradients(self.model, max_norm=bound)
        head_norm = clip_gradients(self.learner.task_head, max_norm=bound)
        zero = torch.zeros((), device=self.device)
        self.grad_norms = (
            zero if norm is None else norm,
            zero if head_norm is None else head_norm,
        )
        if self.future_seed is not None:
            clip_gradients(self.future_seed, max_norm=bound, with_children=False)
            clip_gradients(self.future_seed.learned_state, max_norm=bound)
