"""Reconstruct a map and its half maps from tilt images by weighted back-projection."""

import logging
import tempfile
from functools import partial
from pathlib import Path

from tomohet.device import device_of
from tomohet.errors import InputError
from tomohet.files.masks import read_mask
from tomohet.linear.fit import refined_alone
from tomohet.options import BackprojectVoxelOptions
from tomohet.particles.refined_poses import RefinedPoses
from tomohet.particles.source import open_particles
from tomohet.reconstruction.half_maps import HalfMaps, half_maps
from tomohet.reconstruction.outputs import MapFiles, write_half_maps
from tomohet.running.logs import log_to
from tomohet.running.outputs import take_output
from tomohet.running.work import command

log = logging.getLogger(__name__)


@command
def run(options: BackprojectVoxelOptions) -> HalfMaps:
    """Prepare a STAR file if necessary, reconstruct, write the maps; return them."""
    if options.poses is not None and options.refine_poses is not None:
        raise InputError(
            "--poses and --refine-poses: expected one; only --refine-poses keeps the half maps independent"
        )
    files = MapFiles.of(options.output)
    files.folder.mkdir(parents=True, exist_ok=True)
    if not files.prefix:
        take_output(files.folder)
    log_to(files.path("run.log", "_run.log"))
    if files.prefix and not Path(options.particles).is_dir():
        # A single X.mrc leaves no folder next to it: the prepared images are deleted once the map is written.
        with tempfile.TemporaryDirectory(dir=files.folder, prefix=f".{files.prefix}_prepared") as folder:
            return reconstruct(options, files, Path(folder))
    return reconstruct(options, files, files.folder)


def reconstruct(options: BackprojectVoxelOptions, files: MapFiles, folder: Path) -> HalfMaps:
    """Write the half maps of the selected particles to `files`; prepare a STAR file in `folder`."""
    device = device_of(options.device)
    store, particles = open_particles(options.particles, options, folder)
    result = half_maps(
        store,
        particles,
        by=options.half_by,
        seed=options.seed,
        recon_dose_weight=options.recon_dose_weight,
        recon_tilt_weight=options.recon_tilt_weight,
        wiener=options.wiener,
        lowpass_A=options.lowpass,
        mask=read_mask(options.mask, store.box, store.pixel_size_A) if options.mask else None,
        refine=refinement(options, store, device),
        device=device,
    )
    write_half_maps(result, files, flip=options.flip, plot_format=options.plot_format)
    log.info(
        "resolution %.1f Å (FSC 0.143), %.1f Å (FSC 0.5); written to %s",
        result.resolution_A,
        result.resolution_05_A,
        options.output,
    )
    return result


def refinement(options: BackprojectVoxelOptions, store, device):
    """Return the function that refines the poses of a half set, or None to keep the poses."""
    if options.poses is not None:
        log.warning("half maps with --poses are not independent of each other, so their FSC is too high")
    if options.refine_poses is None or not RefinedPoses.read(options.refine_poses, store).to_be_used:
        return None
    return partial(refined_alone, seed=options.seed, device=device)
