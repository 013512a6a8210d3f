"""The command `tomohet handover` as a script."""

from tomohet.cli import main

if __name__ == "__main__":
    main(script=__file__)
