"""Every option of every command: type, range, default, flags, unit and meaning, each in one place.

The models need pydantic alone, so that `--help` starts at once and a notebook can look options up:
`from tomohet.options import SirenOptions`.
"""

from tomohet.options.base import Options
from tomohet.options.convergence import ConvergenceNnOptions, ConvergenceVaeOptions
from tomohet.options.latents import (
    AnalyzeOptions,
    AnalyzeVolumesOptions,
    ChooseVolumesOptions,
    EvalVolOptions,
    GraphTraversalOptions,
    PcTraversalOptions,
)
from tomohet.options.linear import BackprojectVoxelOptions, StatesOptions, SupportOptions, TrainLinearOptions
from tomohet.options.occupancy import MavenOptions, SirenOptions
from tomohet.options.particles import (
    DownsampleOptions,
    FilterStarOptions,
    ParticleTableOptions,
    PrepareOptions,
    SelectOptions,
    ValidateOptions,
)
from tomohet.options.results import (
    AssessOptions,
    CleanupOptions,
    DoctorOptions,
    EstimateOptions,
    HandoverOptions,
    ImportTomodrgnOptions,
    LineageOptions,
    MethodsOptions,
    ProposeOptions,
    ReportOptions,
    ServeOptions,
    StatusOptions,
    Subtomo2chimeraxOptions,
    ViewConfigOptions,
)
from tomohet.options.simulation import SimulateOptions
from tomohet.options.training import EvalImagesOptions, TrainNnOptions, TrainVaeOptions

OPTIONS: dict[str, type[Options]] = {
    "analyze": AnalyzeOptions,
    "analyze_volumes": AnalyzeVolumesOptions,
    "assess": AssessOptions,
    "backproject_voxel": BackprojectVoxelOptions,
    "choose_volumes": ChooseVolumesOptions,
    "cleanup": CleanupOptions,
    "convergence_nn": ConvergenceNnOptions,
    "convergence_vae": ConvergenceVaeOptions,
    "doctor": DoctorOptions,
    "downsample": DownsampleOptions,
    "estimate": EstimateOptions,
    "eval_images": EvalImagesOptions,
    "eval_vol": EvalVolOptions,
    "filter_star": FilterStarOptions,
    "graph_traversal": GraphTraversalOptions,
    "handover": HandoverOptions,
    "import_tomodrgn": ImportTomodrgnOptions,
    "lineage": LineageOptions,
    "maven": MavenOptions,
    "methods": MethodsOptions,
    "particle_table": ParticleTableOptions,
    "pc_traversal": PcTraversalOptions,
    "prepare": PrepareOptions,
    "propose": ProposeOptions,
    "report": ReportOptions,
    "select": SelectOptions,
    "serve": ServeOptions,
    "simulate": SimulateOptions,
    "siren": SirenOptions,
    "states": StatesOptions,
    "status": StatusOptions,
    "subtomo2chimerax": Subtomo2chimeraxOptions,
    "support": SupportOptions,
    "train_linear": TrainLinearOptions,
    "train_nn": TrainNnOptions,
    "train_vae": TrainVaeOptions,
    "validate": ValidateOptions,
    "view_config": ViewConfigOptions,
}
__all__ = [*(model.__name__ for model in OPTIONS.values()), "OPTIONS", "Options"]  # noqa: PLE0604  # pyright: ignore[reportUnsupportedDunderAll]
