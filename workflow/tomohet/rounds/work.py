"""The work of every stage, as a number that grows with its time, and the GPU memory and disk that it takes.

What is measured once, on any number of particles, thus tells the time for any other number. Networks count
multiplications and additions; what reads images counts their pixels; what reads tables counts rows.
"""

from collections.abc import Callable
from math import log2
from typing import Any

from tomohet.analysis.latent import LANDMARKS
from tomohet.rounds.sizes import Sizes
from tomohet.rounds.tree import stage_options

# The share of an image's Fourier points within the optimal dose, averaged over 120 e/A^2 at 10 A.
WITHIN_DOSE = 0.5
ROWS = 131_072  # points that a network takes at once on a GPU (`model.decoder.CUDA_CHUNK_ROWS`)
ADAM = 4  # numbers for each weight: itself, its gradient, two moments
FEATURES_PER_AXIS = 3  # of a box's pixels: sine and cosine of half of them, on three axes

# Stages by the name of their rule: those of the dataset, and those of each round in running order.
DATASET = ("simulate", "validate", "prepare", "homogeneous")
ROUND = (
    "select", "export_subset", "export_volume_series", "reconstruct_subset", "support", "train_linear",
    "states", "train_vae", "convergence", "analyze", "volumes", "analyze_volumes", "siren", "maven",
    "compare_clusters", "compare_classes", "particle_table", "mapback", "handover", "propose", "assess",
)  # fmt: skip
LAST = ("lineage", "report")
# Stages that compute on a GPU where there is one.
ON_DEVICE = {
    "simulate", "homogeneous", "reconstruct_subset", "support", "train_linear", "states", "train_vae",
    "convergence", "analyze", "volumes", "siren", "maven", "compare_clusters",
    "compare_classes", "propose",
}  # fmt: skip
SHARED_BY_GPUS = {"train_linear", "train_vae", "volumes"}
SHARED_BY_JOBS = {"volumes", "siren", "maven"}


def stages_of_round(config: dict, maven: bool, parent: bool, proposing: bool) -> list[str]:
    """Return the stages of a round of the checked `config`.

    maven : whether it measures anything
    parent : whether it has a parent round
    proposing : whether rounds are proposed for it
    """
    left_out = set() if parent else {"support"}
    if config["latents"] == "linear":
        left_out |= {"train_vae", "convergence"}
    if config["particles"] is not None:
        left_out |= {"assess"}
    if config["particles"] is not None and config["volume_series"] is None:
        left_out |= {"export_volume_series", "mapback"}
    if not maven:
        left_out |= {"maven", "compare_classes"}
    if not proposing:
        left_out |= {"propose"}
    return [stage for stage in ROUND if stage not in left_out]


def jobs_of(config: dict, stage: str, round_name: str | None) -> int:
    """Return the number of jobs that divide the longest step of a stage."""
    return stage_options(config, stage, round_name)["jobs"] if stage in SHARED_BY_JOBS else 1


def work(stage: str, sizes: Sizes, options: dict[str, Any]) -> float:
    """Return the work of a stage; `options`: of the sections `train`, `volumes`, ... by their names."""
    return float(WORK[stage](sizes, options))


def _pixels(sizes: Sizes, _: dict) -> float:
    return sizes.images * sizes.input_box**2


def _points(sizes: Sizes, _: dict) -> float:
    return sizes.images * sizes.points


def _rows(sizes: Sizes, _: dict) -> float:
    return sizes.images


def _training(sizes: Sizes, options: dict) -> float:
    """Multiplications and additions of the decoder in all epochs: forward, and the gradients of both."""
    train = options["train"]
    points = (
        sizes.tilts * sizes.points * train["rows_per_image"] * (WITHIN_DOSE if train["l_dose_mask"] else 1)
    )
    width, features = train["dec_dim"], FEATURES_PER_AXIS * sizes.box
    a_point = 2 * (2 * features * width + 3 * train["dec_layers"] * width**2 + 6 * width)
    return train["epochs"] * sizes.particles * points * a_point


def _decoding(sizes: Sizes, options: dict) -> float:
    """Multiplications and additions of one map, forward."""
    train = options["train"]
    return 2 * sizes.ball * (train["dec_layers"] * train["dec_dim"] ** 2 + 2 * train["dec_dim"])


def _volumes(sizes: Sizes, options: dict) -> float:
    return kept_volumes(sizes, options) * _decoding(decoded(sizes, options), options)


def _voxels(sizes: Sizes, options: dict) -> float:
    return kept_volumes(sizes, options) * decoded(sizes, options).box ** 3


def _pairs(sizes: Sizes, options: dict) -> float:
    """Pairs of voxels, of which the same share is tested whatever the box, for each 64 volumes."""
    return decoded(sizes, options).box ** 6 * max(1.0, kept_volumes(sizes, options) / 64)


def _convergence(sizes: Sizes, options: dict) -> float:
    """Particles embedded by UMAP in each of the epochs looked at, and maps decoded."""
    embedded = min(sizes.particles, options["convergence"]["subset"])
    epochs = options["train"]["epochs"] / options["convergence"]["epoch_interval"]
    return epochs * (embedded + _decoding(sizes, options) / 1e9)


def _embedding(sizes: Sizes, _: dict) -> float:
    """Comparisons of UMAP's landmarks; placing another particle, and clustering it, takes as long as two."""
    landmarks = min(sizes.particles, LANDMARKS)
    return landmarks * log2(max(landmarks, 2)) + 2 * (sizes.particles - landmarks)


def kept_volumes(sizes: Sizes, options: dict) -> int:
    """Return the number of volumes that are decoded."""
    return min(options["volumes"]["count"], sizes.particles)


def decoded(sizes: Sizes, options: dict) -> Sizes:
    """Return the sizes with the box of the decoded volumes."""
    box = options["volumes"]["downsample"] or sizes.box
    return Sizes(sizes.particles, sizes.images, sizes.input_box, min(box, sizes.box))


WORK: dict[str, Callable[[Sizes, dict], float]] = {
    "simulate": _pixels,
    "validate": _rows,
    "prepare": _pixels,
    "homogeneous": _points,
    "select": _rows,
    "export_subset": _rows,
    "export_volume_series": _rows,
    "reconstruct_subset": _points,
    "support": _points,
    "train_linear": _points,
    "states": _points,
    "train_vae": _training,
    "convergence": _convergence,
    "analyze": _embedding,
    "volumes": _volumes,
    "analyze_volumes": _voxels,
    "siren": _pairs,
    "maven": _voxels,
    "compare_clusters": _points,
    "compare_classes": _points,
    "particle_table": _rows,
    "mapback": _rows,
    "handover": _rows,
    "propose": _points,
    "assess": _voxels,
    "lineage": _rows,
    "report": _rows,
}


def stored_bytes(sizes: Sizes, options: dict) -> float:
    """Bytes of the prepared images: two numbers for each Fourier point."""
    return sizes.images * sizes.points * 2 * (2 if options["prepare"]["dtype"] == "float16" else 4)


def memory_bytes(stage: str, sizes: Sizes, options: dict) -> float:
    """Bytes of a GPU that a stage takes, beside PyTorch's own few hundred megabytes; 0 where it takes none.

    Images that do not fit stay in the machine's memory, so that a training also works with less.
    """
    train, images = options["train"], stored_bytes(sizes, options)
    width, layers = train["dec_dim"], train["dec_layers"]
    maps = 4 * sizes.box**3
    if stage == "train_vae":
        weights = FEATURES_PER_AXIS * sizes.box * width + layers * width**2
        return images + 4 * ADAM * weights + 2 * ROWS * (FEATURES_PER_AXIS * sizes.box + width * (layers + 4))
    if stage in ("train_linear", "states"):
        maps_of_pairs = 10 * 11 / 2  # of the basis maps, at twice the sampling, half of Fourier space
        return images + maps_of_pairs * 4 * maps
    if stage == "volumes":
        kept = min(2**30, 2 * decoded(sizes, options).ball * width)
        return kept + 2 * ROWS * width * 4 + 2**28
    if stage in ("homogeneous", "reconstruct_subset"):
        return 2 * 2 * 8 * maps
    if stage == "support":
        return min(2**30, 2 * 2 * 2 * 8 * maps)
    return 2**28 if stage in ON_DEVICE else 0


def disk_bytes(stage: str, sizes: Sizes, options: dict) -> float:
    """Bytes of the files that a stage leaves."""
    train, a_map = options["train"], 4 * sizes.box**3
    if stage == "simulate":
        return 4 * sizes.images * sizes.input_box**2
    if stage == "prepare":
        return stored_bytes(sizes, options) + 250 * sizes.images
    if stage in ("homogeneous", "reconstruct_subset"):
        return 4 * a_map
    if stage == "support":
        return 3 * a_map
    if stage == "train_linear":
        return 12 * a_map + 1000 * sizes.particles
    if stage == "train_vae":
        weights = (
            FEATURES_PER_AXIS * sizes.box * train["dec_dim"] + train["dec_layers"] * train["dec_dim"] ** 2
        )
        latents = 8 * sizes.particles * (train["zdim"] or 10)
        # Weights and latents of every kept epoch, and a checkpoint with the optimiser's moments.
        return (train["epochs"] / train["checkpoint"] + ADAM) * (4 * weights + latents + a_map)
    if stage == "volumes":
        return kept_volumes(sizes, options) * 4 * decoded(sizes, options).box ** 3
    if stage in ("export_subset", "export_volume_series"):
        return 300 * (sizes.images if stage == "export_subset" else sizes.particles)
    return 0
