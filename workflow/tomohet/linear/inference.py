"""Posteriors of any particles under a linear model that has been fitted."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tomohet.errors import InputError
from tomohet.linear.em import expectation
from tomohet.model.load import load_config, read_weights
from tomohet.particles.store import Store
from tomohet.reconstruction.mean_map import MeanMap
from tomohet.reconstruction.noise import Noise
from tomohet.reconstruction.observations import Observations


def read_linear(folder: Path, box: int) -> tuple[dict, dict[str, Tensor]]:
    """Configuration and tensors (mean, basis, mask, noise, tomogram_noise, power) of an output folder of
    train_linear.

    Raises InputError when it is not one, or was fitted to another box.
    """
    config = load_config(folder / "config.pkl")
    if config["model_args"]["kind"] != "linear":
        raise InputError(f"{folder}: a model of kind {config['model_args']['kind']}, expected train_linear's")
    if config["lattice_args"]["boxsize"] - 1 != box:
        raise InputError(f"{folder}: fitted to a box of {config['lattice_args']['boxsize'] - 1}, not {box}")
    weights = read_weights(folder / "weights.pkl")
    return config, weights["model_state_dict"] | weights["posterior"]


def linear_posterior(
    folder: Path, store: Store, particles: np.ndarray, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Posterior mean and log variance (P, K) of particles (store ordinals), in closed form."""
    config, state = read_linear(folder, store.box)
    state = {name: tensor.to(device) for name, tensor in state.items()}
    observations = Observations(
        store, particles, max_frequency=config["training_args"]["max_frequency"], device=device
    )
    unit = config["scale"] / store.scale
    noise = noise_of(config.get("tomograms", []), state, observations.tomograms)
    mean = MeanMap(unit * state["mean"], state["mask"], noise, unit**2 * state["power"])
    latents, _ = expectation(observations, mean, unit * state["basis"], accumulate=False)
    return latents.mean, torch.diagonal(latents.covariance, dim1=1, dim2=2).log()


def noise_of(known: list[str], state: dict[str, Tensor], tomograms: list[str]) -> Noise:
    """The noise of images of these tomograms: as fitted where the model knows them, else the common one."""
    common = state["noise"]
    number = {name: index for index, name in enumerate(known)}
    rows = [state["tomogram_noise"][number[name]] if name in number else common for name in tomograms]
    return Noise(common, torch.stack(rows))
