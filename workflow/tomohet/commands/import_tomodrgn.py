"""Import a run of tomoDRGN 1.0: write its weights and latents as a folder for tomohet's commands."""

from pathlib import Path

from tomohet.model.imported import import_run
from tomohet.options import ImportTomodrgnOptions
from tomohet.running.work import command


@command
def run(options: ImportTomodrgnOptions) -> Path:
    """Convert the run and write it; return the folder."""
    import_run(options.run_dir, options.outdir)
    return options.outdir
