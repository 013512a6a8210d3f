"""Occupancies of every particle: sums over masks of the model's map of it, without decoding every map."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tomohet.analysis.ensemble import Ensemble
from tomohet.analysis.maven.clustering import nearest_group
from tomohet.analysis.maven.occupancy import Measured, own_sums
from tomohet.analysis.maven.units import Units
from tomohet.analysis.run_folder import RunFolder
from tomohet.device import device_of
from tomohet.errors import InputError
from tomohet.files.shares import ALL_ROWS, Shares
from tomohet.model.load import load_model
from tomohet.model.mask_sums import mask_sums
from tomohet.model.volumes import TrainedVolumes, VolumeForm

TOLERANCE = 1e-3  # fraction of a present unit's density: far below the effect of noise on latents
OTHER_MODEL = 0.1  # of a present unit's density: volumes that differ more are not from this model
MOST_COMPARED = 3  # number of volumes that are decoded again for comparison

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ParticleMaps:
    """A trained model's maps of its n particles.

    z : (n, zdim) latents
    particles : (n,) ordinals in the store
    form : form of the maps
    """

    decoder: TrainedVolumes
    z: np.ndarray
    particles: np.ndarray
    form: VolumeForm


def particle_maps(
    workdir: Path, epoch: str, device: str, box: int | None, lowpass_A: float | None, flip: bool, invert: bool
) -> ParticleMaps:
    """Describe the maps of a run's particles at an epoch (see `RunFolder.epoch`), in the options' form."""
    training = RunFolder(workdir)
    number = training.epoch(epoch)
    latents = training.latents_of_particles(number)
    decoder = load_model(training.weights_path(number), training.config_path, device_of(device))
    form = VolumeForm.of(decoder, box, lowpass_A, flip, invert)
    return ParticleMaps(decoder, latents.mean, latents.particles, form)


def of_particles(
    maps: ParticleMaps,
    ensemble: Ensemble,
    measured: Measured,
    units: Units,
    solvent: np.ndarray,
    level: float,
    seed: int,
    shares: Shares = ALL_ROWS,
) -> tuple[Measured, dict]:
    """Sum all particles' maps over masks and solvent; return the sums and how they were computed.

    measured : sums of the ensemble's volumes, which must be from the same model
    level : amplitude of a present unit; sums are exact to a thousandth of it
    shares : divide the particles among jobs

    Raises InputError when the volumes are from another model, epoch or form.
    """
    check_same_model(ensemble, measured, maps, units, level)
    share = (solvent / solvent.sum()).astype(np.float32)
    weights = np.concatenate([units.masks.toarray().reshape(-1, *solvent.shape), share[None]])
    own = own_sums(units)
    voxels = np.asarray(units.masks.sum(axis=1)).ravel()
    allowed = TOLERANCE * level * np.append(own, (own / voxels).min())
    found = mask_sums(maps.decoder, maps.z, weights, maps.form, allowed, seed, shares)
    worst = float((found.error[:-1] / (level * own)).max())
    log.info(
        "occupancies of %d particles: %d volumes decoded in full%s", len(maps.z), found.decoded,
        f", the others from {found.points} Fourier points (root mean square error {worst:.1e})"
        if found.points else "",
    )  # fmt: skip
    how = {"n_decoded": found.decoded, "n_points": found.points, "worst_rms_error": worst}
    return Measured(found.sums[:, :-1], found.sums[:, -1]), how


def check_same_model(
    ensemble: Ensemble,
    measured: Measured,
    maps: ParticleMaps,
    units: Units,
    level: float,
) -> None:
    """Check that the volumes are from this model, epoch and form, by decoding a few of them again.

    Their latents are in the `z_values.txt` beside them; without that file nothing is compared.

    Raises InputError when they differ.
    """
    _check_grid(ensemble, maps.form)
    file = Path(ensemble.source) / "z_values.txt"
    if not file.is_file():
        log.info("%s: no z_values.txt, so the volumes are not compared with the model's", ensemble.source)
        return
    z = np.loadtxt(file, ndmin=2)
    if z.shape[1] != maps.decoder.zdim or ensemble.numbers.max() >= len(z):
        raise InputError(
            f"{file}: latents of shape {z.shape}, but the model has zdim {maps.decoder.zdim} and there are "
            f"volumes up to {ensemble.numbers.max()}: the volumes are not of this model"
        )
    rows = np.unique(np.linspace(0, len(ensemble) - 1, MOST_COMPARED).astype(int))
    masks = units.masks.toarray().reshape(-1, *ensemble.grid.shape)
    latents, any_error = z[ensemble.numbers[rows]], np.full(len(masks), np.inf)
    again = mask_sums(maps.decoder, latents, masks, maps.form, any_error).sums
    own = own_sums(units)
    difference = np.abs(again - measured.sums[rows]) / (level * own)
    if not difference.max() <= OTHER_MODEL:
        row, unit = np.unravel_index(difference.argmax(), difference.shape)
        raise InputError(
            f"{ensemble.source}: volume {ensemble.numbers[rows[row]]}, decoded again, differs by "
            f"{difference.max():.2g} of unit {units.table.unit[unit]}'s density: these volumes are of "
            "another model or epoch, or were written with other --downsample, --lowpass, --flip or --invert"
        )


def _check_grid(ensemble: Ensemble, form: VolumeForm) -> None:
    grid = ensemble.grid
    if grid.box != form.box or abs(grid.pixel_size_A - form.pixel_size_A) > 1e-3 * form.pixel_size_A:
        raise InputError(
            f"{ensemble.source}: volumes of {grid.box} px and {grid.pixel_size_A:.4g} Å/px, but the model's "
            f"have {form.box} px and {form.pixel_size_A:.4g} Å/px: give the --downsample that they were "
            "written with"
        )


def nearest_class(occupancies: np.ndarray, of_volumes: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return the class (n,) with mean occupancies nearest to each particle's; all clipped to 0..1.

    of_volumes : (V, U) occupancies of the volumes that were classified
    classes : (V,) from 1
    """
    return nearest_group(np.clip(occupancies, 0, 1), np.clip(of_volumes, 0, 1), classes)
