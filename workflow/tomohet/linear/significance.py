"""Significance levels of the linear model, its states and warm-started networks.

==========================  =======================================================  ======================
level                       result that requires it                                  false positives
==========================  =======================================================  ======================
`FOUND_P`                   heterogeneity (held-out tilts, Bonferroni for            1 in 100 data sets
                            `held_out.SEARCHES`)
`DIRECTION_P`               each further latent direction                            1 in 20 directions
`EXPLAINED_P`               a direction that an imaging condition explains           1 in 10,000 data sets
                            (Bonferroni for directions and conditions)
`SURROUNDINGS_SE`           excess similarity of neighbouring tilts                  1 in 1,000 data sets
`STATES_SE`                 distance of two states; states over a continuum          1 in 740 pairs
`BETTER_SE`                 a better prediction, as of a network's volumes           1 in 44 trainings
`ADOPTED_SE`                gain at which a network's latents are adopted            1 in 6 checks
==========================  =======================================================  ======================

All tests are one-sided. Levels named `_SE` are standard errors over particles. Chance often exceeds the level
of adopted latents: that level only means that the latents are more likely better than worse. Pose errors and
image shifts have levels of their own, gains in nats (`reconstruction.pose_errors.LEAST_GAIN`,
`linear.pose_directions.LEAST_GAIN`).
"""

FOUND_P = 0.01
DIRECTION_P = 0.05  # an additional map costs little; a missing map loses a component
EXPLAINED_P = 1e-4
SURROUNDINGS_SE = 3.1
STATES_SE = 3.0
BETTER_SE = 2.0
ADOPTED_SE = 1.0


def exceeds(gain: float, error: float, standard_errors: float) -> bool:
    """Whether a gain exceeds `standard_errors` times its standard error."""
    return gain > standard_errors * error
