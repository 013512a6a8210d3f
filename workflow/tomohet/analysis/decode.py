"""Volumes of a trained model at chosen latents, for figures and for comparison between epochs."""

from pathlib import Path

import numpy as np

from tomohet.analysis.run_folder import RunFolder
from tomohet.errors import InputError
from tomohet.files.digests import is_there
from tomohet.files.parts import content_digest
from tomohet.files.volume_list import file_name
from tomohet.options import AnalyzeOptions, ConvergenceVaeOptions

ModelVolumeOptions = AnalyzeOptions | ConvergenceVaeOptions


class VolumeMaker:
    """Decoder of latents of one epoch of a run, with the volume options of the command line.

    `options` has downsample (px), lowpass (Å), flip, invert and device, `options.shared.VolumeOptions`.
    """

    def __init__(self, run: RunFolder, epoch: int, options: ModelVolumeOptions) -> None:
        from tomohet.device import device_of
        from tomohet.model.load import load_model

        weights = run.weights_path(epoch)
        for needed in (weights, run.config_path):
            if not is_there(needed):
                raise InputError(f"{needed}: no such file, so no volumes can be decoded; pass --skip-vol")
        self.decoder = load_model(weights, run.config_path, device_of(options.device))
        self.model_digest = content_digest(weights, run.config_path)
        self.options = options

    def write(self, z: np.ndarray, folder: Path) -> list[Path]:
        """Decode z (m, zdim) to `folder`/vol_000.mrc...; return the paths in order."""
        from tomohet.model.volumes import write_volumes

        write_volumes(
            self.decoder,
            np.asarray(z, np.float32),
            folder,
            box=self.options.downsample,
            lowpass_A=self.options.lowpass,
            flip=self.options.flip,
            invert=self.options.invert,
            model_digest=self.model_digest,
        )
        return [folder / file_name("vol_", number) for number in range(len(z))]
