from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from fseed.errors import UserError
from fseed.models.checkpoint import (
    gates_path,
    load_future_seed,
    load_model,
    load_state_dict,
    save_future_seed,
    save_pth,
    save_safetensors,
)
from fseed.models.future_seed import FutureSeed, FutureSeedOptions
from fseed.models.rwkv7 import RWKV7
from fseed.models.shape import RWKV7Shape
from tests.models.checkpoint_samples import (
    SHAPE,
    hugging_face_weights,
    sample_weights,
    write_folder,
)


def build_model(weights: dict[str, Tensor]) -> RWKV7:
    model = RWKV7(SHAPE)
    model.load_state_dict(weights, strict=True)
    return model


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name


def test_every_form_loads_to_the_same_numbers(tmp_path: Path) -> None:
    weights = sample_weights()
    torch.save(weights, tmp_path / "w.pth")
    save_file(weights, tmp_path / "w.safetensors")
    hugging_face = hugging_face_weights(weights)
    write_folder(tmp_path / "one", hugging_face)
    write_folder(tmp_path / "three", hugging_face, shards=3)
    for name in ("w.pth", "w.safetensors", "one", "three", "one/model.safetensors"):
        assert_same(load_state_dict(tmp_path / name), weights)


def test_packed_token_shift_loads(tmp_path: Path) -> None:
    weights = sample_weights()
    packed = hugging_face_weights(weights)
    for layer in range(SHAPE.num_layers):
        rows = [packed.pop(f"model.layers.{layer}.attn.x_{x}") for x in "rwkvag"]
        packed[f"model.layers.{layer}.attn.x_x"] = torch.stack(rows).reshape(6, -1)
    assert_same(load_state_dict(write_folder(tmp_path / "w", packed)), weights)


def test_tied_head_loads(tmp_path: Path) -> None:
    tensors = hugging_face_weights(sample_weights())
    del tensors["lm_head.weight"]
    folder = write_folder(tmp_path / "w", tensors, config={"tie_word_embeddings": True})
    loaded = load_state_dict(folder)
    assert torch.equal(loaded["head.weight"], loaded["emb.weight"])
    model = load_model(folder)
    # tied in the file only: two parameters afterwards
    assert model.head.weight.data_ptr() != model.emb.weight.data_ptr()


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_a_head_of_its_own_wins_over_a_tied_one_in_any_order(tmp_path: Path, shards: int) -> None:
    tensors = hugging_face_weights(sample_weights())
    config = {"tie_word_embeddings": True}
    folder = write_folder(tmp_path / "w", dict(tensors), shards=shards, config=config)
    assert torch.equal(load_model(folder).head.weight, tensors["lm_head.weight"])


def test_unused_value_residual_of_layer_0_is_dropped(tmp_path: Path) -> None:
    weights = sample_weights()
    unused = {f"blocks.0.att.{name}": torch.ones(1, 1, 48) for name in ("v0", "v1", "v2")}
    torch.save(weights | unused, tmp_path / "w.pth")
    assert_same(load_state_dict(tmp_path / "w.pth"), weights)
    assert_same(dict(load_model(tmp_path / "w.pth").state_dict()), weights)


@pytest.mark.parametrize("save", [save_pth, save_safetensors])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_round_trip_is_exact(tmp_path: Path, save, dtype: torch.dtype) -> None:
    path, weights = tmp_path / "new folder" / "w.bin", sample_weights()
    save(build_model(weights), path, dtype=dtype)
    assert_same(load_state_dict(path), {n: t.to(dtype) for n, t in weights.items()})
    model = load_model(path)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert_same(
        dict(model.state_dict()), {n: t.to(dtype).to(torch.float32) for n, t in weights.items()}
    )
    assert [p.name for p in path.parent.iterdir()] == ["w.bin"]


def test_loaded_model_trains_and_leaves_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(sample_weights(), path)
    before = path.read_bytes()
    model = load_model(path)
    model.logits(model(torch.tensor([[1, 2, 3]])).hidden).sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            assert parameter.requires_grad
            assert parameter.grad is not None
            parameter.sub_(1.0)
    assert path.read_bytes() == before


def test_saving_replaces_a_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.pth"
    save_pth(build_model(sample_weights()), path)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        save_pth(build_model(sample_weights(seed=1)), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_unwritable_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        save_pth(build_model(sample_weights()), tmp_path / "file" / "w.pth")


def test_a_saved_file_is_no_larger_than_its_numbers(tmp_path: Path) -> None:
    path, model = tmp_path / "w.pth", build_model(sample_weights())
    save_pth(model, path)
    numbers = sum(4 * p.numel() for p in model.parameters())
    assert numbers < path.stat().st_size < numbers + 400 * len(list(model.parameters()))


def test_missing_and_foreign_weights(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_model(tmp_path / "absent.pth")
    torch.save({"blocks.0.att.time_maa_x": torch.zeros(3)}, tmp_path / "v6.pth")
    with pytest.raises(UserError, match="RWKV-6"):
        load_model(tmp_path / "v6.pth")
    with pytest.raises(UserError, match="RWKV-6"):
        load_state_dict(tmp_path / "v6.pth")


def test_real_checkpoint(shared_data: Path) -> None:
    path = shared_data / "weights" / "tiny-rwkv-7v0-834K.safetensors"
    model = load_model(path)
    assert (model.shape.num_layers, model.shape.width, model.shape.vocab_size) == (12, 64, 256)
    assert_same(dict(model.state_dict()), load_file(path))


def build_gates(gate: str = "head", *, shape: RWKV7Shape = SHAPE) -> FutureSeed:
    options = FutureSeedOptions(gate=gate, lstart=1, clip=0.5, schedule="cosine")
    gates = FutureSeed(
        options, num_layers=shape.num_layers, num_heads=shape.num_heads, width=shape.width
    )
    with torch.no_grad():
        for i, parameter in enumerate(gates.parameters()):
            parameter.copy_(
                torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i))
            )
    return gates


@pytest.mark.parametrize("gate", ["scalar", "head", "inputgate", "raw"])
def test_gates_stand_beside_the_weights(tmp_path: Path, gate: str) -> None:
    weights_path, gates = tmp_path / "model.step100.pth", build_gates(gate)
    saved = save_future_seed(gates, weights_path)
    assert saved == gates_path(weights_path) == tmp_path / "model.step100.future_seed.safetensors"
    loaded = load_future_seed(weights_path, shape=SHAPE)
    assert loaded.options == gates.options
    assert_same(dict(loaded.state_dict()), dict(gates.state_dict()))


def test_gates_that_are_missing_damaged_or_of_another_model(tmp_path: Path) -> None:
    weights_path = tmp_path / "w.pth"
    with pytest.raises(UserError, match="no such file"):
        load_future_seed(weights_path, shape=SHAPE)
    saved = save_future_seed(build_gates(), weights_path)
    deeper = RWKV7Shape(**(vars(SHAPE) | {"num_layers": 6}))
    with pytest.raises(UserError, match="do not fit"):
        load_future_seed(weights_path, shape=deeper)
    saved.write_bytes(saved.read_bytes()[:20])
    with pytest.raises(UserError, match="do not fit"):
        load_future_seed(weights_path, shape=SHAPE)
