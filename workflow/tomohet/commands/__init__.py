"""One module per command: `run(options)` does the whole of its work and returns what it found.

A notebook calls what the command line calls:

    from tomohet.commands import siren
    from tomohet.options import SirenOptions

    siren.run(SirenOptions(volumes="volumes", outdir="siren"))
"""
