"""AdamW groups of a run: backbone by the official rules, gates apart, without weight decay.

The constant of the control learned_state is a group of its own beside the gates.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from fseed.config.schema import RunConfig
from fseed.models.future_seed import FutureSeed
from fseed.models.rwkv7 import RWKV7
from fseed.models.sharded import whole
from fseed.tasks.base import Objective
from fseed.training.objectives import Learner


def build_optimizer(config: RunConfig, learner: Learner) -> AdamW:
    """Create AdamW over float32 master weights; a learning rate of 0 freezes its parameters."""
    optim = config.optim
    groups = []
    if learner.task_head is not None:
        head = list(learner.task_head.parameters())
        rate = optim.task_head_lr
        groups.append({"params": head, "lr": rate, "weight_decay": 0.0, "name": "task_head"})
    if learner.objective is not Objective.retrieval:
        groups = backbone_groups(learner.model, config) + groups
    if learner.future_seed is not None:
        groups += gate_groups(learner.future_seed, config)
    betas = (optim.beta1, optim.beta2)
    return AdamW(groups, lr=optim.lr, betas=betas, eps=optim.eps, fused=True)


def backbone_groups(model: RWKV7, config: RunConfig) -> list[dict]:
    """Split the backbone: w0 with its own multiplier, large matrices with weight decay, the rest.

    Source: configure_optimizers of BlinkDL/RWKV-LM, RWKV-v7/train_temp/src/model.py at 118e451.
    """
    optim = config.optim
    decay_base, matrices, rest = [], [], []
    for name, parameter in model.named_parameters():
        if name.endswith("att.w0"):
            decay_base.append(parameter)
        elif name.endswith(".weight") and parameter.squeeze().ndim >= 2:
            matrices.append(parameter)
        else:
            rest.append(parameter)
    return [
        {"params": rest, "weight_decay": 0.0, "name": "vectors"},
        {"params": matrices, "weight_decay": optim.weight_decay, "name": "matrices"},
        {
            "params": decay_base, "weight_decay": 0.0, "name": "decay_base",
            "lr": optim.lr * optim.decay_lr_multiplier,
        },
    ]  # fmt: skip


def gate_groups(future_seed: FutureSeed, config: RunConfig) -> list[dict]:
    """One group per kind of gate parameter; frozen kinds lose their gradient and are left out."""
    rates = gate_rates(config)
    freeze_gates(future_seed, config)
    return [
        {"params": [parameter], "lr": rates[name], "weight_decay": 0.0, "name": name}
        for name, parameter in future_seed.named_parameters()
        if parameter.requires_grad
    ]


def freeze_gates(future_seed: FutureSeed, config: RunConfig) -> None:
    """Let only the gates have a gradient that have a learning rate.

    Those of a deliberate no-op arm, which seeds no layer, are empty: no loss ever reaches them, and
    DDP would wait for their gradient.
    """
    rates = gate_rates(config)
    for name, parameter in future_seed.named_parameters():
        parameter.requires_grad_(rates[name] > 0 and parameter.numel() > 0)


def gate_rates(config: RunConfig) -> dict[str, float]:
    """Return the learning rate of every kind of gate parameter."""
    variant = config.fs_variant
    return {
        "gate_logit": config.alpha.lr,
        "head_logit": variant.head_lr,
        "input_weight": variant.input_lr,
        "input_bias": variant.input_lr,
        "learned_state.weight": config.control.state_lr,
    }


def build_warmup(optimizer: AdamW, *, warmup_steps: int) -> LambdaLR:
    """Raise every learning rate linearly over ``warmup_steps``, then keep it."""
    return LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / max(warmup_steps, 1)))


def keep_rates_on_device(optimizer: AdamW) -> None:
    """Let AdamW on a GPU read its learning rates there, so that its step can be captured.

    The warm-up fills them from then on. Call it behind the restoring of a checkpoint, which puts
    plain numbers in their place. The fused kernel is the same for steps that are captured and
    steps that are not; both read the rate as float32.
    """
    for group in optimizer.param_groups:
        device = group["params"][0].device
        if device.type == "cuda":
            group["lr"] = torch.tensor(float(group["lr"]), dtype=torch.float32, device=device)
            group["capturable"] = True


def plain_rates(group: dict[str, Any]) -> dict[str, Any]:
    """Return a group as a checkpoint keeps it, whatever the device: the rate as a number."""
    return {**group, "lr": float(group["lr"]), "capturable": False}


def plain_warmup(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state of the warm-up as a checkpoint keeps it: the last rates as numbers."""
    return {**state, "_last_lr": [float(rate) for rate in state["_last_lr"]]}


def current_rate(warmup: LRScheduler) -> float:
    """Return the learning rate of the first group as ``build_warmup`` left it.

    A rate that the device keeps is worked out again here: reading it would wait for the step.
    """
    assert isinstance(warmup, LambdaLR)
    group = warmup.optimizer.param_groups[0]
    if not isinstance(group["lr"], Tensor):
        return group["lr"]
    return group["initial_lr"] * warmup.lr_lambdas[0](warmup.last_epoch)


def clip_gradients(
    module: nn.Module | None, *, max_norm: float, with_children: bool = True
) -> Tensor | None:
    """Clip the gradient norm of one module in place and return the norm before; 0 = no clipping.

    The norm is that of whole gradients, on their device, None where there is no gradient; where
    they are sharded, every rank must call this.
    """
    parameters = [] if module is None else list(module.parameters(recurse=with_children))
    parameters = [p for p in parameters if p.grad is not None]
    if not parameters:
        return None
    bound = max_norm if max_norm > 0 else float("inf")
    return whole(torch.nn.utils.clip_grad_norm_(parameters, bound))
