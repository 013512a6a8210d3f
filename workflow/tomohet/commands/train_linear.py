"""Fit a linear latent model: mean map, basis maps (eigenvolumes) and closed-form latents."""

from pathlib import Path

from tomohet.analysis import leaks
from tomohet.analysis.movement import movement_shares
from tomohet.errors import InputError
from tomohet.files.atomic import write_csv
from tomohet.files.masks import read_mask
from tomohet.linear.explained import CONDITIONS
from tomohet.linear.figures import write_figures
from tomohet.linear.fit import fit_linear_model
from tomohet.linear.output import LinearRun, write_run
from tomohet.linear.parent import parent_latents
from tomohet.options import TrainLinearOptions
from tomohet.running.together import run_together
from tomohet.running.work import command


@command
def run(options: TrainLinearOptions) -> Path:
    """Read the input, fit, write the model; return its folder."""
    run_together(fit_and_write, options)
    return options.outdir


def fit_and_write(options: TrainLinearOptions, store, particles, device, processes) -> None:
    """Fit together with the other processes; the leading process writes."""
    if len(particles) < 2:
        raise InputError(f"{options.particles}: {len(particles)} particle; a linear model needs at least 2")
    if options.zdim is not None and not 1 <= options.zdim < len(particles):
        raise InputError(f"--zdim {options.zdim}: expected 1 to {len(particles) - 1} (particles less one)")
    start = parent_latents(options.warm_start, store, particles) if options.warm_start else None
    fit = {"iterations": options.iterations, "max_frequency": options.max_frequency, "seed": options.seed}
    focus = (
        None if options.focus_mask is None else read_mask(options.focus_mask, store.box, store.pixel_size_A)
    )
    nuisances = [condition for condition in CONDITIONS if condition not in options.structure_may_follow]
    asked = {"zdim": options.zdim, "nuisances": nuisances}
    where = {"focus": focus, "device": device, "processes": processes}
    model = fit_linear_model(store, particles, **asked, **where, **fit, start=start)
    if not processes.leads:
        return
    write_figures(model, options.outdir, options.plot_format)
    audit = leaks.audit(model.latents.mean.cpu().numpy(), leaks.nuisances(store, particles))
    audit = leaks.with_movement(audit, movement_shares(model.maps.basis, model.maps.mean.volume))
    leaks.warn(audit)
    write_csv(options.outdir / "leaks.csv", audit.tests)
    started = {} if options.warm_start is None else {"warm_start": str(options.warm_start.resolve())}
    run = LinearRun(store, particles, fit | asked | focus_of(options) | started, options.refine_poses)
    write_run(options.outdir, run, model, leaks.describe(audit))


def focus_of(options: TrainLinearOptions) -> dict:
    """Return the focus mask as an option of the fit, if there is one."""
    return {} if options.focus_mask is None else {"focus_mask": str(options.focus_mask.resolve())}
