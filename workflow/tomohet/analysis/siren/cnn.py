"""SIREn's published network, which predicts the contour level of a map; the user supplies its weights.

Layers, preparation of maps and the scale of predictions are those of the published program. Its checkpoints
also hold the loss as an object, for which the loader of plain tensors makes an exception.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from tomohet.analysis.ensemble import Ensemble
from tomohet.device import device_of
from tomohet.errors import InputError
from tomohet.files.damage import UNREADABLE, reason
from tomohet.model.load import refuse_damaged_archive
from tomohet.physics.fourier_grids import crop_fourier, pad_fourier

BOX = 64
LOWEST, HIGHEST = 0.001, 99.999  # percentiles
MAPS_PER_BATCH = 4


def network() -> nn.Sequential:
    """Build the network: maps (B, 1, 64, 64, 64) to predictions (B, 1); 2,300,545 parameters."""

    def stage(inputs: int, outputs: int, size: int) -> list[nn.Module]:
        return [nn.Conv3d(inputs, outputs, size), nn.BatchNorm3d(outputs), nn.ReLU()]

    return nn.Sequential(
        *stage(1, 32, 7),
        *stage(32, 64, 5),
        nn.MaxPool3d(2),
        *stage(64, 128, 5),
        nn.MaxPool3d(2),
        *stage(128, 256, 3),
        nn.MaxPool3d(2),
        nn.Conv3d(256, 384, 1),
        nn.ReLU(),
        nn.AvgPool3d(3, 2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(384, 64),
        nn.ReLU(),
        nn.Linear(64, 1),
    )


def load_network(path: Path) -> nn.Sequential:
    """Load the network with the weights of a checkpoint, or of a plain state dictionary.

    Only tensors and plain values are read; nothing in the file is run. Weights are taken in the order of
    layers, whatever their names.

    Raises InputError for any other file.
    """
    if not path.is_file():
        raise InputError(f"--cnn-weights {path}: no such file")
    refuse_damaged_archive(path)
    try:
        with torch.serialization.safe_globals([nn.MSELoss, set]):
            held = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise InputError(f"--cnn-weights {path}: not a file of plain weights ({reason(error)})") from error
    empty = network()
    expected = empty.state_dict()
    for state in _state_dictionaries(held):
        if [tuple(v.shape) for v in state.values()] == [tuple(v.shape) for v in expected.values()]:
            empty.load_state_dict(dict(zip(expected, state.values(), strict=True)))
            return empty.eval()
    raise InputError(
        f"--cnn-weights {path}: expected the {len(expected)} tensors of SIREn's network, found none that fit"
    )


def _state_dictionaries(held: object) -> list[dict]:
    """Collect the dictionaries of tensors in a checkpoint, including the checkpoint itself."""
    if not isinstance(held, dict):
        return []
    found = [held, *(value for value in held.values() if isinstance(value, dict))]
    return [one for one in found if one and all(isinstance(value, torch.Tensor) for value in one.values())]


def predicted_levels(ensemble: Ensemble, weights: Path, device: str = "auto") -> np.ndarray:
    """Predict the level of every volume (V,) float32 by the network."""
    where = device_of(device)
    model = load_network(weights).to(where)
    levels = []
    for _, volumes in ensemble.batches("network"):
        for start in range(0, len(volumes), MAPS_PER_BATCH):
            maps, low, high = zip(*map(_prepared, volumes[start : start + MAPS_PER_BATCH]), strict=True)
            with torch.inference_mode():
                predicted = model(torch.as_tensor(np.stack(maps)[:, None], device=where))[:, 0].cpu().numpy()
            low, high = np.array(low), np.array(high)
            levels.append((predicted + 1) / 2 * (high - low) + low)
    return np.concatenate(levels).astype(np.float32)


def _prepared(volume: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Scale the map (64, 64, 64) to -1..1; return it and the densities that became -1 and 1."""
    resized = _resized(volume)
    clipped = np.clip(resized, *np.percentile(resized, (LOWEST, HIGHEST)))
    positive = clipped[clipped > 0]
    if not len(positive) or positive.max() == positive.min():
        raise InputError("--level cnn: a volume has no positive density; the network cannot contour it")
    low, high = float(positive.min()), float(positive.max())
    return (2 * (np.maximum(clipped, 0) - low) / (high - low) - 1).astype(np.float32), low, high


def _resized(volume: np.ndarray) -> np.ndarray:
    """Crop or pad the volume to a box of 64 in Fourier space; an odd box is first padded by one voxel."""
    even = torch.from_numpy(np.pad(volume, (0, len(volume) % 2), mode="edge"))
    return (crop_fourier if even.shape[0] >= BOX else pad_fourier)(even, BOX).numpy()
