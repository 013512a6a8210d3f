"""The size of a dataset and of its rounds: how many particles and images, and of how many pixels."""

from dataclasses import dataclass, replace
from math import pi
from pathlib import Path

from tomohet.errors import InputError
from tomohet.files.mrc import stack_header
from tomohet.particles.dialects import read_particles
from tomohet.particles.store_files import read_description
from tomohet.rounds import layout
from tomohet.rounds.counting import counted
from tomohet.rounds.particle_lists import n_listed
from tomohet.rounds.tree import parents_first

OPEN = ("select", "labels", "exclude", "min_confidence", "tomograms")  # how many they keep is not known yet
USUAL_GRID = 32, 12.0  # of a simulation that asks for none: px, Å


@dataclass(frozen=True)
class Sizes:
    """Particles and tilt images of a dataset or of a round; sides of the images, px, as read and as prepared.

    most : the round selects particles that are not known yet, so that these are the most that it can have
    """

    particles: int
    images: int
    input_box: int
    box: int
    most: bool = False

    @property
    def tilts(self) -> float:
        """Images per particle."""
        return self.images / max(self.particles, 1)

    @property
    def points(self) -> float:
        """Fourier points of a prepared image, half of those within the Nyquist circle."""
        return pi / 8 * self.box**2

    @property
    def ball(self) -> float:
        """Fourier points of a map, half of those within the Nyquist sphere."""
        return pi / 12 * self.box**3

    def of(self, particles: int) -> "Sizes":
        """Return the sizes of a part of the particles."""
        return replace(self, particles=particles, images=round(particles * self.tilts))


def dataset_sizes(config: dict, folder: Path, read_all: bool = True) -> Sizes:
    """Find the sizes of the dataset of a checked `config`: of its prepared store, or of what it will read.

    folder : of the dataset's results
    read_all : whether to read and check the particle file wholly, or to count it from its beginning
        (`counting`)

    Raises InputError for a particle file that cannot be read.
    """
    store = read_description(folder / layout.PREPARED.folder)
    if store is not None:
        counts, box = store["counts"], store["box"]
        return Sizes(counts["particles"], counts["images"], box, box)
    if config["particles"] is None:
        simulated = config["simulate"]
        tilts = 2 * int(simulated["tilt_max"] / simulated["tilt_step"]) + 1
        n, images = simulated["n_particles"], simulated["n_particles"] * tilts
        input_box, pixel_size_A = _simulated_grid(simulated)
    elif not read_all:
        about = counted(config["particles"], config["datadir"])
        n, images, input_box, pixel_size_A = about.particles, about.images, about.box, about.pixel_size_A
    else:
        software = config["prepare"]["source_software"]
        found = read_particles(config["particles"], config["datadir"], software, expanded=None)
        n, images = len(found.particles), len(found.images)
        input_box, pixel_size_A = found.box, found.pixel_size_A
    if (tilts := config["prepare"]["use_first_ntilts"]) > 0:
        images = min(images, n * tilts)
    sizes = Sizes(n, images, input_box, _prepared_box(config["prepare"], input_box, pixel_size_A))
    first = config["prepare"]["use_first_nptcls"]
    return sizes.of(min(n, first)) if first > 0 else sizes


def _simulated_grid(simulated: dict) -> tuple[int, float]:
    """Return box (px) and pixel size (Å) of simulated images: as asked for, of given maps, or the usual."""
    box, pixel_size_A = USUAL_GRID
    if simulated["maps"]:
        (_, _, box), pixel_size_A = stack_header(simulated["maps"][0])
    return simulated["box"] or box, simulated["pixel_size"] or pixel_size_A


def _prepared_box(prepare: dict, input_box: int, pixel_size_A: float) -> int:
    if prepare["rescale"] is None:
        return input_box
    return prepare["box"] or 2 * round(input_box * pixel_size_A / prepare["rescale"] / 2)


def round_sizes(config: dict, folder: Path, dataset: Sizes) -> dict[str, Sizes]:
    """Find the sizes of every round; one that has not selected yet counts all particles of its parent."""
    sizes: dict[str, Sizes] = {}
    for name in parents_first(config["rounds"]):
        given = config["rounds"][name]
        parent = sizes[given["parent"]] if given.get("parent") else dataset
        selected = layout.SUBSET.path(folder / name, layout.SUBSET.last)
        if selected.is_file():
            sizes[name] = replace(parent.of(_listed(selected)), most=False)
        else:
            sizes[name] = _at_most(parent, given)
    return sizes


def sizes_read(stage: str, name: str, config: dict, rounds: dict[str, Sizes]) -> Sizes:
    """Return the sizes of what a stage of a round reads: `support` reads the parent's images as well."""
    parent = config["rounds"][name].get("parent")
    return rounds[parent] if stage == "support" and parent is not None else rounds[name]


def _at_most(parent: Sizes, given: dict) -> Sizes:
    """Return the sizes of a round that has not selected yet, as far as its keys tell them."""
    least = [parent.particles]
    if given.get("indices"):
        least.append(_listed(Path(given["indices"])))
    if given.get("sample"):
        least.append(given["sample"])
    unknown = any(given.get(key) is not None for key in OPEN) and not given.get("sample")
    return replace(parent.of(min(least)), most=unknown or (parent.most and len(least) == 1))


def _listed(path: Path) -> int:
    try:
        return n_listed(path)
    except InputError as error:
        raise InputError(f"{error}; the number of particles of a round is read from there") from error
