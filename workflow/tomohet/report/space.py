"""Limits on the size of each round in the page, so that it opens fast for any number of rounds."""

from dataclasses import dataclass

# Limits of the whole page, at most 20 MB in total: bytes of tables, voxels of volumes, bytes of PNGs.
TABLE_BYTES = 15_500_000
PER_PARTICLE = 45  # bytes of a row of a table of some 30 columns, measured
ALL_VOLUMES = 17_000_000  # of the volumes that are compared and of the tables, all rounds together
LEAST_VOLUMES = 1_500_000  # of the volumes of all rounds, however large the tables are
LEAST_TABLE_BYTES = 300_000  # of a round, however small its part of the particles
VOXELS = 4_000_000
FIGURE_BYTES = 1_500_000
LARGEST_BOX, SMALLEST_BOX = 48, 20
LARGEST_MAP_BOX = 64


@dataclass(frozen=True)
class Space:
    """One round's part of the page."""

    voxels: int
    figure_bytes: int

    def box(self, n_volumes: int) -> int:
        """Return the largest even edge (voxels) at which `n_volumes` boxes fit into half of the voxels."""
        edge = (self.voxels / 2 / max(n_volumes, 1)) ** (1 / 3)
        return max(SMALLEST_BOX, min(LARGEST_BOX, int(edge) // 2 * 2))

    @property
    def map_box(self) -> int:
        """Even edge of a single map: slightly larger than that of volumes side by side."""
        return min(LARGEST_MAP_BOX, self.box(1) * 4 // 6 * 2)


def share(n_rounds: int) -> Space:
    """Divide the page equally among `n_rounds` rounds."""
    n = max(n_rounds, 1)
    return Space(VOXELS // n, FIGURE_BYTES // n)


def table_bytes(n: int | None, all_rounds: list[int | None]) -> float:
    """Return how many bytes the table of a round may take, in proportion to its `n` particles."""
    known = sum(count or 0 for count in all_rounds)
    return max(LEAST_TABLE_BYTES, TABLE_BYTES * (n or 0) / max(known, 1))


def volume_characters(all_rounds: list[int | None]) -> float:
    """Return how many characters a round's compared volumes may take: what the tables of all rounds leave."""
    tables = min(TABLE_BYTES, PER_PARTICLE * sum(count or 0 for count in all_rounds))
    return max(LEAST_VOLUMES, ALL_VOLUMES - tables) / max(len(all_rounds), 1)
