"""Options of the networks; names and defaults as in tomoDRGN 1.0 unless the meaning says so."""

from pathlib import Path
from typing import Literal

from pydantic import model_validator

from tomohet.options.base import POSITIONAL, Options, option
from tomohet.options.kinds import BetaSchedule, Encoding, Pooling
from tomohet.options.shared import (
    DeviceOptions,
    ParticleOptions,
    PlotOptions,
    PosesOptions,
    SeedOptions,
    SharingOptions,
)


class CourseOptions(Options):
    """Length, optimiser, continuation and logging of a training."""

    section = "training"
    num_epochs: int = option(20, "Passes through all particles.", "-n", "--num-epochs", metavar="N", ge=1)
    batch_size: int = option(1, "Particles per step.", "-b", "--batch-size", metavar="N", ge=1)
    wd: float = option(0, "Weight decay (AdamW).", metavar="F", ge=0)
    lr: float = option(
        0.0001,
        "Base learning rate (AdamW); a step's is this times 2 sqrt(batch_size), the published rule.",
        metavar="F",
        gt=0,
    )
    sequential_tilt_sampling: bool = option(
        False,
        "Leave out the factor 2 of the learning rate; every tilt is used in its order in any case.",
    )
    lr_schedule: Literal["constant", "cosine"] = option(
        "constant",
        "Course of the learning rate: constant, or a cosine down to 0.",
    )
    lr_warmup: float = option(
        0,
        "Share of the training over which the learning rate rises from 0.",
        metavar="F",
        ge=0,
        lt=1,
    )
    load: str | None = option(
        None,
        "Continue from this weights.N.pkl, or from `latest`; without it a training whose settings and "
        "particles are those of the output folder is continued, any other starts afresh.",
        metavar="WEIGHTS",
    )
    checkpoint: int = option(
        1,
        "Epochs between the weights, latents and maps that are kept.",
        metavar="N",
        unit="epochs",
        ge=1,
    )
    checkpoint_minutes: float = option(
        5,
        "Minutes between the checkpoints from which a killed training continues.",
        metavar="MIN",
        unit="minutes",
        ge=0,
    )
    log_interval: int = option(200, "Particles between log lines.", metavar="N", ge=1)
    verbose: bool = option(False, "Log the losses of every step.", "-v", "--verbose")
    no_amp: bool = option(
        False,
        "Float32 throughout; the default is bfloat16 in the decoder's hidden layers where the device is "
        "faster with it (GPUs of 2020 and later, CPUs with AVX512-BF16 or AMX).",
    )
    multigpu: bool = option(
        False,
        "Train on all visible GPUs, each with its part of every batch; the result is that of one GPU up "
        "to the order of summation.",
    )

    @property
    def particles_between_lines(self) -> int:
        """Particles between log lines: every step has a line with `verbose`."""
        return 1 if self.verbose else self.log_interval


class LossOptions(Options):
    """Which Fourier points of the images are fitted, and with which weights."""

    section = "loss"
    recon_dose_weight: bool = option(
        False,
        "Weight the loss by the dose attenuation at each frequency; a network without "
        "--init needs it, since its forward model knows no damage.",
    )
    recon_tilt_weight: bool = option(
        False, "Weight the loss by the cosine of the tilt; a network without --init needs it too."
    )
    l_dose_mask: bool = option(False, "Leave out frequencies beyond the optimal dose.")
    noise_model: Literal["flat", "shells"] = option(
        "flat",
        "Weights of the residuals: equal, or by the inverse of the noise of each Fourier shell, estimated"
        " from the images.",
    )
    max_frequency: float = option(
        0.5,
        "Highest spatial frequency fitted; 0.5 is Nyquist.",
        metavar="F",
        unit="1/px",
        gt=0,
        le=0.5,
    )
    march: float = option(
        0,
        "Share of the training over which the highest frequency fitted grows from a quarter of "
        "--max-frequency to all of it, epoch by epoch; 0 fits all from the start.",
        metavar="F",
        ge=0,
        lt=1,
    )
    rows_per_image: float = option(
        1.0,
        "Share of each image's Fourier points drawn at random per step, without bias; 1 takes all. A "
        "quarter costs no accuracy that seeds would show, and less than a quarter of the time "
        "(tests/benchmarks/README.md).",
        metavar="F",
        gt=0,
        le=1,
    )


class DecoderOptions(Options):
    """The decoder."""

    section = "decoder"
    dec_layers: int = option(3, "Hidden layers of the decoder.", metavar="N", ge=1)
    dec_dim: int = option(256, "Width of the decoder's hidden layers.", metavar="N", ge=1)
    l_extent: float = option(
        0.5,
        "Half-width of the lattice of coordinates given to the decoder, scaled by F / 0.5.",
        metavar="F",
        gt=0,
        le=0.5,
    )
    pe_type: Encoding = option(
        "gaussian",
        "Positional encoding.",
    )
    pe_dim: int | None = option(
        None,
        "Frequencies of the positional encoding per axis (default: half the box).",
        metavar="N",
        ge=1,
    )
    feat_sigma: float = option(0.5, "Width of the random frequencies (gaussian encoding).", metavar="F", gt=0)
    activation: Literal["relu", "leaky_relu"] = option("relu", "Activation of the hidden layers.")


class ReadingOptions(Options):
    """How images are read that do not fit on the device; these options change the speed, never the result."""

    section = "reading of images that do not fit on the device, or of all images with --lazy"
    num_workers: int = option(
        0,
        "Threads that read images which do not fit on the GPU; 0 is one thread.",
        metavar="N",
        unit="threads",
        ge=0,
    )
    prefetch_factor: int | None = option(
        None, "Batches made ready before they are needed (default: 2).", metavar="N", ge=1
    )
    pin_memory: bool = option(
        False, "Copy images that do not fit on the GPU from page-locked memory while the GPU computes."
    )


class LoadingOptions(ReadingOptions):
    """The same for commands that go through the images more than once."""

    section = ReadingOptions.section
    persistent_workers: bool = option(
        False, "Keep the reading threads for all epochs instead of starting new ones in each."
    )


class EncoderOptions(Options):
    """The encoder and the latent's prior."""

    section = "encoder"
    encoder: Literal["tilts", "backprojected", "free"] | None = option(
        None,
        "What latents come from: a network that sees each tilt image but not its pose, as published "
        "(tilts); one that sees the particle's back-projection in a small box (backprojected); or no "
        "network, but the images' likelihood under the decoder (free). The last two need --init "
        "(default: free with --init, else tilts).",
    )
    enc_layers_A: int = option(3, "Hidden layers of the encoder of single tilts.", metavar="N", ge=1)
    enc_dim_A: int = option(256, "Width of the encoder of single tilts.", metavar="N", ge=1)
    out_dim_A: int = option(128, "Features per tilt.", metavar="N", ge=1)
    enc_layers_B: int = option(3, "Hidden layers of the encoder of particles.", metavar="N", ge=1)
    enc_dim_B: int = option(
        256, "Width of the encoder of particles, or of the set encoder.", metavar="N", ge=1
    )
    enc_mask: int | None = option(
        None,
        "Diameter of the frequencies that the encoder sees (default: all up to Nyquist).",
        metavar="PX",
        unit="px",
        ge=-1,
    )
    pooling_function: Pooling = option(
        "mean",
        "How features of tilts become those of a particle; mean forgets their order.",
    )
    num_seeds: int = option(1, "Seeds of the set encoder.", metavar="N", ge=1)
    num_heads: int = option(4, "Attention heads of the set encoder.", metavar="N", ge=1)
    layer_norm: bool = option(False, "Layer normalisation in the set encoder.")
    beta: float | BetaSchedule | None = option(
        None,
        "Weight of the KL divergence, or a schedule a to e (default: 1/zdim).",
        metavar="F|a-e",
    )
    beta_control: float | None = option(
        None,
        "Strength of the pull to a target KL divergence (default: off).",
        metavar="F",
    )


class NetworkOptions(
    ParticleOptions,
    PosesOptions,
    PlotOptions,
    SeedOptions,
    DeviceOptions,
    CourseOptions,
    LossOptions,
    DecoderOptions,
    LoadingOptions,
):
    """What every training of a network takes."""

    particles: Path = option(..., "STAR file of tilt images, or a prepared store's folder.", POSITIONAL)
    outdir: Path = option(..., "Output folder.", "-o", "--outdir")


class TrainNnOptions(NetworkOptions):
    """Train one neural volume for all particles: the consensus map of a decoder without latent."""

    dec_layers: int = option(3, "Hidden layers of the decoder.", "--layers", metavar="N", ge=1)
    dec_dim: int = option(512, "Width of the decoder's hidden layers.", "--dim", metavar="N", ge=1)


class TrainVaeOptions(NetworkOptions, EncoderOptions):
    """Train the heterogeneity network: latents of particles and the volumes they stand for."""

    zdim: int | None = option(
        None,
        "Size of the latent (default: the number of basis maps of the model that --init names; without "
        "--init it must be given, and 128 is usual).",
        metavar="N",
        ge=1,
    )
    until: Literal["epochs", "converged"] = option(
        "epochs",
        "When the training ends: after --num-epochs, or as soon as held-out tilt images say that it has "
        "converged or overfits; --num-epochs is then the most. Without --init the images left by "
        "--fraction-train decide. Schedules of the learning rate refer to --num-epochs.",
    )
    fraction_train: float = option(
        1.0,
        "Share of each particle's tilts that is trained on. Without --init the others judge the network.",
        metavar="F",
        gt=0,
        le=1,
    )
    init: Path | None = option(
        None,
        "Output folder of train_linear on the same particles: latents start from its posterior, and the "
        "decoder adds to its maps.",
        metavar="DIR",
    )
    warm_start: Path | None = option(
        None,
        "Output folder of train_vae on particles that include these: the network starts from its weights, "
        "and is judged by its held-out tilts. It needs --init with the linear model from which that network "
        "started, and the same architecture.",
        metavar="DIR",
    )
    show_summary_stats: bool | None = option(
        None,
        "Accepted for tomoDRGN's command lines: the summary is always written.",
        metavar="BOOL",
    )

    @model_validator(mode="after")
    def _agree(self) -> "TrainVaeOptions":
        if self.pooling_function == "set_encoder" and self.enc_dim_B % self.num_heads:
            raise ValueError(
                f"--num-heads {self.num_heads}: --enc-dim-B {self.enc_dim_B} is not divisible by it"
            )
        if self.init is not None and self.poses is not None:
            raise ValueError(
                "--init and --poses exclude each other: the linear model of --init brings its own refined "
                "poses; leave out --poses"
            )
        if self.warm_start is not None and self.init is None:
            raise ValueError(
                "--warm-start needs --init: give the linear model from which that network started"
            )
        if self.init is None:
            self._agree_without_a_linear_model()
        return self

    def _agree_with_an_end(self) -> None:
        if self.until == "converged" and self.fraction_train == 1:
            raise ValueError(
                "--until converged: held-out tilt images decide when a training has converged, and this one "
                "holds none out; add --fraction-train 0.9, or start from a linear model (--init DIR)"
            )

    def _agree_without_a_linear_model(self) -> None:
        self._agree_with_an_end()
        remedy = "with --init DIR (the output folder of `tomohet train_linear` on the same particles)"
        if self.encoder not in (None, "tilts"):
            raise ValueError(
                f"--encoder {self.encoder}: latents of this encoder start from a linear model; "
                f"give one {remedy}"
            )
        if self.zdim is None:
            raise ValueError(
                f"--zdim is missing: give the number of latents, such as 128, or a linear model {remedy}"
            )


class EvalImagesOptions(
    ParticleOptions, PosesOptions, ReadingOptions, SharingOptions, SeedOptions, DeviceOptions
):
    """Infer latents of particles with a trained network."""

    particles: Path = option(..., "STAR file of tilt images, or a prepared store's folder.", POSITIONAL)
    weights: Path = option(..., "Weights of train_vae.", "-w", "--weights")
    config: Path = option(..., "The training's config.pkl.", "-c", "--config")
    out_z: Path = option(..., "File of the latents.", metavar="PKL")
    batch_size: int = option(64, "Particles at once.", "-b", "--batch-size", metavar="N", ge=1)
    log_interval: int = option(1000, "Particles between log lines.", metavar="N", ge=1)
    verbose: bool = option(False, "Log every batch.", "-v", "--verbose")
    no_amp: bool = option(False, "Accepted for tomoDRGN's command lines: latents are float32.")
