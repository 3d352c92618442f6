"""WKV7 token by token: slow, plain, in any float dtype. Every other backend is held against it.

B batch, T tokens, H heads, K key and V value size. state [B, H, V, K]: row = value, column = key.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def wkv7_reference(
    r: Float[Tensor, "B T H K"],
    log_decay: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B T H K"],
    v: Float[Tensor, "B T H V"],
    alpha: Float[Tensor, "B T H K"],
    beta: Float[Tensor, "B T H K"],
    initial_state: Float[Tensor, "B H V K"],
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H V K"]]:
    """Run the recurrence one token after the other.

    ``S_t = S_{t-1} diag(decay_t) + (S_{t-1} alpha_t) beta_t^T + v_t k_t^T``, ``y_t = S_t r_t``,
    with alpha = -kk and beta = kk * a.
    Source: mechanism of RWKV-7, arXiv 2503.14456, section 4.
    """
    state = initial_state
    decay = log_decay.exp()
    outputs = []
    for t in range(r.shape[1]):
        read = state @ alpha[:, t].unsqueeze(-1)  # [B, H, V, 1]: minus what stands under kk_t
        written = v[:, t].unsqueeze(-1) * k[:, t].unsqueeze(-2)
        state = state * decay[:, t].unsqueeze(-2) + read * beta[:, t].unsqueeze(-2) + written
        outputs.append((state @ r[:, t].unsqueeze(-1)).squeeze(-1))
    return torch.stack(outputs, dim=1), state
