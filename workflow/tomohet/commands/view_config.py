"""Print the parameters of a trained model (config.pkl), safely."""

import pprint

from tomohet.errors import InputError
from tomohet.files.pickles import load_pickles
from tomohet.options import ViewConfigOptions
from tomohet.running.work import command


@command
def run(options: ViewConfigOptions) -> None:
    """Read through the restricted unpickler and print; code inside the file is never executed."""
    path = options.workdir / "config.pkl" if options.workdir.is_dir() else options.workdir
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a training folder that holds config.pkl, or the file")
    for value in load_pickles(path):
        pprint.pp(value, width=110)
