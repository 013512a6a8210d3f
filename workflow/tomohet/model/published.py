"""Weights in the published layout (tomoDRGN 1.0) for our network.

Its encoder reads the Hartley image row by row, ours reads +k and then -k in order of |k|: the columns of the
first layer are permuted. Its decoder is not Hermitian and is rebuilt with `hermitian=False`.
"""

from torch import Tensor

from tomohet.model.encoder import hartley_columns
from tomohet.physics.fourier import HalfPlane

FIRST_ENCODER_LAYERS = ("encoder.encoder_a.main.0.weight", "encoder.encoder_a.main.0.linear.weight")


def from_published(state: dict[str, Tensor], hp: HalfPlane) -> dict[str, Tensor]:
    """The published `model_state_dict` with the columns of encoder A's first layer in our order."""
    state = dict(state)
    for name in FIRST_ENCODER_LAYERS:
        if name in state:
            weight = state[name]
            state[name] = weight[:, hartley_columns(hp, weight.shape[1] // 2).to(weight.device)]
    return state
