"""Surroundings of the particles in the images: neighbours and background."""

import pandas as pd
import torch
from torch import Tensor

from tomohet.simulation.background import background_images
from tomohet.simulation.experiment import Experiment
from tomohet.simulation.neighbours import neighbour_images
from tomohet.simulation.projection import CANVAS, Camera
from tomohet.simulation.tilt_series import Tomogram


class Surroundings:
    """Imaging of the surroundings of the particles of an experiment."""

    def __init__(self, experiment: Experiment, device: torch.device | str) -> None:
        self.experiment = experiment
        self.camera = Camera(experiment.specimen, experiment.config.amplitude_loss, device, CANVAS)

    def images(self, images: pd.DataFrame, tomogram: Tomogram) -> tuple[Tensor, Tensor]:
        """Return clean images (m, D, D) of neighbours and background together, and of the background alone.

        images : rows, as imaged, of whole particles of the tomogram
        """
        background = self.background(images, tomogram)
        return background + neighbour_images(
            self.experiment.neighbours, images, tomogram, self.camera
        ), background

    def background(self, images: pd.DataFrame, tomogram: Tomogram) -> Tensor:
        """Return clean images (m, D, D) of the background alone, 0 where there is none."""
        if not self.experiment.background_gain:
            box = self.experiment.specimen.box
            return torch.zeros(len(images), box, box, device=self.camera.device)
        seed = self.experiment.config.seed
        return self.experiment.background_gain * background_images(seed, images, tomogram, self.camera)
