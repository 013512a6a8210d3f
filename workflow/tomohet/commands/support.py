"""Tell whether a subset differs from the other particles more than a random or a noise-selected one would."""

import logging

import numpy as np
import pandas as pd
import torch

from tomohet.analysis.run_folder import RunFolder
from tomohet.answers import stated
from tomohet.device import device_of
from tomohet.files.atomic import write_csv, write_json
from tomohet.files.leftovers import replacing
from tomohet.files.masks import read_mask
from tomohet.files.mrc import read_map
from tomohet.files.pickles import load_indices
from tomohet.files.tables import read_csv, read_table
from tomohet.linear.explained import Explained
from tomohet.linear.saved_model import SavedModel
from tomohet.linear.subset_evidence import followed_conditions, held_out_tilts
from tomohet.linear.support_answers import group_answers, subset_answers
from tomohet.linear.support_output import (
    control_figure,
    coverage_figure,
    decoded_resolution,
    difference_figure,
    map_to_map,
    write_coverage,
    write_maps,
)
from tomohet.model.load import load_model
from tomohet.options import SupportOptions
from tomohet.particles.joining import rows_of_all
from tomohet.particles.source import open_particles
from tomohet.particles.store import Store
from tomohet.physics.fourier_grids import mirror_z
from tomohet.physics.fsc import resolution_at
from tomohet.reconstruction.half_maps import FSC_05, SIGNIFICANT
from tomohet.reconstruction.local_resolution import local_resolution
from tomohet.reconstruction.orientation_coverage import coverage
from tomohet.reconstruction.subset_maps import SubsetDifference, subset_differences
from tomohet.reconstruction.support import SUPPORTED_P, Difference, differences_of
from tomohet.rounds.select import among, columns_of
from tomohet.running.work import command

log = logging.getLogger(__name__)

LEAST_PARTICLES = 10  # of a subset and of the others
MOST_GROUPS = 24  # of a column, the largest: time and memory grow with their number
# Columns of the particle table that no image has gone into.
STATED_BY_THE_FILE = {"particle", "source_id", "tomogram", "x_A", "y_A", "z_A", "n_tilts", "half"}


@command
def run(options: SupportOptions) -> dict:
    """Compare the subset, or each group of a column, with the other particles; return the summary."""
    options.outdir.mkdir(parents=True, exist_ok=True)
    store, particles = open_particles(options.particles, options, options.outdir)
    with replacing(options.outdir, "support"):
        if options.members is not None:
            numbers = subset_numbers(options, store, particles)
            said = subset_answers(numbers)
        else:
            numbers = group_numbers(options, store, particles)
            said = group_answers(numbers)
        write_json(options.outdir / "support.json", numbers | stated(said))
    log.info(said[0].sentence)
    return numbers


def subset_numbers(options: SupportOptions, store: Store, particles: np.ndarray) -> dict:
    """Compare one subset; write its maps and figures."""
    known = pd.DataFrame({"particle": particles})
    members = np.isin(particles, among(known, load_indices(options.members), str(options.members)))
    if min(members.sum(), (~members).sum()) < LEAST_PARTICLES:
        return too_few(int(members.sum()), int((~members).sum()))
    (numbers,), maps = compared(options, store, particles, members[None], ["subset"])
    numbers |= own_maps(options, store, particles[members]) if options.maps is not None else {}
    write_maps(options.outdir, {"difference_sigma.mrc": maps[0]}, flip=options.flip)
    return numbers


def group_numbers(options: SupportOptions, store: Store, particles: np.ndarray) -> dict:
    """Compare each of the largest groups of a column with all others; write the maps of their differences."""
    table = read_table(options.groups, {"particle": "whole numbers", options.column: "whole numbers"})
    rows = rows_of_all(particles, table["particle"].to_numpy(), options.groups)
    label = table[options.column].to_numpy()[rows]
    values, sizes = np.unique(label, return_counts=True)
    largest = np.isin(np.arange(len(sizes)), np.argsort(-sizes, kind="stable")[:MOST_GROUPS])
    enough = largest & (np.minimum(sizes, len(label) - sizes) >= LEAST_PARTICLES)
    numbers = [{"group": int(one), "n_members": int(size)} for one, size in zip(values, sizes, strict=True)]
    if enough.any():
        subsets = label == values[enough][:, None]
        names = [f"{options.column} {value}" for value in values[enough]]
        found, maps = compared(options, store, particles, subsets, names)
        for number, own in zip(np.flatnonzero(enough), found, strict=True):
            numbers[number] |= own
        files = [f"difference_sigma_{options.column}_{value}.mrc" for value in values[enough]]
        write_maps(options.outdir, dict(zip(files, maps, strict=True)), flip=options.flip)
    supported = sum(one.get("verdict") == "supported" for one in numbers)
    verdict = f"{supported} of {int(enough.sum())} supported" if enough.any() else None
    return {"column": options.column, "verdict": verdict, "groups": numbers}


def compared(
    options: SupportOptions, store: Store, particles: np.ndarray, subsets: np.ndarray, names: list[str]
) -> tuple[list[dict], list[tuple[np.ndarray, float]]]:
    """Compare subsets (S, N) with the other particles; return the numbers of each, and its difference map.

    Maps come with their pixel size (Å).
    """
    device, linear = device_of(options.device), SavedModel.read(options.linear, store.box)
    by_images = options.query is None or not columns_of(options.query) <= STATED_BY_THE_FILE
    held_out = held_out_tilts(linear.held_out(store, particles, device)) if by_images else None
    followed = followed_conditions(store, particles, subsets)
    maps = linear.maps.for_store(store, device)
    store, mean = linear.poses(store, particles).applied(store, particles, maps.mean)
    differences = differences_of(
        store,
        particles,
        subsets,
        held_out=held_out,
        mean=mean,
        max_frequency=maps.max_frequency,
        seed=options.seed,
        device=device,
    )
    seen = subset_differences(store, particles, subsets, seed=options.seed, device=device)
    for draw, what, of_each in (
        (control_figure, "control", differences),
        (difference_figure, "difference", seen),
    ):
        draw(options.outdir / f"{what}.{options.plot_format}", dict(zip(names, of_each, strict=True)))
    selection = {
        "selected_by_images": by_images,
        "directions_confirmed": held_out.latents.shape[1] if held_out else None,
    }
    numbers = [numbers_of(*one) | selection for one in zip(differences, seen, followed, strict=True)]
    return numbers, [(one.sigma, one.pixel_size_A) for one in seen]


def numbers_of(difference: Difference, seen: SubsetDifference, followed: Explained | None) -> dict:
    """Return the numbers of a comparison; a condition that explains the membership makes it weak at best."""
    doubtful = followed is not None and difference.verdict == "supported"
    return {
        "n_members": difference.n_members,
        "n_others": difference.n_others,
        "verdict": "weak" if doubtful else difference.verdict,
        "p_value": difference.p_value,
        "p_random": difference.p_random,
        "p_held_out": difference.p_held_out,
        "p_supported": SUPPORTED_P,
        "controls_matched": difference.matched,
        "share_exchangeable": difference.exchangeable,
        "power_over_random": difference.ratio,
        "difference_sigma_most": seen.most,
        "difference_share_high": seen.share_high,
        "difference_resolution_A": seen.resolution_A,
        "followed_condition": followed and followed.condition,
        "followed_share": followed and followed.share,
    }


def own_maps(options: SupportOptions, store: Store, members: np.ndarray) -> dict:
    """Write local resolution, orientation coverage and the decoded volume of a subset; return the numbers.

    members : ordinals in the store
    """
    (half1, pixel_size_A), (half2, _) = (read_map(options.maps / f"half{one}.mrc") for one in (1, 2))
    mask = read_mask(options.maps / "mask.mrc", store.box, store.pixel_size_A)
    if options.flip:
        half1, half2, mask = (mirror_z(one) for one in (half1, half2, mask))
    curves = read_csv(options.maps / "fsc.csv", dict.fromkeys(("frequency_1_A", "corrected"), "numbers"))
    corrected, frequency = curves["corrected"].to_numpy(), curves["frequency_1_A"].to_numpy()
    resolution_A = resolution_at(corrected, frequency, SIGNIFICANT)
    local = local_resolution(half1, half2, mask, pixel_size_A, resolution_A)
    beams = store.images[["r20", "r21", "r22"]].to_numpy(np.float32)[store.images_of(members)]
    covered = coverage(beams, half1, half2, mask, pixel_size_A)
    write_coverage(options.outdir / "coverage.csv", covered)
    maps, numbers, curve = {"local_resolution.mrc": (local, pixel_size_A)}, {}, None
    if options.workdir is not None:
        volume = decoded_at_mean(options, members)
        curve = map_to_map((half1 + half2) / 2, volume, mask, pixel_size_A)
        write_csv(options.outdir / "decoded_fsc.csv", curve)
        maps["decoded.mrc"] = volume, pixel_size_A
        numbers["decoded_fsc05_A"] = decoded_resolution(curve)
    write_maps(options.outdir, maps, flip=options.flip)
    coverage_figure(options.outdir / f"coverage.{options.plot_format}", covered, pixel_size_A, curve)
    inside = local[mask > 0.5]
    return numbers | {
        "half_maps_fsc05_A": resolution_at(corrected, frequency, FSC_05),
        "local_resolution_A": dict(
            zip(("best", "median", "worst"), np.percentile(inside, (0, 50, 100)), strict=True)
        ),
        "coverage": covered.numbers(),
    }


def decoded_at_mean(options: SupportOptions, members: np.ndarray) -> np.ndarray:
    """Return the volume (D, D, D) that the parent's model decodes at the mean latent of the members."""
    trained = RunFolder(options.workdir)
    epoch = trained.epoch(options.epoch)
    mean = trained.latents_of_particles(epoch).of(members).mean(0)
    decoder = load_model(trained.weights_path(epoch), trained.config_path, device_of(options.device))
    z = torch.as_tensor(mean[None], dtype=torch.float32, device=decoder.device)
    return decoder.volumes(z)[0].cpu().numpy()


def too_few(n_members: int, n_others: int) -> dict:
    """Return the numbers of a subset that is too small, or leaves too few others, for a comparison."""
    if not n_others:
        reason = "The subset has all particles: there are no others to compare it with."
    else:
        reason = (
            f"{n_members:,} particles and {n_others:,} others are too few for a comparison, which needs "
            f"{LEAST_PARTICLES} of each."
        )
    return {"n_members": n_members, "n_others": n_others, "reason": reason}
