"""Half maps of a prepared store by back-projection, their FSC, and the map of all images."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch

from tomohet.device import sent
from tomohet.errors import InputError
from tomohet.particles.ahead import images_on
from tomohet.particles.store import Store
from tomohet.physics.backprojection import Accumulator, insert_slices, wiener_map
from tomohet.physics.fourier_grids import lowpass, multiply_shells
from tomohet.physics.fsc import corrected_fsc, resolution_at
from tomohet.physics.masks import tight_mask
from tomohet.progress import track
from tomohet.reconstruction.half_sets import HalfBy, half_of_images
from tomohet.reconstruction.observations import stored_transfer

# Fourier points processed together; each takes about 200 bytes.
POINTS_PER_CHUNK = {"cpu": 1_000_000, "cuda": 16_000_000}
# Regulariser of the half maps as a fraction of the shell's mean weight: small compared with the weights of
# well-sampled directions, and large enough to suppress directions that hardly any image has sampled.
HALF_MAP_FRACTION = 0.1
SIGNIFICANT, FSC_05 = 0.143, 0.5

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HalfMaps:
    """Result of a reconstruction.

    Maps are (D, D, D) float32 [z, y, x] in the units of the input images, with mean 0.

    map : from all images
    map_filt : the map, low-pass filtered at its resolution
    half1, half2 : maps of the two half sets
    mask : soft mask around the particle
    fsc : a row per shell (`physics.fsc.corrected_fsc`)
    resolution_A : resolution at which the corrected FSC falls below 0.143
    resolution_05_A : the same for 0.5
    n_tilts : images per particle
    """

    map: np.ndarray
    map_filt: np.ndarray
    half1: np.ndarray
    half2: np.ndarray
    mask: np.ndarray
    fsc: pd.DataFrame
    resolution_A: float
    resolution_05_A: float
    pixel_size_A: float
    n_tilts: np.ndarray


def half_maps(
    store: Store,
    particles: np.ndarray,
    *,
    by: HalfBy = "particle",
    seed: int = 0,
    recon_dose_weight: bool = False,
    recon_tilt_weight: bool = False,
    wiener: float | None = None,
    lowpass_A: float | None = None,
    mask: np.ndarray | None = None,
    refine: Callable[[Store, np.ndarray], Store] | None = None,
    device: torch.device | str = "cpu",
) -> HalfMaps:
    """Reconstruct two half maps and the map of all images of `particles` (ordinals in the store).

    The map is the weighted least-squares solution of `physics.imaging.physical_transfer`, voxel by voxel.

    recon_dose_weight : model radiation damage
    recon_tilt_weight : model the loss of signal with cos(tilt)
    wiener : regulariser as a fraction of the mean weight of each shell; default: the Wiener filter from the
        FSC of the half maps (0.1 for the half maps themselves)
    lowpass_A : resolution of `map_filt`; default: the resolution of the map
    mask : mask for the FSC; default: drawn around the density
    refine : refines the poses of each half set, as in `refined_by_half`

    Raises InputError if the images cannot be divided or the mask does not fit.
    """
    rng = np.random.default_rng(seed)
    particles = np.sort(np.asarray(particles, dtype=np.int64))
    rows, half, how = half_of_images(store, particles, by, rng)
    log.info("half sets: %s (%d and %d images)", how, (half == 0).sum(), (half == 1).sum())
    if mask is not None and mask.shape != (store.box,) * 3:
        raise InputError(f"the mask has shape {mask.shape}, the particles a box of {store.box}")
    if refine is not None:
        store = refined_by_half(store, rows, half, refine)
    sums = accumulate(
        store,
        rows,
        half,
        recon_dose_weight=recon_dose_weight,
        recon_tilt_weight=recon_tilt_weight,
        device=device,
    )
    fraction = HALF_MAP_FRACTION if wiener is None else wiener
    half1, half2 = ((wiener_map(one, fraction) * store.scale).cpu().numpy() for one in sums)
    if mask is None:
        mask = tight_mask((half1 + half2) / 2, store.pixel_size_A)
    curves = corrected_fsc(half1, half2, mask, rng, store.pixel_size_A)
    frequency, corrected = curves["frequency_1_A"].to_numpy(), curves["corrected"].to_numpy()
    resolution, resolution_05 = (resolution_at(corrected, frequency, t) for t in (SIGNIFICANT, FSC_05))
    whole = sums[0] + sums[1]
    if wiener is None:
        volume = wiener_map(whole, ssnr=torch.as_tensor(signal_to_noise(corrected)))
    else:
        volume = wiener_map(whole, fraction)
    volume = (volume * store.scale).cpu().numpy()
    filtered = volume if wiener is None else multiply_shells(volume, np.sqrt(two_halves(corrected)))
    return HalfMaps(
        map=volume,
        map_filt=lowpass(filtered, store.pixel_size_A, lowpass_A or resolution),
        half1=half1,
        half2=half2,
        mask=mask,
        fsc=curves,
        resolution_A=resolution,
        resolution_05_A=resolution_05,
        pixel_size_A=store.pixel_size_A,
        n_tilts=np.diff(store.offsets)[particles],
    )


def refined_by_half(
    store: Store, rows: np.ndarray, half: np.ndarray, refine: Callable[[Store, np.ndarray], Store]
) -> Store:
    """Return the store with the poses of each half set refined from that half set alone.

    The half sets therefore remain independent (Scheres & Chen 2012, Nat. Methods 9:853).

    rows : (n,) images
    half : (n,) half of each image, 0 or 1
    refine : takes a store of one half's images and the ordinals of its particles, and returns the store with
        other poses
    """
    rotations, shifts = store.rotations().copy(), np.zeros((len(store.images), 2))
    for number in range(2):
        own = np.zeros(len(store.images), bool)
        own[rows[half == number]] = True
        part = store.restricted(own)
        refined = refine(part, np.unique(part.images["particle"]))
        rotations[own], shifts[own] = refined.rotations(), refined.corrections - part.corrections
    return store.with_poses(rotations, shifts)


def accumulate(
    store: Store,
    rows: np.ndarray,
    part: np.ndarray,
    *,
    recon_dose_weight: bool,
    recon_tilt_weight: bool,
    parts: int = 2,
    box: int | None = None,
    device: torch.device | str = "cpu",
) -> tuple[Accumulator, ...]:
    """Insert image rows (n,) into the accumulators, as `part` (n,) says; stream the images in chunks.

    parts : number of accumulators
    box : of the maps; in a smaller box than the store's, images are used up to its Nyquist frequency

    Raises InputError that names the particle if an image is not finite.
    """
    device, box = torch.device(device), box or store.box
    hp = store.half_plane.to(device).first(store.half_plane.prefix(box / 2))
    sums = tuple(Accumulator.zeros(box, device) for _ in range(parts))
    step = max(1, POINTS_PER_CHUNK[device.type] // hp.n)
    with track(total=len(rows), unit="images", description="backprojecting") as progress:
        starts = range(0, len(rows), step)
        chunks = (rows[start : start + step] for start in starts)
        images = images_on(device, store, chunks, partial(_refuse_not_finite, store))
        for start, (chunk, data, params) in zip(starts, images, strict=True):
            gain = sent(store.gain[chunk], device)
            h, g = stored_transfer(params, hp, gain, dose=recon_dose_weight, tilt=recon_tilt_weight)
            values, weights = g * data[:, : hp.n], g * h
            for number, accumulator in enumerate(sums):
                members = sent(np.flatnonzero(part[start : start + step] == number), device)
                insert_slices(values[members], weights[members], params.rotation[members], hp, accumulator)
            progress.update(len(chunk))
    return sums


def two_halves(fsc: np.ndarray) -> np.ndarray:
    """Return the signal's fraction of the power of the map of all images, per shell: 2 FSC / (1 + FSC).

    The FSC is that of the half maps (Rosenthal & Henderson 2003, J. Mol. Biol. 333:721). The fraction is 0
    from the first shell with a negative FSC.
    """
    usable = np.clip(np.nan_to_num(fsc), 0, 1)
    usable[0] = usable[1]  # k = 0 holds no data
    usable[np.cumsum(usable <= 0) > 0] = 0
    return 2 * usable / (1 + usable)


def signal_to_noise(fsc: np.ndarray) -> np.ndarray:
    """Return the spectral signal-to-noise ratio per shell of the map of all images, from the half-map FSC."""
    signal = np.minimum(two_halves(fsc), 0.999)
    return signal / (1 - signal)


def _refuse_not_finite(store: Store, stored: np.ndarray, rows: np.ndarray) -> None:
    finite = np.isfinite(stored).all(axis=(1, 2))
    if not finite.all():
        row = rows[np.argmin(finite)]
        image = store.images.iloc[row]
        raise InputError(
            f"{store.folder}: image {row} (particle {image['particle']}, section {image['section']} of "
            f"{image['stack']}) is not finite; prepare the store again from intact stacks"
        )
