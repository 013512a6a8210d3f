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
from tomohet.reconstruction.observations import Observations


def read_linear(folder: Path, box: int) -> tuple[dict, dict[str, Tensor]]:
    """Configuration and tensors (mean, basis, mask, noise, power) of an output folder of train_linear.

    Raises InputError when it is not one, or was fitted to another box.
    """
    config = load_config(folder / "config.pkl")
    if config["model_args"]["kind"] != "linear":
        raise InputError(f"{folder}: a model of kind {config['model_args']['kind']}, expected train_linear's")
    if config["lattice_args"]["boxsize"] - 1 != box:
        raise InputError(f"{folder}: fitted to a box of {config['lattice_args']['boxsize'] - 1}, not {box}")
    weights = read_weights(folder / "weights.pkl")
    return config, weights["model_state_dict"] | weights["posterior"]


def read_maps(folder: Path, store: Store, device: torch.device | str) -> tuple[MeanMap, Tensor, dict]:
    """Mean map and basis maps (K, D, D, D) in the units of a store's images, and the options of the fit.

    Raises InputError as `read_linear`.
    """
    config, state = read_linear(folder, store.box)
    state = {name: tensor.to(device) for name, tensor in state.items()}
    unit = config["scale"] / store.scale
    mean = MeanMap(unit * state["mean"], state["mask"], state["noise"], unit**2 * state["power"])
    return mean, unit * state["basis"], config["training_args"]


def linear_posterior(
    folder: Path, store: Store, particles: np.ndarray, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Posterior mean and log variance (P, K) of particles (store ordinals), in closed form."""
    mean, basis, fit = read_maps(folder, store, device)
    observations = Observations(store, particles, max_frequency=fit["max_frequency"], device=device)
    latents, _ = expectation(observations, mean, basis, accumulate=False)
    return latents.mean, torch.diagonal(latents.covariance, dim1=1, dim2=2).log()
