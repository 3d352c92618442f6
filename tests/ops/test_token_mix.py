import torch

from fseed.ops.token_mix import mix_tokens, shift_tokens


def test_shift_takes_the_previous_vector_and_returns_the_last_true_one():
    x = torch.arange(12.0).view(2, 3, 2)
    previous = torch.tensor([[-1.0, -2.0], [-3.0, -4.0]])
    shifted, following = shift_tokens(x, previous, torch.tensor([2, 0]))
    assert torch.equal(shifted[:, 0], previous)
    assert torch.equal(shifted[:, 1:], x[:, :-1])
    assert torch.equal(following, torch.stack((x[0, 1], previous[1])))


def test_shift_without_lengths_ends_at_the_last_token():
    x = torch.randn(2, 3, 2)
    _, following = shift_tokens(x, torch.zeros(2, 2), None)
    assert torch.equal(following, x[:, -1])


def test_mix_is_the_lerp_and_its_gradients_are_right():
    generator = torch.Generator().manual_seed(0)
    x, shifted = (torch.randn(2, 3, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    mixes = torch.rand(6, 4, generator=generator, dtype=torch.float64)
    for out, mix in zip(mix_tokens(x, shifted, mixes), mixes, strict=True):
        torch.testing.assert_close(out, x + (shifted - x) * mix)
    inputs = [t.requires_grad_() for t in (x, shifted, mixes)]
    assert torch.autograd.gradcheck(lambda *t: torch.stack(mix_tokens(*t)), inputs)
