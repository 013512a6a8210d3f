"""Memory of the machine that every stage takes, from what it holds: tables, images, maps, latents.

Images are read in chunks everywhere but in the training of the network, which holds them where there is room.
What grows with a dataset are the tables: a stage reads those of its round, or of the dataset. Bytes of a row
are peaks, measured by `tests/benchmarks/bench_tables.py` on tables of 82,000 to 1,000,000 rows, rounded up.
"""

from typing import Any

from tomohet.analysis.latent import LANDMARKS
from tomohet.rounds.sizes import Sizes
from tomohet.rounds.work import ON_DEVICE, decoded, kept_volumes, memory_bytes, stored_bytes

PROGRAM = 0.8e9  # Python, its libraries and their compiled code
CHUNKS = 0.4e9  # images and maps that are worked on at once
STAR_ROW = 800  # of a particle file, for each image: text of 350 characters and its values, or two tables
EXPORT_ROW = 2000  # of a particle file written again, for each image: its lines, with other names of stacks
STORE_ROW = 500  # of the store's table of images, and of the numbers that a stage computes of each image
INDEX_ROW = 40  # of an image of another round: its particle, whether it is read, its checksum
LANDMARK_ROW = 6000  # of a particle to which UMAP is fitted: its graph of neighbours
LATENT_ROW = 200  # of a particle: scores, clusters, places in figures
TABLE_ROW = 1100  # of a particle: its columns in the particle table, and what is drawn or written from them
MOST_IMAGES = 64e9  # room for images that a training asks for; what does not fit is read while it trains
SHARE_OF_MEMORY = 0.5  # of the free memory that held images may take (`training.reading`)
PARTNERS = 30 * 24  # bytes of a voxel's 30 partners in SIREn, and of the graph they make
WORD = 64

READS_PARTICLE_FILE = {"simulate", "validate", "prepare"}
WRITES_PARTICLE_FILE = {"export_subset", "export_volume_series"}
READS_STORE = {"analyze", "propose", "assess"}
READS_OWN_IMAGES = {  # of the store: those of the round's particles
    "homogeneous", "reconstruct_subset", "support", "train_linear", "states", "train_vae",
    "compare_clusters", "compare_classes",
}  # fmt: skip
COMPARES_MAPS = {
    "train_linear", "states", "support", "compare_clusters", "compare_classes", "propose", "assess",
}  # fmt: skip
READS_LATENTS = {"convergence", "analyze", "volumes"}
READS_TABLE = {
    "select", "states", "siren", "maven", "compare_clusters", "compare_classes", "particle_table", "mapback",
    "propose", "assess", "report", "export_volume_series", "prepare",
}  # fmt: skip


def host_bytes(stage: str, sizes: Sizes, dataset: Sizes, options: dict[str, Any], on_gpu: bool) -> float:
    """Bytes of the machine's memory that a stage takes at its peak.

    sizes, dataset : of the round (or of the dataset, for its own stages), and of the whole dataset, whose
        tables some stages read too
    options : of the sections `train`, `volumes`, ... by their names
    on_gpu : whether maps and network are in a GPU's memory
    """
    found = PROGRAM + CHUNKS
    if stage in READS_PARTICLE_FILE:
        found += STAR_ROW * dataset.images
    if stage in WRITES_PARTICLE_FILE:
        found += EXPORT_ROW * dataset.images
    if stage in READS_STORE:
        found += STORE_ROW * dataset.images
    if stage in READS_OWN_IMAGES:
        found += STORE_ROW * sizes.images + INDEX_ROW * (dataset.images - sizes.images)
    if stage in READS_LATENTS:
        found += (LATENT_ROW + 16 * (options["train"]["zdim"] or 10)) * sizes.particles
        found += LANDMARK_ROW * min(sizes.particles, LANDMARKS)
    if stage in READS_TABLE:
        found += TABLE_ROW * dataset.particles
    found += _images(stage, sizes, options) + _maps(stage, sizes, options)
    if stage in ON_DEVICE and not on_gpu:
        without_images = Sizes(sizes.particles, 0, sizes.input_box, sizes.box)
        found += memory_bytes(stage, without_images, options)
    return found


def _images(stage: str, sizes: Sizes, options: dict) -> float:
    """Return room for a training's images, which are held if they take at most half of the free memory."""
    if stage != "train_vae" or options["train"]["lazy"]:
        return 0
    return min(stored_bytes(sizes, options) / SHARE_OF_MEMORY, MOST_IMAGES)


def _maps(stage: str, sizes: Sizes, options: dict) -> float:
    """Return the bytes of maps held together; volumes are read slab by slab, SIREn keeps bits of voxels."""
    a_map = 4 * sizes.box**3
    voxels = decoded(sizes, options).box ** 3
    volumes = kept_volumes(sizes, options)
    if stage in ("homogeneous", "reconstruct_subset"):
        return 2 * 2 * 8 * a_map
    if stage in COMPARES_MAPS:
        return 64 * a_map
    if stage == "volumes":
        return 16 * 4 * voxels
    if stage in ("analyze_volumes", "maven"):
        return 40 * 4 * voxels + 3 * 2**28
    if stage == "siren":
        return voxels * (8 * -(-volumes // WORD) + PARTNERS)
    return 0
