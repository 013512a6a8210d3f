"""Find discrete states: assign particles to maps, and say whether states or a continuum predict better."""

from tomohet.device import device_of
from tomohet.errors import InputError
from tomohet.files.leftovers import replacing
from tomohet.linear.saved_model import SavedModel
from tomohet.linear.state_output import write_states
from tomohet.linear.states import States, fit_states
from tomohet.options import StatesOptions
from tomohet.particles.same_input import warn_of_other_input
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
    device, linear = device_of(options.device), SavedModel.read(options.linear, store.box)
    warn_of_other_input(linear.settings.particles.origin, store.description, options.linear, store.folder)
    states = fit_states(
        store,
        particles,
        linear.maps,
        linear.poses(store, particles),
        linear.held_out(store, particles, device) if options.states is None else None,
        options.states,
        most=options.most,
        seed=options.seed,
        device=device,
    )
    with replacing(options.outdir, "states"):
        write_states(options.outdir, store, particles, states, options.plot_format)
    return states
