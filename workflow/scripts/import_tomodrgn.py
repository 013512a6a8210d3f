"""The command `tomohet import_tomodrgn` as a script."""

from tomohet.cli import main

if __name__ == "__main__":
    main(script=__file__)
