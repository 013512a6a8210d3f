"""Find discrete states: assign particles to maps, and say whether states or a continuum predict better."""

from tomohet.device import device_of
from tomohet.errors import InputError
from tomohet.files.leftovers import replacing
from tomohet.linear.state_output import write_states
from tomohet.linear.states import States, fit_states
from tomohet.options import StatesOptions
from tomohet.particles.source import open_particles
from tomohet.running.logs import log_to
from tomohet.running.work import command


@command
def run(options: StatesOptions) -> States:
    """Read the input, fit, write the states; return them."""
    options.outdir.mkdir(parents=True, exist_ok=True)
    log_to(options.outdir / "run.log")
    store, particles = open_particles(options.particles, options, options.outdir)
    if options.states is not None and options.states > len(particles):
        raise InputError(f"--states {options.states}: more than the {len(particles)} particles")
    if len(particles) < 2:
        raise InputError(f"{options.particles}: {len(particles)} particles; states need at least 2")
    states = fit_states(
        store,
        particles,
        options.linear,
        options.states,
        most=options.most,
        seed=options.seed,
        device=device_of(options.device),
    )
    with replacing(options.outdir, "states"):
        write_states(options.outdir, store, particles, states, options.plot_format)
    return states
