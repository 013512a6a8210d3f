"""How the training commands start: alone, or as one of several processes."""

import argparse
import logging
from collections.abc import Callable
from contextlib import nullcontext

from tomohet.cli.logs import log_to
from tomohet.files.locks import writing


def run_training(train: Callable, args: argparse.Namespace) -> None:
    """Check the options of a training, then `run_together`."""
    from tomohet.training.settings import check_options

    check_options(args)
    run_together(train, args)


def run_together(work: Callable, args: argparse.Namespace) -> None:
    """Open the particles and `work(args, store, particles, device, processes)`.

    With --multigpu and several visible GPUs the command runs once per GPU; torchrun may start it as well, on
    several nodes.
    """
    from tomohet.device import device_of
    from tomohet.particles.source import open_particles
    from tomohet.processes import joined, start_one_per_gpu

    device = device_of(args.device)
    if args.multigpu:
        start_one_per_gpu(device)
    with joined(device) as processes, writing(args.outdir) if processes.leads else nullcontext():
        if processes.leads:
            log_to(args.outdir / "run.log")
            logging.getLogger(__name__).info("%d processes on %s", processes.size, device.type)
            store, particles = open_particles(args.particles, args)
        else:
            logging.getLogger("tomohet").setLevel(logging.WARNING)
        processes.wait()  # until the leader has prepared the images
        if not processes.leads:
            store, particles = open_particles(args.particles, args)
        work(args, store, particles, device, processes)
