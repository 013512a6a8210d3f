"""Which particles judge a network that starts from the linear model, and after which epochs.

Judging takes a limited share of the training's time: few particles, seldom, before the last epoch; all of
them after it.

Number of particles. A contribution N to a base with gain g = 2 a - q (`model.latent_terms.network_share`) has
the variance 4 var(a) = 2 q, because var(a) = q / 2 for complex noise. Near the best scale a = q = g, so that
n particles with the mean gain m have the standard error sqrt(2 m n). A gain of m is told from none at t
standard errors by n = 2 t^2 / m particles. The same holds for the difference of two contributions. The best
scale found on n particles loses 1 / (2 n) nats per particle on others.

Work is counted in Fourier points times passes through the network: a step of the training takes three passes
(values, gradients of activations, gradients of weights).
"""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from tomohet.training.batches import ParticleImages

FACTORS_OF_LATENTS = (1.0, 0.5, 0.0)  # tried at every judgement on the network's weights for latents

LEAST_GAIN = 0.01  # nats per particle on its held-out tilts: a mean gain that must be told from none ...
LEAST_SE = 3.0  # ... at so many standard errors

# Of the training's work: a fifth of the time includes what the work leaves out, such as fitting the prior.
MOST_SHARE = 0.18  # that judging may take
SHARE_OF_LATENTS = 0.1  # that latents in closed form may take
LEAST_SHARE_OF_DECODER = 0.04  # that judging the decoder may take, whatever latents take
LEAST_JUDGEMENTS = 3  # of the decoder in a training, whatever they cost
MOST_ROUNDS = 3  # in which latents in closed form are inferred
PASSES_OF_TRAINING = 3
PASSES_OF_TERMS = 3  # values and two backward passes (`model.latent_terms.latent_terms`)


def sample_size(least_gain: float, standard_errors: float) -> int:
    """Return how many particles tell a mean gain of `least_gain` nats from 0 at so many standard errors."""
    return int(np.ceil(2 * standard_errors**2 / least_gain))


def judging_particles(tilts: np.ndarray, source: np.ndarray | None, seed: int) -> np.ndarray | None:
    """Draw the particles that judge before the last epoch: ascending positions, or None for all.

    tilts : (P,) number of held-out images of each particle; particles without one are not drawn
    source : (P,) number of the particle whose images each particle has, where some are copies; all copies of
        a particle are drawn together

    The draw follows from the seed alone, whatever the epoch and the number of processes.
    """
    source = np.arange(len(tilts)) if source is None else source
    present = np.unique(source[tilts > 0])
    wanted = sample_size(LEAST_GAIN, LEAST_SE)
    if len(present) <= wanted:
        return None
    drawn = np.random.default_rng([seed, 4]).choice(present, wanted, replace=False)
    return np.flatnonzero(np.isin(source, drawn))


@dataclass(frozen=True)
class Calendar:
    """After which epochs (from 0) the decoder is judged, and latents in closed form are inferred.

    epochs : of the training
    every : epochs from one judgement of the decoder to the next
    rounds : number of times that latents are inferred, evenly over the training
    """

    epochs: int
    every: int = 1
    rounds: int = MOST_ROUNDS

    @classmethod
    def of(cls, epochs: int, training: float, judgement: float, latents: float) -> "Calendar":
        """Make the calendar from the work of an epoch's training, a judgement and an inference of latents.

        The decoder is judged as often as fits in `MOST_SHARE`. Whatever it costs, it is judged
        `LEAST_JUDGEMENTS` times, and latents are inferred after the last epoch. `latents` is 0 for a network
        with an encoder.
        """
        total = epochs * training
        possible = SHARE_OF_LATENTS * total / latents if latents else MOST_ROUNDS
        rounds = int(np.clip(possible, 1, MOST_ROUNDS))
        left = max(MOST_SHARE * total - rounds * latents, LEAST_SHARE_OF_DECODER * total)
        for every in range(1, max(1, epochs // LEAST_JUDGEMENTS) + 1):
            calendar = cls(epochs, every, rounds)
            if judgement * sum(map(calendar.judges, range(epochs))) <= left:
                break
        return calendar

    def is_last(self, epoch: int) -> bool:
        """Tell whether the training ends with this epoch."""
        return epoch + 1 >= self.epochs

    def infers_latents(self, epoch: int) -> bool:
        """Tell whether latents in closed form are inferred after this epoch."""
        return self.is_last(epoch) or (epoch + 1) % -(-self.epochs // self.rounds) == 0

    def judges(self, epoch: int) -> bool:
        """Tell whether the decoder is judged after this epoch: always before latents are inferred."""
        return (epoch + 1) % self.every == 0 or self.infers_latents(epoch)


def points(images: ParticleImages, particles: np.ndarray | None = None, most: int | None = None) -> int:
    """Count the Fourier points of `images`, of the particles at these positions, `most` per image."""
    prefix = images.prefix if most is None else images.prefix.clip(max=most)
    if particles is None:
        return int(prefix.sum())
    chosen = np.zeros(len(images), bool)
    chosen[particles] = True
    return int(prefix[np.repeat(chosen, images.tilts)].sum())


def work_of_judging(
    fitted: ParticleImages, unseen: ParticleImages, sample: np.ndarray | None, near: int, steps: int
) -> tuple[float, float]:
    """Count the work of one judgement of the decoder, and of one inference of latents in closed form.

    fitted, unseen, sample : images and particles that judge, as of `teaching.Teaching`
    near : number of Fourier points of an image that latents are inferred from
    steps : Gauss-Newton steps of an inference; 0 for a network with an encoder
    """
    judgement = len(FACTORS_OF_LATENTS) * points(unseen, sample)
    inference = PASSES_OF_TERMS * (steps * points(fitted, most=near) + points(unseen, most=near))
    return judgement, inference if steps else 0.0


def standard_error(gain: Tensor) -> Tensor:
    """Return the standard error of the sum of `gain` (P,) over particles."""
    return gain.std() * len(gain) ** 0.5


def paired_change(before: Tensor | None, now: Tensor) -> dict:
    """Compare the gains (P,) of two judgements on the particles that both have judged; the others are nan.

    Returns the change for all particles and its standard error, nothing without an earlier judgement. The
    particles are the same, so that the error is much smaller than that of either gain.
    """
    if before is None:
        return {}
    change = now - before
    change = change[~change.isnan()]
    share = len(now) / len(change)
    return {
        "change_of_decoder": share * change.sum().item(),
        "error_of_change": share * standard_error(change).item(),
    }


def paired_fall(best: Tensor | None, now: Tensor) -> dict:
    """Compare the gains (P,) of the best judgement until now with those of this one, on the same particles.

    Returns the fall for all particles and its standard error, nothing without an earlier judgement. The sum
    of the errors of all changes since the best judgement would be much larger: the steps of the optimiser
    move a particle's gain to and fro.
    """
    found = paired_change(best, now)
    if not found:
        return {}
    return {"fall_since_best": -found["change_of_decoder"], "error_of_fall": found["error_of_change"]}


def is_best(row: dict, before: list[dict]) -> bool:
    """Tell whether no judgement `before` this row had as large a gain."""
    return all(row["gain_of_decoder"] > past["gain_of_decoder"] for past in before)
