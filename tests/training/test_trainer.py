"""Torch as a run needs it, before anything is computed."""

import os
from dataclasses import replace

import torch

from fseed.config.schema import Accelerator
from fseed.training.process_settings import restored_settings
from fseed.training.trainer import prepare_torch
from tests.training.build import tiny_config


def test_products_of_a_gpu_are_deterministic_from_the_first_one(monkeypatch):
    """PyTorch reads the variable at the first product, which no run leaves to Lightning."""
    config = tiny_config()
    config = replace(config, trainer=replace(config.trainer, accelerator=Accelerator.gpu))
    with restored_settings(), monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch.cuda, "device_count", lambda: 1)
        patch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
        prepare_torch(config)
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
