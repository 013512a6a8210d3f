"""Levels from which something counts as found, in the linear model, its states and taught networks.

==========================  =======================================================  ======================
level                       what exceeds it                                          by chance
==========================  =======================================================  ======================
`FOUND_P`                   heterogeneity (held-out tilts, Bonferroni for            1 in 100 data sets
                            `held_out.SEARCHES`; the kernel, `detection`)
`DIRECTION_P`               each further direction of the latents                    1 in 20 directions
`EXPLAINED_P`               a direction that a condition of imaging explains         1 in 10,000 data sets
                            (Bonferroni for directions and conditions)
`SURROUNDINGS_SE`           likeness of neighbouring tilts beyond the model          1 in 1,000 data sets
`STATES_SE`                 distance of two states; states over a continuum          1 in 740 pairs
`BETTER_SE`                 what is called better: a network's volumes               1 in 44 trainings
`ADOPTED_SE`                gain at which a network's latents are adopted            1 in 6 checks
==========================  =======================================================  ======================

All are one-sided. Those named `_SE` are standard errors over particles. Chance exceeds the level of adopted
latents often: it says that they are rather better than worse, and no more. Errors of poses and tilts have
levels of their own, gains in nats (`reconstruction.pose_errors.LEAST_GAIN`,
`linear.pose_directions.LEAST_GAIN`).
"""

FOUND_P = 0.01
DIRECTION_P = 0.05  # a map too many costs little, a map too few a block
EXPLAINED_P = 1e-4
SURROUNDINGS_SE = 3.1
STATES_SE = 3.0
BETTER_SE = 2.0
ADOPTED_SE = 1.0


def exceeds(gain: float, error: float, standard_errors: float) -> bool:
    """Whether a gain is more than so many of its standard errors."""
    return gain > standard_errors * error
