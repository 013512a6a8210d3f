"""Maximum-likelihood test of the filter that extraction multiplied into the images, from their noise power.

The images are y = p (C d V + noise) with p = C f: the CTF C, and a filter f that fades with the dose. Files
state f incorrectly, or not at all. The recorded noise is white, or has the same spectrum in all images. The
noise power of image i in shell j is therefore

    E|y|^2 = u_i s_j C_i(j)^2 f_i(j)^2,

with a free level u_i of each image and a free common spectrum (colour) s_j. f is thus determined up to a
factor for each image, which would show a scale factor, and a factor for each shell, which only blurs the map.
|y|^2 of noise has an exponential distribution, so the likelihood of a filter has a closed form (Whittle), and
u and s are means of the power relative to its expectation. Particles are independent: two filters are
compared by the mean of their log-likelihood ratio divided by its standard error over particles. Raw images
have p = f.

The window at the edge of the images leaks power between shells (`filter_profile.window_leak`). The expected
power includes this leakage. Where a filter or a low-pass leaves little power, most of it comes from other
shells.

Shells below `INNER` are ignored, because signal and structures in the ice also fade with the dose. Whether
images end at the optimal dose follows from the power on both sides of that frequency, at any frequency.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from tomohet.particles.filter_profile import Profile, window_leak
from tomohet.particles.scores import MOST_Z, z_over_particles
from tomohet.physics.dose import optimal_frequency
from tomohet.physics.imaging import EXTRACTION_KV, ImageParameters, ctf_of, dose_weight_at
from tomohet.physics.lattice import HalfPlane

LOWEST, INNER, OUTER = 0.2, 0.55, 0.8  # fractions of Nyquist
DOSE_GROUPS = 6
ROUNDS = 8
B_FACTORS_A2 = (0.5, 60.0)
DECISIVE = 5.0  # z at which one filter is decisively better than another
# Rms of the logarithm of the power ratio. A filter with a smaller misfit than FITS is accepted; one with a
# larger misfit than MISFIT is replaced by the measured profile. A correctly stated filter has 0.02, and up to
# 0.09 if the signal is strong, or if particles have neighbours and a structured background.
FITS, MISFIT = 0.1, 0.12
# Numbers of shells on either side of an edge that are compared, and of excluded shells around it, where the
# window leaks power.
BESIDE_PX, EDGE_PX = 6.0, 1.5
HALFWAY = 0.35  # exponent half-way between noise with and without a scale factor
# Images end where the power falls to this fraction within this many shells; EARLY is the fraction of images
# that are used.
FALL, FALL_SHELLS, EARLY = 0.12, 4, 0.1
CUT = 0.5  # fraction of the power beyond the optimal dose below which the images are cut off there


@dataclass(frozen=True)
class Filter:
    """A filter that fades with the dose.

    kind : "none", "exposure" (exp(-dose / 2 Nc)) or "b-factor" (exp(-B dose k^2 / 4), B in Å^2)
    b_factor_A2 : B of the kind "b-factor"
    cut_off : whether it is 0 beyond the optimal dose
    """

    kind: str
    b_factor_A2: float = 0.0
    cut_off: bool = False

    @property
    def name(self) -> str:
        """The filter in words."""
        text = {
            "none": "CTF only",
            "exposure": "CTF x exposure filter",
            "b-factor": f"CTF x exp(-B dose k^2 / 4) with B = {self.b_factor_A2:.3g} Å^2",
        }[self.kind]
        return f"{text}, cut off at the optimal dose" if self.cut_off else text

    def of(self, params: ImageParameters) -> ImageParameters:
        """Return the parameters of images with this filter."""
        like = params.dose_e_A2
        flags = {"dose_weighted": self.kind != "none", "cut_off": self.cut_off}
        columns = {key: torch.full_like(like, value, dtype=torch.bool) for key, value in flags.items()}
        return params._replace(
            **columns,
            dose_b_factor_A2=torch.full_like(like, self.b_factor_A2),
            measured_weight=like.new_zeros(len(like), 0),
        )


@dataclass(frozen=True)
class ShellSums:
    """Sums over m images in the s shells from `LOWEST` on.

    power : (m, s) of the images
    expected : (m, s) sum of C^2 (of 1 for raw images)
    points : (s,) points of each shell in an image
    frequency : (s,) cycles per pixel, at the outer edge of each shell
    params : of the images
    particle : (m,) of the images
    box : px
    leak : (s, s) fraction of a shell's power (row) that the window brings from another shell (column); rows
        add up to 1; None without a window
    """

    power: Tensor
    expected: Tensor
    points: Tensor
    frequency: Tensor
    params: ImageParameters
    particle: np.ndarray
    box: int
    leak: Tensor | None = None

    @classmethod
    def of(
        cls,
        chunks,
        params: ImageParameters,
        hp: HalfPlane,
        particle: np.ndarray,
        window: Tensor | None = None,
    ) -> "ShellSums":
        """Accumulate sums over chunks of images.

        chunks : yields (rows, half-planes (rows, n) complex)
        window : (box, box) window of the images
        """
        first = int(np.ceil(LOWEST * hp.box / 2))
        shell = hp.shell - first
        kept = (shell >= 0).nonzero()[:, 0]
        shell, n = shell[kept], hp.box // 2 - first + 1
        points = torch.bincount(shell, minlength=n).float()
        some = HalfPlane(hp.box, hp.k[kept], hp.radius[kept], hp.frequency[kept])
        power, expected = torch.zeros(2, len(particle), n)
        for rows, values in chunks:
            here = params.take(rows)
            ctf2 = torch.where(here.ctf_premultiplied[:, None], ctf_of(here, some).square(), 1.0)
            power[rows] = torch.zeros(len(values), n).index_add_(1, shell, values[:, kept].abs().square())
            expected[rows] = torch.zeros(len(values), n).index_add_(1, shell, ctf2)
        frequency = (first + torch.arange(n)) / hp.box
        usable = points > 0
        sums = (sums[..., usable] for sums in (power, expected, points, frequency))
        leak = None
        if window is not None:
            leak = window_leak(window)[first:, first:][usable][:, usable].float()
            leak = leak / leak.sum(1, keepdim=True)
        return cls(*sums, params, particle, hp.box, leak)

    def fit(self, filter_: Filter | Profile | None, inside_only: bool = False) -> "Fit":
        """Fit levels and noise colour under a filter; None uses the filter that the parameters state.

        inside_only : whether to use only shells below the optimal dose
        """
        params = self.params if filter_ is None else filter_.of(self.params)
        params = params._replace(cut_off=torch.zeros_like(params.dose_weighted))
        factor = dose_weight_at(params, self.middle.double()).square().clamp_min(1e-12)
        factor = torch.where(params.dose_weighted[:, None], factor, 1.0)
        used = (self.edge() > EDGE_PX if inside_only else torch.ones_like(factor)) * (
            self.frequency >= INNER / 2
        )
        weight = self.points * used
        some = weight.sum(1, keepdim=True) > 0
        # Lower shells enter only through the power that leaks out of them.
        seen = torch.where(self.frequency >= INNER / 2, used, some.float())
        colour = torch.ones(len(self.points))
        for _ in range(ROUNDS):
            ratio = self.power / self.spread(self.expected * factor * colour).clamp_min(1e-30)
            level = (weight * ratio).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp_min(1)
            level = torch.where(some, level.clamp_min(1e-30), 1.0)
            colour = colour * ((seen * ratio / level).sum(0) / seen.sum(0).clamp_min(1)).clamp_min(1e-30)
        whole = (level * self.spread(self.expected * factor * colour)).clamp_min(1e-30)
        relative = self.power / whole
        likelihood = -(weight * (relative + torch.log(whole / self.expected.clamp_min(1e-30)))).sum(1)
        return Fit(likelihood.double().numpy(), level[:, 0].double().numpy(), relative, used)

    @property
    def middle(self) -> Tensor:
        """(s,) cycles per pixel in the middle of each shell; `frequency` is its outer edge."""
        return self.frequency - 0.5 / self.box

    def spread(self, power: Tensor) -> Tensor:
        """Apply the leakage of the window to power (m, s) in shells."""
        return power if self.leak is None else (power / self.points) @ self.leak.T * self.points

    def end(self) -> float | None:
        """Return the frequency (cycles per pixel) at which all images end, as after a low-pass filter.

        None if there is no such frequency. It is measured on the images of lowest dose, which no dose weight
        cuts off. The power has to fall steeply within a few shells; noise, detectors and interpolation reduce
        it smoothly.
        """
        early = self.params.dose_e_A2 <= self.params.dose_e_A2.quantile(EARLY)
        power = self.power[early].sum(0) / self.expected[early].sum(0).clamp_min(1e-30)
        falls = power[FALL_SHELLS:] < FALL * power[:-FALL_SHELLS]
        if not falls.any():
            return None
        first = int(falls.int().argmax())
        inside = power[first : first + FALL_SHELLS] > power[first] / 2
        return float(self.frequency[first + int(inside.nonzero()[-1])])

    def likelihood_below(self, filter_: Filter) -> float:
        """Return the log-likelihood of all images, below the optimal dose."""
        return float(self.fit(filter_, inside_only=True).likelihood.sum())

    def edge(self) -> Tensor:
        """Return (m, s) distance in px from each shell to the frequency of the optimal dose.

        The distance is positive below that frequency.
        """
        extraction_kV = torch.full_like(self.params.voltage_kV, EXTRACTION_KV)
        limit = optimal_frequency(self.params.dose_e_A2, extraction_kV) * self.params.pixel_size_A
        return ((limit[:, None] - self.frequency) * self.box).float()

    def beyond(self, filter_: Filter) -> tuple[float, float]:
        """Compare the power beyond the optimal dose with the power below it.

        Both are relative to the power that the filter leaves. Returns their ratio, and z of the hypothesis
        that the ratio exceeds `CUT`; (nan, 0) if no image extends beyond the optimal dose.
        """
        params = filter_.of(self.params)._replace(cut_off=torch.zeros_like(self.params.dose_weighted))
        factor = torch.where(
            params.dose_weighted[:, None], dose_weight_at(params, self.middle.double()).square(), 1.0
        )
        edge = self.edge()
        ratio = self.power / (self.expected * factor).clamp_min(1e-30)
        colour = (
            ratio[edge[:, -1] > 0].mean(0) if (edge[:, -1] > 0).any() else ratio.new_ones(len(self.points))
        )
        below, above = (self.points * ((side > EDGE_PX) & (side < BESIDE_PX)) for side in (edge, -edge))
        level = (below * ratio / colour).sum(1) / below.sum(1).clamp_min(1)
        above = above * (level > 0)[:, None]
        if not above.any():
            return float("nan"), 0.0
        share = (ratio / (colour * level.clamp_min(1e-30)[:, None])).clamp_max(1.5)
        score = (above * (share - CUT)).sum(1).double().numpy()
        z = z_over_particles(score, self.particle)
        if not share[
            above > 0
        ].any():  # no power at all beyond the edge, so there is no scatter for a z-score
            z = -MOST_Z
        return float((above * share).sum() / above.sum()), z

    def misfit(self, fit: "Fit") -> float:
        """Return the rms log ratio of measured to expected power, over dose groups and shells.

        The part that chance explains is subtracted.
        """
        dose = np.unique(self.params.dose_e_A2.numpy(), return_inverse=True)[1]
        group = torch.as_tensor(dose * DOSE_GROUPS // (dose.max() + 1))
        sums = torch.zeros(2, DOSE_GROUPS, len(self.points))
        sums.index_add_(1, group, torch.stack([fit.relative * fit.used, fit.used]))
        known = sums[1] > 0
        deviation = torch.log((sums[0] / sums[1].clamp_min(1))[known].clamp_min(1e-6)).square()
        chance = 1 / (sums[1] * self.points)[known]
        return float((deviation - chance).mean().clamp_min(0).sqrt())

    def with_best_b_factor(self, inside_only: bool) -> Filter:
        """Return the filter exp(-B dose k^2 / 4) of highest likelihood."""
        best = minimize_scalar(
            lambda b: -self.fit(Filter("b-factor", float(np.exp(b))), inside_only).likelihood.sum(),
            bounds=np.log(B_FACTORS_A2), method="bounded", options={"xatol": 0.02},
        )  # fmt: skip
        return Filter("b-factor", float(np.exp(best.x)))

    def scale_exponents(self, fit: "Fit") -> tuple[str, list[tuple[float, float]]]:
        """Estimate the exponent of the scale factor in the noise amplitude, in two bands of frequencies.

        Returns the name of the scale factor ("stated", or "cosine" of the tilt if the file states none), and
        for each band the exponent and z of the hypothesis that it exceeds `HALFWAY`. Images are compared
        within each particle, because tomograms have grey levels of their own. Structures in the ice also fade
        with the tilt, but their power depends on frequency.
        """
        stated = self.params.scale_factor.abs().double().numpy()
        name = "stated" if np.ptp(stated[stated > 0]) > 0.05 else "cosine"
        scale = stated if name == "stated" else np.cos(np.radians(self.params.tilt_deg.double().numpy()))
        owner = np.unique(self.particle, return_inverse=True)[1]
        found = []
        for band in (self.frequency < OUTER / 2, self.frequency >= OUTER / 2):
            weight = self.points * fit.used * band
            level = (weight * fit.relative).sum(1) / weight.sum(1).clamp_min(1)
            level = level.double().numpy() * fit.level
            used = ((stated > 0) & (level > 0)).astype(float)
            count = np.bincount(owner, used).clip(1)
            x, y = (np.log(np.where(used > 0, v, 1)) for v in (scale, np.sqrt(level)))
            x, y = (used * (v - (np.bincount(owner, used * v) / count)[owner]) for v in (x, y))
            spread = np.square(x).sum()
            exponent = float((x * y).sum() / spread) if spread > 1e-3 else float("nan")
            found.append((exponent, z_over_particles(x * y - HALFWAY * x * x, self.particle)))
        return name, found


@dataclass(frozen=True)
class Fit:
    """Fit of a filter.

    likelihood : (m,) log-likelihood of each image
    level : (m,) noise level of each image
    relative : (m, s) measured power relative to the expected power
    used : (m, s) 1 where the shell counts
    """

    likelihood: np.ndarray
    level: np.ndarray
    relative: Tensor
    used: Tensor
