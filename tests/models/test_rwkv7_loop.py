import numpy as np

from fseed.models.rwkv7_loop import run_loop
from tests.models.checkpoint_samples import SHAPE, sample_weights

WEIGHTS = {name: tensor.double().numpy() for name, tensor in sample_weights().items()}


def test_shapes_and_precision() -> None:
    logits, states = run_loop(WEIGHTS, [1, 2, 3])
    assert logits.shape == (3, SHAPE.vocab_size)
    assert len(states) == SHAPE.num_layers
    assert states[0].wkv.shape == (3, 16, 16)
    assert {logits.dtype, states[0].wkv.dtype} == {np.dtype("float64")}


def test_the_first_token_writes_value_times_key() -> None:
    # from the zero state there is nothing to decay or remove: S = v k^T, one per head
    _, states = run_loop(WEIGHTS, [4])
    for head in states[1].wkv:
        singular = np.linalg.svd(head, compute_uv=False)
        assert singular[0] > 0.01
        assert singular[1] < 1e-12 * singular[0]
        assert not np.allclose(head, head.T)


def test_it_is_causal_and_reads_the_order() -> None:
    logits, _ = run_loop(WEIGHTS, [1, 2, 3, 4])
    shorter, _ = run_loop(WEIGHTS, [1, 2, 3])
    swapped, _ = run_loop(WEIGHTS, [2, 1, 3])
    assert np.array_equal(logits[:3], shorter)
    assert not np.allclose(shorter[2], swapped[2])
