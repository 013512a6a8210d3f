"""How the training commands start: alone, or as one of several processes."""

import argparse
import logging
import sys
from collections.abc import Callable
from contextlib import nullcontext

from tomohet.cli.logs import log_to


def run_training(train: Callable, args: argparse.Namespace) -> None:
    """Open the particles and `train(args, store, particles, device, processes)`.

    With --multigpu and several visible GPUs the command runs once per GPU; torchrun may start it as well, on
    several nodes.
    """
    import torch

    from tomohet.device import device_of
    from tomohet.particles.source import open_particles
    from tomohet.training.checkpoints import lock_folder
    from tomohet.training.processes import is_copy, joined, start_copies
    from tomohet.training.settings import check_options

    check_options(args)
    device = device_of(args.device)
    if args.multigpu and not is_copy() and device.type == "cuda" and torch.cuda.device_count() > 1:
        sys.exit(start_copies(torch.cuda.device_count()))
    with joined(device) as processes, lock_folder(args.outdir) if processes.leads else nullcontext():
        if processes.leads:
            log_to(args.outdir / "run.log")
            logging.getLogger(__name__).info("%d processes on %s", processes.size, device.type)
            store, particles = open_particles(args.particles, args)
        else:
            logging.getLogger("tomohet").setLevel(logging.WARNING)
        processes.wait()  # until the leader has prepared the images
        if not processes.leads:
            store, particles = open_particles(args.particles, args)
        train(args, store, particles, device, processes)
