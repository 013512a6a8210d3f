"""A whole simulation: specimen, states, tilt series, images and files, in memory that does not grow."""

import logging
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from tomohet import __version__
from tomohet.files.atomic import write_csv, write_yaml
from tomohet.physics.geometry import euler_to_matrix
from tomohet.progress import track
from tomohet.simulation.config import CORE, SimulationConfig
from tomohet.simulation.experiment import Experiment, draw_experiment
from tomohet.simulation.model_file import write_model
from tomohet.simulation.projection import CANVAS, Camera, variance_in_circle
from tomohet.simulation.specimen import Specimen
from tomohet.simulation.states import state_table
from tomohet.simulation.surroundings import Surroundings
from tomohet.simulation.truth import Truth
from tomohet.simulation.warp import WarpWriter, group_names, micrograph_name
from tomohet.simulation.warptools import WarpToolsWriter, particle_names

log = logging.getLogger(__name__)

# Files in the output folder, beside stacks and warptools/.
WRITTEN = ("particles.star", "volumes.star", "model.cif", "units.csv", "truth.npz", "simulate.yaml")
PARTICLES_FOR_SCALE = 100
PARTICLES_FOR_BACKGROUND = 30
# Working memory of one chunk of images; one image takes eight grid corners per Fourier point.
CHUNK_BYTES = {"cpu": 2**28, "cuda": 2**32}
BYTES_PER_PIXEL = 160
# Factor by which the canvas of the surroundings raises this memory. On a CPU, corners take no memory, and
# every chunk costs a transform of all maps: larger chunks, with up to three times the memory, are faster.
CANVAS_COST = {"cpu": 1, "cuda": CANVAS**2}


def simulate(config: SimulationConfig, folder: str | Path, device: torch.device | str = "cpu") -> None:
    """Simulate the particles of a configuration and write them, their model and their truth into a folder.

    Writes particles.star, volumes.star and stacks/ (dialect warp), warptools/ (dialect warptools), model.cif,
    units.csv, truth.npz, simulate.yaml. The same configuration gives the same files on the same kind of
    device. Raises InputError for what cannot be simulated.
    """
    folder, device = Path(folder), torch.device(device)
    experiment = plan(config, device)
    folder.mkdir(parents=True, exist_ok=True)
    clean_variance, background_variance = _record(experiment, folder, device)
    _write_specimen(experiment.specimen, folder)
    truth_of(experiment, clean_variance, background_variance).save(folder / "truth.npz")
    write_yaml(
        folder / "simulate.yaml",
        {
            "tomohet": __version__,
            "numpy": np.__version__,
            "torch": str(torch.__version__),
            "config": config.plain(),
        },
    )


def plan(config: SimulationConfig, device: torch.device | str = "cpu") -> Experiment:
    """Draw an experiment and set its noise.

    Densities are scaled so that noise of standard deviation 1 (0 for infinite SNR) gives the configured SNR,
    and the background so that it has the configured ratio.
    """
    unscaled = draw_experiment(config)
    noiseless = np.isinf(config.snr)
    scale = float(np.sqrt((1.0 if noiseless else config.snr) / _typical_variance(unscaled, device)))
    experiment = replace(
        unscaled,
        specimen=unscaled.specimen.scaled(scale),
        noise_std=0.0 if noiseless else 1.0,
        density_scale=scale,
    )
    if not config.background_ratio:
        return experiment
    variance = _typical_background(experiment, device) / experiment.noise_std**2
    return replace(experiment, background_gain=float(np.sqrt(config.background_ratio / variance)))


def _typical_variance(experiment: Experiment, device: torch.device | str) -> float:
    """Compute the mean variance, inside the circle, of the clean visible images of the first particles."""
    camera = Camera(experiment.specimen, experiment.config.amplitude_loss, device)
    first = np.arange(min(PARTICLES_FOR_SCALE, experiment.config.n_particles))
    variances = []
    for tomogram in range(len(experiment.true.tomograms)):
        members = np.intersect1d(first, experiment.members(tomogram))
        for images, clean in _clean_chunks(experiment, camera, members):
            variances.append(_visible_variance(images, clean))
    return float(torch.cat(variances).double().mean())


def _typical_background(experiment: Experiment, device: torch.device | str) -> float:
    """Compute the variance as `_typical_variance`, of the background with gain 1, for fewer particles."""
    surroundings = Surroundings(replace(experiment, background_gain=1.0), device)
    first = np.arange(min(PARTICLES_FOR_BACKGROUND, experiment.config.n_particles))
    variances = []
    for index, tomogram in enumerate(experiment.true.tomograms):
        for particle in np.intersect1d(first, experiment.members(index)):
            images = experiment.images_of(np.array([particle]))
            variances.append(_visible_variance(images, surroundings.background(images, tomogram)))
    return float(torch.cat(variances).double().mean())


def _visible_variance(images: pd.DataFrame, clean: torch.Tensor) -> torch.Tensor:
    """Compute the variance (v,) inside the circle of the v visible images among (m, D, D)."""
    visible = torch.as_tensor(images.visible.to_numpy(copy=True), device=clean.device)
    return variance_in_circle(clean)[visible]


def _clean_chunks(experiment: Experiment, camera: Camera, members: np.ndarray):
    """Yield image tables and clean images (m, D, D) of particles of one tomogram, in bounded chunks."""
    n_tilts, kind = len(experiment.true.tomograms[0].tilt_deg), torch.device(camera.device).type
    bytes_per_particle = n_tilts * BYTES_PER_PIXEL * experiment.specimen.box**2
    if experiment.has_surroundings:
        bytes_per_particle *= CANVAS_COST[kind]
    step = max(1, CHUNK_BYTES[kind] // bytes_per_particle)
    for start in range(0, len(members), step):
        images = experiment.images_of(members[start : start + step])
        particle = images.particle.to_numpy()
        yield (
            images,
            camera.clean(images, experiment.states.presence[particle], experiment.states.angle_deg[particle]),
        )


def _record(experiment: Experiment, folder: Path, device: torch.device) -> tuple[float, float]:
    """Write all images; return mean variances of the visible ones: clean, and of the background alone."""
    config, specimen, stated = experiment.config, experiment.specimen, experiment.stated
    camera = Camera(specimen, config.amplitude_loss, device)
    surroundings = Surroundings(experiment, device) if experiment.has_surroundings else None
    as_warp, as_warptools = (config.dialect in (name, "both") for name in ("warp", "warptools"))
    warp = WarpWriter(folder, config, specimen.box, specimen.pixel_size_A) if as_warp else None
    warptools = (
        WarpToolsWriter(folder / "warptools", config, specimen.box, specimen.pixel_size_A)
        if as_warptools
        else None
    )
    total, background, count = 0.0, 0.0, 0
    with track(total=config.n_particles, unit="particles", description="simulating") as progress:
        for index, tomogram in enumerate(stated.tomograms):
            members = experiment.members(index)
            # Each tomogram has its own noise seed, so that it could be made alone.
            noise = torch.Generator(device).manual_seed(_noise_seed(config.seed, index))
            with warp.tomogram(tomogram, len(members)) if warp else nullcontext() as stack:
                for images, recorded in _clean_chunks(experiment, camera, members):
                    total += float(_visible_variance(images, recorded).double().sum())
                    count += int(images.visible.sum())
                    if surroundings:
                        around, of_background = surroundings.images(images, experiment.true.tomograms[index])
                        recorded.add_(around)
                        background += float(_visible_variance(images, of_background).double().sum())
                    own_noise = torch.randn(recorded.shape, generator=noise, device=device)
                    recorded.add_(experiment.noise_std * own_noise)
                    chunk = images.particle.unique()
                    # The extraction multiplies by the stated parameters, not by the true ones.
                    as_true = stated is experiment.true and not config.tilt_shift_A
                    described = images if as_true else experiment.stated_images_of(chunk)
                    if warp:
                        stack.add(recorded, described)
                    if warptools:
                        warptools.add(recorded, described, tomogram, stated.particles.number[chunk])
                    progress.update(len(chunk))
    for writer in (warptools, warp):
        if writer:
            writer.finish(stated.tomograms, stated.particles)
    log.info("%d particles, %d images in %d tomograms", config.n_particles, count, len(stated.tomograms))
    return total / count, background / count


def _noise_seed(seed: int, tomogram: int) -> int:
    return int(np.random.SeedSequence([seed, tomogram, 0x6E6F697365]).generate_state(1, np.uint64)[0] >> 1)


def _write_specimen(specimen: Specimen, folder: Path) -> None:
    """Write model.cif in the frame of the maps (voxel (0, 0, 0) at the origin) and units.csv."""
    if specimen.atoms is None:
        return
    write_model(folder / "model.cif", specimen.atoms, (specimen.box // 2) * specimen.pixel_size_A)
    mass = specimen.atoms.groupby("unit", sort=False).Z.sum()
    units = pd.DataFrame({"unit": mass.index, "mass": (mass / mass.sum()).round(4).to_numpy()})
    settings = {block.name: block for block in specimen.settings}
    for column, default in (("frequency", 1.0), ("host", ""), ("hinge_deg", 0.0)):
        units[column] = [
            default if unit == CORE else getattr(settings[unit], column) or default for unit in units.unit
        ]
    write_csv(folder / "units.csv", units)


def truth_of(experiment: Experiment, clean_variance: float, background_variance: float) -> Truth:
    """Collect the truth of an experiment with these mean variances of clean images and of the background."""
    specimen, hinge = experiment.specimen, experiment.specimen.hinge
    tomograms, particles = experiment.true.tomograms, experiment.true.particles
    errors, neighbours = experiment.errors, experiment.neighbours
    state_presence, state = state_table(experiment.states.presence)
    moving = np.zeros((0, 3))
    moving_weights = np.zeros(0)
    if hinge is not None:
        of_moving = specimen.atoms.unit == hinge.unit
        moving = specimen.atoms.loc[of_moving, ["x_A", "y_A", "z_A"]].to_numpy()
        moving_weights = specimen.atoms.Z[of_moving].to_numpy()
    noise_variance = experiment.noise_std**2
    names = np.array([micrograph_name(t) for t in tomograms])
    return Truth(
        particle_id=group_names(tomograms, particles),
        particle_name=particle_names(tomograms, particles),
        block_names=np.array(specimen.names, dtype=str),
        block_frequency=np.array([block.frequency for block in specimen.settings]),
        block_host=np.array([block.host or "" for block in specimen.settings], dtype=str),
        presence=experiment.states.presence,
        state=state,
        state_presence=state_presence,
        angle_deg=experiment.states.angle_deg,
        moving_block=-1 if specimen.moving is None else specimen.moving,
        hinge_point_A=np.zeros(3) if hinge is None else hinge.point_A,
        hinge_axis=np.zeros(3) if hinge is None else hinge.axis,
        hinge_limit_deg=0.0 if hinge is None else hinge.limit_deg,
        moving_xyz_A=moving,
        moving_Z=moving_weights,
        resolution_A=specimen.resolution_A or 0.0,
        core_map=specimen.core,
        block_maps=specimen.blocks,
        block_masks=specimen.masks(),
        rotation=euler_to_matrix(*particles.euler_deg.T),
        origin_px=particles.origin_px,
        tomogram=names[particles.tomogram],
        noise_std=experiment.noise_std,
        snr=experiment.config.snr,
        snr_measured=clean_variance / noise_variance if noise_variance else np.inf,
        clean_variance=clean_variance,
        density_scale=experiment.density_scale,
        pixel_size_A=specimen.pixel_size_A,
        amplitude_loss=experiment.config.amplitude_loss,
        exclusive=specimen.exclusive,
        seed=experiment.config.seed,
        pose_rotvec_deg=errors.pose_rotvec_deg,
        pose_shift_A=errors.pose_shift_A,
        tilt_shift_A=errors.tilt_shift_A,
        defocus_error_A=errors.defocus_A,
        preferred_direction=experiment.preferred_direction,
        neighbour_particle=neighbours.particle,
        neighbour_offset_A=neighbours.offset_A,
        neighbour_rotation=neighbours.rotation,
        neighbour_presence=neighbours.states.presence,
        neighbour_angle_deg=neighbours.states.angle_deg,
        background_gain=experiment.background_gain,
        background_variance=background_variance,
    )
