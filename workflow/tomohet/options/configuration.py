"""The configuration: which options of which command are keys of which section, and what differs there.

A section holds options of one command. `WORKFLOW_DEFAULTS` lists every default that differs from the
command's: commands keep tomoDRGN's defaults, so that its command lines run unchanged, and the workflow takes
the values that give the better result or the faster run.
"""

from typing import Annotated, Literal, NamedTuple

from tomohet.options import OPTIONS
from tomohet.options.base import Options, option
from tomohet.options.kinds import FileUnless
from tomohet.options.selection import Selection
from tomohet.options.simulation import Simulation

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"

WORKFLOW_DEFAULTS: dict[str, dict[str, object]] = {
    "simulate": {"dialect": "warp"},
    "homogeneous": {"recon_dose_weight": True, "recon_tilt_weight": True},
    "train": {
        "epochs": 50,
        "batch_size": 8,
        "l_dose_mask": True,
        "rows_per_image": 0.25,
        "dec_dim": 512,
        "num_workers": 2,
        "pin_memory": True,
    },
    "analyze_volumes": {"ksample": 10, "mask": "soft"},
    "mapback": {"color_by": "kmeans"},
}


class Dataset(Options):
    """The keys of a dataset."""

    dataset: str = option(
        ..., "Name of the dataset; everything is written to results/<dataset>.", pattern=NAME
    )
    particles: str | None = option(
        None, "STAR file of the particles (image series or optimisation set); null simulates a dataset."
    )
    datadir: str | None = option(
        None, "Folder in which the image stacks are found; null is the STAR file's own folder."
    )
    volume_series: str | None = option(
        None,
        "STAR file of the same particles with 3-D positions (volume series or optimisation set), for "
        "exported subsets and ChimeraX scenes.",
    )
    model: tuple[str, ...] | None = option(
        None,
        "PDB or mmCIF files fitted into the map (maven.align checks and mends it), whose chains MAVEn "
        "measures; null is none, or for a simulated dataset its own model.",
        min_length=1,
    )
    gpus: int = option(
        0,
        "GPUs of one machine asked for by every linear model, training and decoding of volumes (a local "
        "counter and a Slurm request). With 2 or more, they use all that they see, each with its part of the "
        "work. states, support, siren, maven, compare_clusters and compare_classes ask for one. With 0, "
        "every stage still uses a GPU that it sees.",
        ge=0,
    )
    gpus_per_node: int | None = option(
        None,
        "GPUs of a machine, where gpus is a multiple of it: the linear model is then fitted, and the network "
        "trained, on several machines of a Slurm cluster at once, and the other stages use the GPUs of one. "
        "null: all gpus are of one machine.",
        ge=1,
    )
    most_mem_mb: int | None = option(
        None,
        "Most memory that a job asks for, such as that of the cluster's largest node; null asks for what the "
        "data need.",
        unit="MB",
        ge=1000,
    )
    most_runtime: int = option(
        1440,
        "Longest time that a job asks for, such as the longest that the cluster allows.",
        unit="min",
        ge=1,
    )
    latents: Literal["train_vae", "linear"] = option(
        "train_vae",
        "Which model's latents and volumes the analysis uses, the network's or the linear model's; with "
        "linear no network is trained.",
    )


class Round(Selection):
    """The keys of a round, beside the sections that it changes."""

    parent: str | None = option(
        None, "The round whose particles are selected from; null is the whole dataset."
    )
    select: str | None = option(
        None,
        'Query on the parent\'s particle table, such as "maven_A > 0.5 and kmeans in [0, 2]" or '
        'in_polygon("pc1", "pc2", [[0, 0], [1, 0], [0, 1]]); null keeps all.',
    )


class ExportKeys(Options):
    """Keys of `export` that the workflow itself reads."""

    refined_poses: bool = option(
        False,
        "Write the poses that the round's own linear model has refined into its exported STAR files. Where "
        "it found no errors, or with linear.refine_poses false, the files keep the poses that the input "
        "states.",
    )


class TrainKeys(Options):
    """Keys of `train` that the workflow itself reads."""

    init: Literal["linear", "parent"] | None = option(
        "linear",
        "What teaches the network: with linear its latents start at the round's linear model, its decoder "
        "adds to that model's maps, and damage and the loss of signal with the tilt are part of the forward "
        "model; with parent the same holds for the parent's linear model, and the network starts from the "
        "parent's weights; null starts from nothing, as published.",
    )


class LinearKeys(Options):
    """Keys of `linear` that the workflow itself reads."""

    init: Literal["parent"] | None = option(
        None,
        "Where expectation-maximisation starts: with parent at the latents of the parent's linear model, as "
        "its training tilts give them; null at the images themselves.",
    )


class JobsKeys(Options):
    """Keys of `siren` that the workflow itself reads, and of other stages that several jobs may divide."""

    jobs: int = option(
        1,
        "Jobs that divide the longest step of the stage, each on GPUs of its own where GPUs are asked for; a "
        "last job gathers their results. One that is lost is repeated alone.",
        ge=1,
        le=1000,
    )


class VolumesKeys(JobsKeys):
    """Keys of `volumes` that the workflow itself reads."""

    count: int = option(
        500,
        "Volumes decoded: one per particle if there are no more particles than this, else one per k-means "
        "centroid.",
        ge=1,
    )


class MavenKeys(JobsKeys):
    """Keys of `maven` that the workflow itself reads."""

    masks: Annotated[str, FileUnless("siren")] | None = option(
        None,
        "Masks measured instead of a model: siren, for the blocks found without a model, or a folder of .mrc "
        "files.",
    )


class Stage(NamedTuple):
    """A section of the configuration.

    meaning: a sentence. model: the options of its command. keys: the names of those that are keys; `a=b` is
    the option b under the name a. own: keys that the workflow itself reads. of_rounds: rounds may change it.
    """

    meaning: str
    model: type[Options]
    keys: str
    own: type[Options] | None = None
    of_rounds: bool = True


STAGES = {
    "simulate": Stage(
        "The simulated dataset (only when particles is null).",
        Simulation,
        " ".join(Simulation.model_fields),
        of_rounds=False,
    ),
    "validate": Stage(
        "The check of the input before anything is computed.",
        OPTIONS["validate"],
        "no_images max_images",
        of_rounds=False,
    ),
    "prepare": Stage(
        "Which images are read and how they are prepared.",
        OPTIONS["prepare"],
        "source_software symmetry_expanded ind_ptcls ind_imgs sort_ptcl_imgs use_first_ntilts "
        "use_first_nptcls uninvert_data no_window window_r dtype norm window_r_outer rescale box poses_from",
        of_rounds=False,
    ),
    "homogeneous": Stage(
        "Half-map reconstruction of all particles and of every subset.",
        OPTIONS["backproject_voxel"],
        "recon_dose_weight recon_tilt_weight half_by wiener mask lowpass seed plot_format flip",
        of_rounds=False,
    ),
    "linear": Stage(
        "The linear latent model of every round.",
        OPTIONS["train_linear"],
        "zdim iterations max_frequency focus_mask structure_may_follow refine_poses seed",
        LinearKeys,
    ),
    "export": Stage(
        "The STAR files of every round's particles (subset/).",
        OPTIONS["filter_star"],
        "",
        ExportKeys,
        of_rounds=False,
    ),
    "states": Stage(
        "Discrete states of every round, found from its linear model.",
        OPTIONS["states"],
        "n=states most seed",
    ),
    "train": Stage(
        "The network of every round.",
        OPTIONS["train_vae"],
        "zdim encoder epochs=num_epochs until batch_size lr lr_schedule lr_warmup wd beta beta_control "
        "recon_dose_weight recon_tilt_weight l_dose_mask noise_model max_frequency march rows_per_image "
        "fraction_train enc_layers_A enc_dim_A out_dim_A enc_layers_B enc_dim_B enc_mask pooling_function "
        "num_seeds num_heads layer_norm dec_layers dec_dim pe_type pe_dim feat_sigma activation checkpoint "
        "checkpoint_minutes lazy num_workers pin_memory seed",
        TrainKeys,
    ),
    "convergence": Stage(
        "The choice of the epoch to analyse.",
        OPTIONS["convergence_vae"],
        "skip_umap subset plot_format epoch_interval",
    ),
    "analyze": Stage(
        "The latents of every round.", OPTIONS["analyze"], "pc ksample skip_vol skip_umap plot_format"
    ),
    "volumes": Stage(
        "The volumes that stand for the particles of a round.",
        OPTIONS["eval_vol"],
        "downsample lowpass flip invert",
        VolumesKeys,
    ),
    "analyze_volumes": Stage(
        "The volumes as points in voxel space.",
        OPTIONS["analyze_volumes"],
        "num_pcs ksample mask plot_format",
    ),
    "siren": Stage(
        "Structural blocks found without a model.",
        OPTIONS["siren"],
        "rule level mass_kda cnn_weights weights blocks engine plot_format seed",
        JobsKeys,
    ),
    "maven": Stage(
        "Occupancy of every chain of the model.",
        OPTIONS["maven"],
        "units no_hydrogens no_waters density_mode model_origin align mask_threshold mask_extend "
        "mask_soft_edge scale no_background classes unit_groups plot_format resolution",
        MavenKeys,
    ),
    "auto": Stage(
        "Rounds that are proposed for every round that has this section itself.",
        OPTIONS["propose"],
        "depth min_particles seed",
    ),
    "mapback": Stage(
        "The scenes of every round's particles in their tomograms.",
        OPTIONS["subtomo2chimerax"],
        "color_by colormap marker_radius_angstrom",
    ),
}

_NAMES = {model: name for name, model in OPTIONS.items()}
# Section of the configuration -> the command whose options it holds (`simulate` reads its section as a file).
COMMANDS = {name: _NAMES[stage.model] for name, stage in STAGES.items() if stage.model in _NAMES}
