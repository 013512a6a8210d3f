"""What a trained model records of itself: its network or basis, its data set and how it was trained.

Every stage works with these classes. `model.config_file` writes them into config.pkl, in the names of
tomoDRGN, and reads them back.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from tomohet.errors import InputError
from tomohet.files.pickles import as_array
from tomohet.particles.same_input import Origin


@dataclass(frozen=True)
class TrainedParticles:
    """The particles of a training.

    numbers : store ordinals, in the order of the latents; None where they were not recorded
    store : folder of the prepared store, if recorded
    """

    numbers: list[int] | None = None
    store: str | None = None
    origin: Origin = field(default_factory=Origin)

    @classmethod
    def of_store(cls, description: dict, folder: Path, particles: np.ndarray) -> "TrainedParticles":
        """Record particles (store ordinals) of a store: its store.yaml and its folder."""
        return cls([int(particle) for particle in particles], str(folder), Origin.of_store(description))

    def ordinals(self) -> np.ndarray:
        """Return the store ordinals (N,) int64.

        Raises InputError when they are not recorded, or are not whole numbers from 0.
        """
        try:
            found = as_array(self.numbers) if self.numbers else np.zeros(0, np.int64)
        except ValueError:
            found = np.zeros((0, 0))
        wrong = self.numbers is None or found.ndim != 1 or found.dtype.kind not in "iu"
        if wrong or (len(found) and found.min() < 0):
            raise InputError("config.pkl: particles is not a list of numbers from 0; pass --particles")
        return found.astype(np.int64)


@dataclass(frozen=True)
class DecoderShape:
    """Size and kind of a decoder; the meaning of the fields is that of `model.decoder.Decoder`.

    zdim : latent size; 0 for a homogeneous volume
    layers : hidden layers
    """

    zdim: int
    layers: int
    width: int
    activation: str
    encoding: str
    per_axis: int | None
    feat_sigma: float
    extent: float
    hermitian: bool
    n_basis: int = 0


@dataclass(frozen=True)
class EncoderShape:
    """Size and kind of an encoder; the meaning of the fields is that of `model.encoder.TiltEncoder`.

    source : what latents come from: tilts, backprojected maps, or no network (free)
    mask_px : diameter of the frequencies that the encoder sees; None and -1 for all up to Nyquist
    """

    layers_a: int
    width_a: int
    out_a: int
    longest: int
    layers_b: int
    width_b: int
    mask_px: int | None
    pooling: str
    seeds: int
    heads: int
    layer_norm: bool
    source: Literal["tilts", "backprojected", "free"] = "tilts"


@dataclass(frozen=True)
class Network:
    """A network's shape: of train_vae with an encoder, of train_nn without one."""

    decoder: DecoderShape
    encoder: EncoderShape | None = None


@dataclass(frozen=True)
class DataSet:
    """What a training of a network uses of its images.

    inverted : whether the contrast of any image was inverted in the store
    window : radii of the store's window, as in store.yaml
    dose_mask, max_frequency : as in `training.batches.LossRows`
    fraction_train : share of each particle's tilts that is trained on
    """

    inverted: bool = False
    window: list[float] | None = None
    dose_mask: bool = False
    max_frequency: float = 0.5
    fraction_train: float = 1.0


@dataclass(frozen=True)
class Start:
    """What a training of a network started from.

    linear : output folder of train_linear, or None
    linear_digest : of that model (`training.settings.teacher_digest`)
    poses : table of refined poses that replaced those of the particles' file, or None
    poses_digest : SHA-256 of that table
    warm : output folder of train_vae whose weights it started from, or None
    warm_digest : SHA-256 of these weights
    """

    linear: Path | None = None
    linear_digest: str | None = None
    poses: Path | None = None
    poses_digest: str | None = None
    warm: Path | None = None
    warm_digest: str | None = None


@dataclass(frozen=True)
class LinearFit:
    """What a linear model's posteriors of other particles depend on, besides its tensors.

    max_frequency : highest frequency of the fit, cycles/px
    pose_deviation : standard deviations of a rotation (rad) and of a shift (px) along one axis
    tilt_shift_A : standard deviation of the shifts of single tilt images along one axis
    tomograms : names of the tomograms, in the order of the noise spectra
    """

    max_frequency: float
    pose_deviation: list[float]
    tilt_shift_A: float
    tomograms: list[str]


@dataclass(frozen=True)
class ModelSettings:
    """What every trained model records.

    box : side of the images, px
    scale : real units per stored unit of the images
    seed : of the training, if recorded
    """

    box: int
    pixel_size_A: float
    scale: float
    seed: int | None
    particles: TrainedParticles


@dataclass(frozen=True)
class NetworkSettings(ModelSettings):
    """What train_vae and train_nn record.

    imported : whether the run is one of tomoDRGN (`model.imported`)
    """

    network: Network
    data_set: DataSet = DataSet()
    start: Start = Start()
    imported: bool = False


@dataclass(frozen=True)
class LinearSettings(ModelSettings):
    """What train_linear records.

    n_basis : number of basis maps
    fit : None in a folder of an earlier version
    """

    n_basis: int
    fit: LinearFit | None = None


TrainedSettings = NetworkSettings | LinearSettings
