"""Groups of options that several commands share; names, defaults and meaning as in tomoDRGN 1.0."""

from pathlib import Path
from typing import Literal

from tomohet.options.base import Options, option
from tomohet.options.kinds import Dialect, Part


class ParticleOptions(Options):
    """Which particles and tilt images to read, where their stacks are, and how images are prepared."""

    section = "particles"
    source_software: Dialect = option(
        "auto",
        "Dialect of the STAR file; auto recognises it.",
    )
    datadir: Path | None = option(
        None, "Folder in which the image stacks are found (the STAR file's folder)."
    )
    symmetry_expanded: bool = option(
        False,
        "Whether the file is symmetry-expanded, so that each particle occurs several times, in poses that"
        " its point group relates. Each copy then counts as a particle, and copies stay together in half "
        "sets and tests. By default such a file is recognised and asked about.",
    )
    ind_ptcls: Path | None = option(
        None, "A .pkl of the indices of the particles to keep, from 0 (default: all).", metavar="PKL"
    )
    ind_imgs: Path | None = option(
        None, "A .pkl of the indices of the tilt images to keep, from 0 (default: all).", metavar="PKL"
    )
    sort_ptcl_imgs: Literal["unsorted", "dose_ascending", "random"] = option(
        "unsorted",
        "Order of a particle's images before --use-first-ntilts; unsorted is the order of the file.",
    )
    use_first_ntilts: int = option(
        -1,
        "Keep the first N images of each particle, and drop particles with fewer; -1 keeps all.",
        metavar="N",
        ge=-1,
    )
    use_first_nptcls: int = option(-1, "Keep the first N particles; -1 keeps all.", metavar="N", ge=-1)
    uninvert_data: bool = option(
        False,
        "Keep the contrast as it is; by default it is inverted unless the images are CTF-premultiplied.",
    )
    no_window: bool = option(False, "No circular real-space window.")
    window_r: float = option(
        0.8,
        "Inner radius of the circular window, a fraction of half the box.",
        metavar="F",
        unit="half boxes",
        gt=0,
    )
    window_r_outer: float = option(
        0.9,
        "Outer radius of the circular window, a fraction of half the box.",
        metavar="F",
        unit="half boxes",
        gt=0,
    )
    norm: tuple[float, float] | None = option(
        None,
        "Normalise images as (x - SHIFT) / SCALE and leave their background in them, as networks of tomoDRGN "
        "know them (default: take off the background and divide by each image's own noise).",
        metavar="SHIFT SCALE",
    )
    lazy: bool = option(
        False,
        "Read images from disk during the training even if they fit in memory; what does not fit is read "
        "so in any case.",
    )


class PosesOptions(Options):
    """The refined poses that `particles.source.open_particles` applies."""

    section = "particles"
    poses: Path | None = option(
        None,
        "poses.parquet of train_linear on the same particles: use the poses that it has refined, unless "
        "it ran with --no-refine-poses (default: poses as the input states them).",
        metavar="FILE",
    )


class VolumeOptions(Options):
    """What is done to every volume that is written."""

    section = "volumes"
    flip: bool = option(False, "Reverse the z axis (handedness).")
    invert: bool = option(False, "Change the sign of the volumes.")
    downsample: int | None = option(
        None, "Box size after Fourier cropping (default: that of the images).", metavar="BOX", unit="px", ge=2
    )
    lowpass: float | None = option(
        None, "Resolution of a low-pass filter (default: none).", metavar="A", unit="Å", gt=0
    )

    @property
    def volume_form(self) -> tuple[int | None, float | None, bool, bool]:
        """Box (px), low-pass (Å), flip and invert."""
        return self.downsample, self.lowpass, self.flip, self.invert


class ParticleMapsOptions(VolumeOptions):
    """The model whose maps of every particle are measured, and the form that its volumes were written in."""

    section = "every particle, with the volumes' own model and the options that its volumes were written with"
    workdir: Path | None = option(None, "Output folder of train_vae or train_linear.", metavar="DIR")
    epoch: str = option("latest", "Epoch, latest, -1 (final files) or the path of a convergence.json.")


class PlotOptions(Options):
    """File type of the figures."""

    plot_format: Literal["png", "svgz"] = option("png", "File type of figures.")


class SeedOptions(Options):
    """The seed from which all random numbers of the command derive."""

    seed: int = option(0, "Seed of all random numbers.")


class DeviceOptions(Options):
    """Where tensors are computed; `tomohet.device.device_of` resolves the value."""

    device: Literal["auto", "cpu", "cuda"] = option(
        "auto", "Where tensors are computed; auto takes CUDA if there is a GPU, else the CPU."
    )


class PartsOptions(Options):
    """Several jobs that divide the longest step of a command: `files.shares` says which does what."""

    section = "several jobs for the longest step"
    part: Part = option(
        (1, 1),
        "Do the I-th of N shares of the step alone (1/N to N/N), and write it to the output folder.",
        metavar="I/N",
    )
    parts: tuple[Path, ...] | None = option(
        None,
        "Output folders of all shares, written with --part and else the same options; a share that is "
        "missing is computed.",
        metavar="DIR",
    )


class SharingOptions(Options):
    """Several processes for one job: `processes.share_of` says which is whose."""

    part: Part = option(
        (1, 1),
        "Do only the I-th of N shares (1/N to N/N) of the work; the output is there when all parts are done.",
        metavar="I/N",
    )
    multigpu: bool = option(False, "Share the work among all visible GPUs (no effect with one, or on a CPU).")
