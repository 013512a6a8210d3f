"""Output folder of train_linear, with the same files as a network training, for all later stages."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from tomohet.answers import stated
from tomohet.files.atomic import atomic_path, write_json, write_parquet, write_pickle, write_yaml
from tomohet.files.digests import sealed
from tomohet.files.mrc import write_volume
from tomohet.files.pickles import save_latents
from tomohet.linear.answers import linear_answers
from tomohet.linear.confidence import particle_columns
from tomohet.linear.fit import LinearModel
from tomohet.linear.prediction import TABLES
from tomohet.linear.saved_model import HELD_OUT, POSES
from tomohet.model.config_file.writing import linear_content
from tomohet.model.saving import save_weights
from tomohet.model.settings import LinearFit, LinearSettings, TrainedParticles
from tomohet.particles.refined_poses import described
from tomohet.particles.store import Store

TRUSTED = ("weights.pkl", "z.train.pkl", "covariance.npy", HELD_OUT, "config.pkl")  # read by later stages


@dataclass(frozen=True)
class LinearRun:
    """Identity of a fit: its store, its particles (ordinals) and its options.

    refine_poses : whether later stages use the refined poses
    """

    store: Store
    particles: np.ndarray
    options: dict
    refine_poses: bool = True


def write_run(outdir: Path, run: LinearRun, model: LinearModel, leaks: list[dict]) -> None:
    """Write all files of a fit; config.pkl comes last.

    The files are config, weights, latents (mean and log variance; full covariance), the columns of the
    particle table, the likelihoods of training and held-out images, mean map and summary. variability.mrc is
    the standard deviation of the particles' maps at each voxel.

    leaks : dependence of the latents on imaging conditions (`analysis.leaks.describe`), for the summary
    """
    with sealed(*(outdir / name for name in TRUSTED)):
        _write_run(outdir, run, model, leaks)


def _write_run(outdir: Path, run: LinearRun, model: LinearModel, leaks: list[dict]) -> None:
    store = run.store
    maps, mean = model.maps, model.maps.mean
    others = maps.tensors()
    decoder = {name: others.pop(name) for name in ("mean", "basis")}
    content = {"epoch": 0, "model_state_dict": decoder, "posterior": others}
    save_weights(outdir / "weights.pkl", content)
    covariance = model.latents.covariance.cpu()
    mu = model.latents.mean.cpu().numpy()
    logvar = torch.diagonal(covariance, dim1=1, dim2=2).log().numpy()
    save_latents(outdir / "z.train.pkl", mu, logvar)
    with atomic_path(outdir / "covariance.npy") as temporary, open(temporary, "wb") as file:
        np.save(file, covariance.numpy())
    split = model.split
    with atomic_path(outdir / HELD_OUT) as temporary, open(temporary, "wb") as file:
        arrays = {name: getattr(split, name).cpu().numpy() for name in TABLES}
        np.savez(file, particle=run.particles, **arrays)
    write_parquet(outdir / "particles.parquet", particle_columns(model.latents, maps.basis, run.particles))
    table = model.poses.table(run.particles, store.pixel_size_A)
    deviation = model.poses.prior * [1, store.pixel_size_A]
    write_parquet(outdir / POSES, described(table, store.description, run.refine_poses, deviation))
    write_volume(outdir / "mean.mrc", mean.volume.cpu().numpy() * store.scale, store.pixel_size_A)
    differences = maps.basis.square().sum(0).sqrt().cpu().numpy()
    write_volume(outdir / "variability.mrc", differences * store.scale, store.pixel_size_A)
    write_volume(outdir / "mask.mrc", mean.mask.cpu().numpy(), store.pixel_size_A)
    numbers = summary(run, model) | {"leaks": leaks}
    write_json(outdir / "summary.json", numbers | stated(linear_answers(numbers)))
    fit = LinearFit(
        max_frequency=run.options["max_frequency"],
        pose_deviation=model.poses.prior.tolist(),
        tilt_shift_A=mean.tilt_shift_px * float(store.pixel_size_A),
        tomograms=maps.tomograms,
    )
    settings = LinearSettings(
        box=store.box,
        pixel_size_A=float(store.pixel_size_A),
        scale=float(store.scale),
        seed=0,
        particles=TrainedParticles.of_store(store.description, store.folder, run.particles),
        n_basis=len(maps.basis),
        fit=fit,
    )
    asked = run.options | {"refine_poses": run.refine_poses}
    content = linear_content(settings, fit, asked, str(store.description["source"]))
    write_yaml(outdir / "config.yaml", content)
    write_pickle(outdir / "config.pkl", content)


def summary(run: LinearRun, model: LinearModel) -> dict:
    """Return numbers for the report: tests on held-out images, power of each basis map, reliabilities."""
    variance = torch.diagonal(model.latents.covariance, dim1=1, dim2=2).mean(0)
    power = model.maps.basis.square().sum((1, 2, 3)) / model.maps.mean.volume.square().sum()
    return {
        "n_particles": len(run.particles),
        "n_images": int(np.diff(run.store.offsets)[run.particles].sum()),
        "zdim": len(model.maps.basis),
        "verdict": model.verdict,
        "heterogeneity_found": model.heterogeneous,
        # Number of reproducible directions; None, as the p-value, if no images could be held out.
        "components_confirmed": model.held_out.confirmed.b.shape[1] if model.held_out.possible else None,
        "held_out_p_value": model.held_out.p_value if model.held_out.possible else None,
        # Test statistic of each direction, and its mean by chance (nats).
        "held_out_moments": model.held_out.moment,
        "held_out_moments_by_chance": model.held_out.null.mean(0),
        "held_out_p_values": model.held_out.p_values,
        # Structural fraction of the latents' variance, from held-out images, along reproducible directions.
        # Along other directions its value is meaningless.
        "held_out_reliability": model.held_out.reliability[: model.held_out.n_components],
        "held_out_reliability_less_error": model.held_out.least_reliability[: model.held_out.n_components],
        "components_clear_in_particles": model.held_out.n_clear,
        # Correlation of neighbouring tilts in excess of the model, in standard deviations.
        "surroundings_z": model.surroundings,
        "surroundings_found": model.apart,
        "explained_by_conditions": [vars(one) for one in model.held_out.explained],
        "prior_scale": model.prior_scale.mean(1).cpu().numpy(),
        "poses": model.poses.sentence(run.store.pixel_size_A),
        "pose_errors": pose_errors(run, model),
        "tilts": model.tilts_sentence(run.store.pixel_size_A),
        # Standard deviation of the shifts of single tilt images along x and y.
        "tilt_shift_A": model.maps.mean.tilt_shift_px * run.store.pixel_size_A,
        # Fraction of a latent's prior variance that the images determine: 0 nothing, 1 everything.
        "reliability": (1 - variance).cpu().numpy(),
        "power_relative_to_mean": power.cpu().numpy(),
        "mask_share_of_box": (model.maps.mean.mask > 0.5).float().mean().item(),
    }


def pose_errors(run: LinearRun, model: LinearModel) -> dict:
    """Return the rms rotation (degrees) and shift along one axis (Å) of the poses, in total and by tomogram.

    The values by tomogram combine the posterior's mean and variance. The fraction of the variance along one
    direction is added.
    """
    rotation_deg, shift_A = model.poses.spread(run.store.pixel_size_A)
    table = model.poses.table(run.particles, run.store.pixel_size_A)
    turn2 = table.filter(regex="^turn_[xyz]").pow(2).sum(axis=1) + 3 * table["turn_sd_deg"] ** 2
    move2 = table.filter(regex="^move_[xyz]").pow(2).mean(axis=1) + table["move_sd_A"] ** 2
    tomogram = run.store.particles["tomogram"].astype(str).to_numpy()[run.particles]
    means = pd.DataFrame({"rotation_deg": turn2, "shift_A": move2}).groupby(tomogram).mean() ** 0.5
    direction = model.poses.direction
    along_one = {}
    if direction is not None:
        along_one = {"share_of_one_direction": direction.share, "one_direction": direction.preferred}
    sizes = {"rotation_deg": rotation_deg, "shift_A": shift_A}
    return sizes | along_one | {"tomograms": means.to_dict("index")}
