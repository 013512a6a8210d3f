"""Which way of computing a product is used for which shape, in this process and in the run that it continues.

Ways are chosen by their time, which is not the same twice, and round differently. A checkpoint therefore
records the choice. A run that continues on the same kind of card with the same PyTorch takes it again, and so
computes what the uninterrupted run computes. Elsewhere the ways are tried anew.
"""

import logging

import torch

Shape = tuple[str | int | bool, ...]

log = logging.getLogger(__name__)
_names: dict[Shape, str] = {}


def chosen(shape: Shape) -> str | None:
    """Return the name of the way that is used for a shape; None where none has been chosen."""
    return _names.get(shape)


def choose(shape: Shape, name: str) -> None:
    """Use the way of this name for a shape from now on."""
    _names[shape] = name


def record(device: torch.device) -> dict:
    """Return the choices of this process with the machine that they are for, as plain values."""
    return {"machine": _machine(device), "ways": dict(_names)}


def take(recorded: dict | None, device: torch.device) -> None:
    """Use the choices of a `record` again, if it is of the same kind of machine; None has none."""
    if recorded is None or not recorded["ways"]:
        return
    if recorded["machine"] != _machine(device):
        log.info(
            "the checkpoint is from %s, and this is %s: the fastest kernels are looked for anew, and numbers "
            "may differ in their last digits from those of the run that was stopped",
            recorded["machine"], _machine(device),
        )  # fmt: skip
        return
    _names.update(recorded["ways"])


def _machine(device: torch.device) -> str:
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"
    return f"{card} with PyTorch {torch.__version__}"
