"""Crop images, volumes or whole data sets to a smaller box in Fourier space, with their STAR files."""

import logging

from tomohet.errors import InputError
from tomohet.files.overwriting import refuse_overwriting_inputs
from tomohet.options import DownsampleOptions
from tomohet.particles import downsampled_stack as one
from tomohet.particles import downsampling as down
from tomohet.running.work import command

log = logging.getLogger(__name__)


@command
def run(options: DownsampleOptions) -> None:
    """Read, crop, write."""
    refuse_overwriting_inputs([options.output], [options.input])
    if not options.input.is_file():
        raise InputError(f"{options.input}: no such file")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    if options.is_vol:
        down.downsample_volume(options.input, options.downsample, options.output)
        return
    is_star = options.input.suffix == ".star"
    if is_star and options.output.suffix == ".star":
        if options.chunk:
            raise InputError("--chunk: only for -o .mrcs; with -o .star each stack keeps its images")
        n = down.downsample_star(
            options.input,
            options.output,
            options.downsample,
            options.datadir,
            options.source_software,
            options.batch_size,
        )
        log.info("%s: %d stacks of %d px", options.output, n, options.downsample)
        return
    if options.output.suffix not in (".mrcs", ".mrc") or (options.write_tiltseries_starfile and not is_star):
        raise InputError(f"-o {options.output}: expected .mrcs for stacks, .star for a STAR file")
    if is_star:
        source = one.images_of_star(options.input, options.datadir, options.source_software)
    else:
        source = one.images_of_list(options.input, options.datadir)
    one.write_one_stack(
        source,
        options.output,
        options.downsample,
        options.batch_size,
        options.chunk,
        options.write_tiltseries_starfile,
    )
    log.info("%s: %d images of %d px", options.output, len(source.images), options.downsample)
