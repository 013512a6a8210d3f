"""Changes of the representative particles' volumes between epochs: CC, FSC, diversity, ground truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tomohet.analysis.volume_space import comparison_mask
from tomohet.errors import InputError
from tomohet.files.mrc import read_map, read_volume
from tomohet.physics.fsc import correlation, fsc, shell_frequencies
from tomohet.physics.shells import shell_grid, shell_means


@dataclass(frozen=True)
class MaskOptions:
    """Mask of a comparison: kind none, sphere, tight or soft; percentile; dilation and edge in px."""

    kind: str = "soft"
    percentile: float | None = None
    dilate_px: int | None = None
    edge_px: int | None = None

    def of(self, one: np.ndarray, other: np.ndarray) -> np.ndarray | None:
        """Draw the mask of two volumes [z,y,x]; None for no mask."""
        if self.kind == "none":
            return None
        return comparison_mask(one, other, self.kind, self.percentile, self.dilate_px, self.edge_px)


@dataclass(frozen=True)
class VolumeDrift:
    """Comparison of volumes through `epochs` (e,).

    cc : (m, e-1) correlation between successive epochs
    fsc : (m, e-1, D/2+1) between successive epochs
    frequency_1_A : (D/2+1,)
    differences : (m, e-1) correlation between successive epochs of a volume's difference from the mean volume
    power : (e, D/2+1) mean power of the volumes in each shell
    pairwise : (e, m, m) correlations within an epoch
    truth : (e, g, m) correlations with ground-truth maps, or None
    """

    epochs: list[int]
    cc: np.ndarray
    fsc: np.ndarray
    frequency_1_A: np.ndarray
    differences: np.ndarray
    power: np.ndarray
    pairwise: np.ndarray
    truth: np.ndarray | None


def follow(
    volumes: dict[int, list[Path]], mask: MaskOptions, ground_truth: Sequence[Path] = ()
) -> VolumeDrift:
    """Compare volumes (epoch -> paths of m volumes, the same m in each epoch).

    Two epochs' volumes are held in memory at a time.
    """
    truth = [read_volume(path)[0] for path in ground_truth]
    before, cc, curves, pairwise, to_truth, differences, power = None, [], [], [], [], [], []
    for paths in volumes.values():
        read = [read_map(path) for path in paths]
        now, pixel_size_A = [volume for volume, _ in read], read[0][1]
        for path, map_ in zip(ground_truth, truth, strict=True):
            if map_.shape != now[0].shape:
                raise InputError(f"{path}: shape {map_.shape}, but the volumes have {now[0].shape}")
        pairwise.append(correlations(now, now, mask))
        power.append(shell_power(np.stack(now)))
        to_truth.append(correlations(truth, now, mask))
        if before is not None:
            masks = [mask.of(old, new) for old, new in zip(before, now, strict=True)]
            cc.append([correlation(*trio) for trio in zip(before, now, masks, strict=True)])
            less = [x - y for x, y in zip((before, now), (np.mean(before, 0), np.mean(now, 0)), strict=True)]
            differences.append([correlation(*trio) for trio in zip(*less, masks, strict=True)])
            together = None if masks[0] is None else np.stack(masks)
            curves.append(fsc(np.stack(before), np.stack(now), together))
        before = now
    shells, m = now[0].shape[0] // 2 + 1, len(now)
    return VolumeDrift(
        list(volumes),
        np.array(cc, np.float64).reshape(-1, m).T,
        np.array(curves, np.float64).reshape(-1, m, shells).transpose(1, 0, 2),
        shell_frequencies(now[0].shape[0], pixel_size_A),
        np.array(differences, np.float64).reshape(-1, m).T,
        np.array(power),
        np.array(pairwise),
        np.array(to_truth) if truth else None,
    )


def shell_power(volumes: np.ndarray) -> np.ndarray:
    """Compute the mean power of volumes (m, D, D, D) in each shell 0..D/2."""
    spectrum = torch.fft.rfftn(torch.as_tensor(volumes), dim=(-3, -2, -1)).abs().square().mean(0)
    box = volumes.shape[-1]
    return shell_means(spectrum, shell_grid(box), box // 2 + 1).numpy()


def power_beyond(drifted: VolumeDrift, resolution_A: float) -> np.ndarray:
    """Compute each epoch's fraction (e,) of the volumes' power per point that lies beyond a resolution.

    It is the mean over shells beyond it, over the mean of the shells from twice the resolution up to it.
    """
    frequency, limit = drifted.frequency_1_A, 1 / resolution_A
    beyond, within = frequency > limit, (frequency > limit / 2) & (frequency <= limit)
    if not beyond.any() or not within.any():
        return np.full(len(drifted.epochs), np.nan)
    return drifted.power[:, beyond].mean(1) / np.maximum(drifted.power[:, within].mean(1), 1e-30)


def correlations(rows: Sequence[np.ndarray], columns: Sequence[np.ndarray], mask: MaskOptions) -> np.ndarray:
    """Compute the correlation of every volume of `rows` with every volume of `columns`, (r, c)."""
    same = rows is columns
    result = np.ones((len(rows), len(columns)))
    for i, one in enumerate(rows):
        for j, other in enumerate(columns):
            if same and j <= i:
                result[i, j] = result[j, i] if j < i else 1.0
                continue
            result[i, j] = correlation(one, other, mask.of(one, other))
    return result
