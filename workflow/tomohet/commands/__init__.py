"""One module per command: `run(options)` executes the command and returns its results.

Notebooks call the same functions as the command line:

    from tomohet.commands import siren
    from tomohet.options import SirenOptions

    siren.run(SirenOptions(volumes="volumes", outdir="siren"))
"""
