"""Times and sizes in words, with the unit that suits them."""

GIGABYTE, MEGABYTE = 1e9, 1e6


def duration(seconds: float) -> str:
    """Write a time with the unit that suits it, to two digits."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * length:
            return (
                f"{seconds / length:.2g} {unit}"
                if seconds < 100 * length
                else f"{seconds / length:.0f} {unit}"
            )
    return f"{seconds:.0f} s"


def size(n_bytes: float) -> str:
    """Write a number of bytes; "-" for less than a megabyte."""
    if n_bytes < MEGABYTE:
        return "-"
    return f"{n_bytes / GIGABYTE:.2g} GB" if n_bytes >= 0.1 * GIGABYTE else f"{n_bytes / MEGABYTE:.0f} MB"
