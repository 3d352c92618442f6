"""Controls with states, keys and a batch to try them on."""

import torch
from torch import Tensor

from fseed.models.future_seed import FutureSeed
from tests.models.build import build_batch, build_future_seed

CONTROLS = ("shuffled_state", "random_state", "learned_state", "same_layer")
GATES = ("scalar", "head", "inputgate", "raw")
KEYS = (11, 22, 33)
BATCH = build_batch([9, 5, 7], [4, 2, 3])._replace(noise_keys=KEYS)


def build_control(control: str, **options) -> FutureSeed:
    future_seed = build_future_seed(control=control, **options)
    if future_seed.learned_state is not None:
        future_seed.learned_state.initialize(seed=0)
    return future_seed.double()


def rms(state: Tensor) -> Tensor:
    return state.square().mean((-2, -1)).sqrt()


def random_states(*, seed: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    scales = torch.tensor([1e-4, 1.0, 50.0]).view(3, 1, 1, 1)
    return torch.randn(3, 2, 16, 16, generator=generator, dtype=torch.float64) * scales
