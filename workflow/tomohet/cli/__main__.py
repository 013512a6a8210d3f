"""Entry point of `python -m tomohet.cli`, the same as the console script `tomohet`."""

from tomohet.cli.dispatch import main

if __name__ == "__main__":
    main()
