"""Says in one line what is missing before a Python environment can be made; exits 1 then.

Runs under any Python 3, whatever its age.
"""

import sys

OLDEST, TOO_NEW = (3, 11), (3, 14)


def main():
    found = "%d.%d" % sys.version_info[:2]  # noqa: UP031
    if not OLDEST <= sys.version_info[:2] < TOO_NEW:
        sys.exit(
            "error: tomohet needs Python 3.11, 3.12 or 3.13; "
            + sys.executable
            + " is "
            + found
            + ". Install one of them and name it: make install PYTHON=python3.12"
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        sys.exit(
            "error: this Python cannot make virtual environments. On Debian or Ubuntu: "
            "sudo apt-get install python3-venv (or python" + found + "-venv), then run make again"
        )


if __name__ == "__main__":
    main()
