"""Open a run of tomoDRGN 1.0: its weights and latents, in a folder that tomohet's commands accept."""

from pathlib import Path

from tomohet.model.imported import import_run
from tomohet.options import ImportTomodrgnOptions
from tomohet.running.work import command


@command
def run(options: ImportTomodrgnOptions) -> Path:
    """Translate and write; return the folder."""
    import_run(options.run_dir, options.outdir)
    return options.outdir
