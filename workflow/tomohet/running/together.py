"""Work of a command on its particles, in one process or in one of several."""

import logging
from collections.abc import Callable
from contextlib import nullcontext

from tomohet.device import device_of
from tomohet.files.locks import writing
from tomohet.options import TrainLinearOptions, TrainNnOptions, TrainVaeOptions
from tomohet.particles.source import open_particles
from tomohet.processes import joined, start_one_per_gpu
from tomohet.running.logs import log_to

TogetherOptions = TrainLinearOptions | TrainNnOptions | TrainVaeOptions


def run_together(work: Callable, options: TogetherOptions) -> None:
    """Open the particles and call `work(options, store, particles, device, processes)`.

    With --multigpu and several visible GPUs the command runs once per GPU. torchrun can also start it, on
    several nodes.
    """
    device = device_of(options.device)
    if options.multigpu:
        start_one_per_gpu(device)
    with joined(device) as processes, writing(options.outdir) if processes.leads else nullcontext():
        if processes.leads:
            log_to(options.outdir / "run.log")
            logging.getLogger(__name__).info("%d processes on %s", processes.size, device.type)
            store, particles = open_particles(options.particles, options, options.outdir)
        else:
            logging.getLogger("tomohet").setLevel(logging.WARNING)
        processes.wait()  # until the leader has prepared the images
        if not processes.leads:
            store, particles = open_particles(options.particles, options, options.outdir)
        work(options, store, particles, device, processes)
