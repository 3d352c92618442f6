"""Layers that are computed again in the backward pass: the same gradients from less memory."""

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fseed.models.prompt_answer import answer_hidden
from fseed.models.rwkv7 import RWKV7
from fseed.models.shape import RWKV7Shape
from tests.models.build import SMALL, build_batch, build_future_seed, build_random_model

DEEP = RWKV7Shape(**(vars(SMALL) | {"num_layers": 8}))
BATCH = build_batch([30, 17, 24], [4, 9, 2])._replace(noise_keys=(1, 2, 3))


def loss_of(model: RWKV7, future_seed) -> torch.Tensor:
    return model.logits(answer_hidden(model, BATCH, future_seed=future_seed)).square().mean()


def gradients(*, recompute: bool, autocast: bool = False, **options) -> dict[str, torch.Tensor]:
    model = build_random_model(dtype=torch.float32)
    future_seed = build_future_seed(alpha_init=0.5, **options)
    if future_seed.learned_state is not None:
        future_seed.learned_state.initialize(seed=0)
    if recompute:
        model.recompute_layers()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        loss = loss_of(model, future_seed)
    loss.backward()
    named = [*model.named_parameters(), *future_seed.named_parameters()]
    return {name: p.grad for name, p in named if p.grad is not None}


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"detach": False},
        {"gate": "head"},
        {"gate": "inputgate", "detach": False},
        {"control": "same_layer", "detach": False},
        {"control": "random_state"},
        {"control": "learned_state"},
    ],
)
def test_gradients_are_the_same_bit_for_bit(options, autocast):
    kept = gradients(recompute=False, autocast=autocast, **options)
    again = gradients(recompute=True, autocast=autocast, **options)
    assert kept.keys() == again.keys()
    assert "gate_logit" in kept
    assert any(name.startswith("blocks.0.att") for name in kept)
    for name, gradient in kept.items():
        assert torch.equal(gradient, again[name]), name


class PeakBytes(TorchDispatchMode):
    """Counts the bytes of every tensor that an operation returns, for as long as it lives."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return found

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def test_what_a_backward_pass_needs_falls_to_the_inputs_of_layers():
    peaks = []
    for recompute in (False, True):
        model = build_random_model(DEEP, dtype=torch.float32)
        if recompute:
            model.recompute_layers()
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        with PeakBytes() as counted:
            loss_of(model, build_future_seed(DEEP)).backward()
        peaks.append(counted.peak)
    assert peaks[1] < 0.4 * peaks[0]


def test_nothing_is_computed_again_without_gradients(monkeypatch):
    model = build_random_model(dtype=torch.float32)
    model.recompute_layers()
    monkeypatch.setattr("fseed.models.layers.checkpoint", None)  # calling it would fail
    with torch.no_grad():
        loss_of(model, None)
