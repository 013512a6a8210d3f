"""Sums of a model's maps over masks for any number of latents, without decoding every map.

A sum over a mask is linear in the map, hence in its Fourier values, and for a linear model also in the
latents. A network's Fourier values are not linear in the latents, and evaluating all of them is the cost of
decoding. But the maps of one model span few dimensions. Some maps are decoded in full to find their modes
(proper orthogonal decomposition). A few hundred Fourier values, at points chosen by pivoted QR, then
determine the coefficients of all modes, and with them every sum (Drmac & Gugercin, SIAM J. Sci. Comput. 38,
A631, 2016). Further maps, decoded in full, measure the error.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from scipy.linalg import lstsq, qr
from torch import Tensor

from tomohet.errors import InputError
from tomohet.files.parts import content_digest
from tomohet.files.shares import ALL_ROWS, Shares
from tomohet.model.decoder import Decoder, FixedPoints, FoldedDecoder
from tomohet.model.linear_base import LinearBase
from tomohet.model.volumes import TrainedVolumes, VolumeForm
from tomohet.physics.lattice import half_ball
from tomohet.progress import track

FIRST_SNAPSHOTS, MOST_SNAPSHOTS = 64, 512
CHECKS = 24  # latents whose sums are computed both from points and from the decoded map
CANDIDATES = 8192  # Fourier points among which the points to evaluate are chosen
FAR_OFF = 10.0  # times the tolerance: with such an error a few points cannot suffice
LEAST_MODE = 1e-6  # relative to the strongest mode: weaker modes are rounding errors
BATCH = 16
POINTS_BATCH = 4096

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MaskSums:
    """Sums (n, U) over U masks, with the work done and the error.

    decoded : number of latents whose maps were decoded in full
    points : number of Fourier points evaluated for the other latents
    error : (U,) root mean square difference from sums of fully decoded maps; 0 where all maps are decoded
    """

    sums: np.ndarray
    decoded: int
    points: int
    error: np.ndarray


@torch.no_grad()
def mask_sums(
    decoder: TrainedVolumes,
    z: np.ndarray,
    masks: np.ndarray,
    form: VolumeForm,
    tolerance: np.ndarray,
    seed: int = 0,
    shares: Shares = ALL_ROWS,
) -> MaskSums:
    """Compute the sums over masks of the maps that `write_volumes` would write.

    Parameters
    ----------
    z : (n, zdim) latents
    masks : (U, d, d, d) on the grid of the maps in `form`
    form : box, low-pass, flip and sign of the maps
    tolerance : (U,) root mean square error allowed; more maps are decoded in full until it is met
    seed : for the choice of the maps that are decoded in full
    shares : divide the latents among jobs, those whose maps tell the modes excepted

    Raises InputError when shapes do not fit, or the maps are not finite.

    """
    if z.ndim != 2 or z.shape[1] != decoder.zdim:
        raise InputError(f"latents of shape {z.shape}, but the model has zdim {decoder.zdim}")
    if masks.shape[1:] != (form.box,) * 3:
        raise InputError(f"masks of shape {masks.shape[1:]}, but the model's volumes have box {form.box}")
    latents = torch.as_tensor(np.asarray(z, np.float32), device=decoder.device)
    weights = torch.as_tensor(np.asarray(masks, np.float32), device=decoder.device)
    found = _network(decoder, latents, weights, form, np.asarray(tolerance, float), seed, shares)
    if not np.isfinite(found.sums).all():
        raise InputError("the model's volumes are not finite: the training diverged (take earlier weights)")
    return found


def _network(
    decoder, latents: Tensor, masks: Tensor, form: VolumeForm, tolerance, seed: int, shares: Shares
) -> MaskSums:
    model = decoder.model
    if isinstance(model, LinearBase):
        sums = _base_sums(model, latents, masks, form) * decoder.scale
        return MaskSums(sums.cpu().double().numpy(), 0, 0, np.zeros(len(masks)))
    if not isinstance(model, Decoder):  # published networks are decoded in full, as by their own program
        content = _content(model.decoder, latents, masks, form)
        of_maps = partial(_sums_of_maps, decoder, masks=masks, form=form)
        sums = _shared(of_maps, latents, shares, content, BATCH).cpu().numpy()
        return MaskSums(sums, len(latents), 0, np.zeros(len(masks)))
    network = _NetworkSums(model, masks, form)
    content = _content(model, latents, masks, form)
    found = network.of(latents, tolerance / abs(decoder.scale), seed, shares, content)
    sums = found.sums
    if model.base is not None:
        sums = sums + _base_sums(model.base, latents, masks, form).cpu().double().numpy()
    return MaskSums(sums * decoder.scale, found.decoded, found.points, found.error * abs(decoder.scale))


def _base_sums(base: LinearBase, z: Tensor, masks: Tensor, form: VolumeForm) -> Tensor:
    """Compute the sums (n, U) of mean + sum_j z_j U_j from the sums of the K + 1 maps."""
    unit = torch.cat([torch.zeros(1, base.n_basis), torch.eye(base.n_basis)]).to(z)
    maps = torch.cat([form(base.volumes(one[None], form.box)) for one in unit])
    sums = maps.flatten(1) @ masks.flatten(1).T
    return sums[0] + z[:, : base.n_basis] @ (sums[1:] - sums[0])


def _content(model: torch.nn.Module, z: Tensor, masks: Tensor, form: VolumeForm) -> str:
    """Digest what decides the sums: the model's weights, latents, masks, and the form of the maps."""
    weights = [value.cpu().numpy() for value in model.state_dict().values()]
    return content_digest(*weights, z.cpu().numpy(), masks.cpu().numpy(), form)


def _shared(
    sums_of: Callable[[Tensor], Tensor], z: Tensor, shares: Shares, content: str, together: int
) -> Tensor:
    """Compute the sums (n, U) of latents `z`, each job its share of them, `together` at once."""

    def of_rows(rows: slice) -> tuple[np.ndarray]:
        return (sums_of(z[rows]).cpu().numpy(),)

    (sums,) = shares.rows("sums", len(z), content, of_rows, together)
    return torch.as_tensor(sums, device=z.device)


def _sums_of_maps(decoder: TrainedVolumes, z: Tensor, masks: Tensor, form: VolumeForm) -> Tensor:
    flat = masks.flatten(1).T
    parts = []
    with track(total=len(z), unit="particles", description="occupancies") as progress:
        for maps in decoder.decode(z, form.box, batch=BATCH, radius=form.radius):
            parts.append(form(maps).flatten(1) @ flat)
            progress.update(len(maps))
    return torch.cat(parts).double()


class _NetworkSums:
    """Mask sums of a Hermitian network's own contribution to the maps, from its Fourier values."""

    def __init__(self, model: Decoder, masks: Tensor, form: VolumeForm) -> None:
        self.ball = half_ball(form.box, masks.device)
        radius = form.radius
        self.n = self.ball.n if radius is None else int((self.ball.radius <= radius + 1e-4).sum())
        self.k = self.ball.k[: self.n].float() / model.box
        self.folded: FoldedDecoder = model.folded()
        self.weights = mask_weights(masks, form, model.box)[:, : self.n]

    def of(
        self, z: Tensor, tolerance: np.ndarray, seed: int, shares: Shares = ALL_ROWS, content: str = ""
    ) -> MaskSums:
        """Compute the sums for latents `z`: some from maps decoded in full, the others from few points.

        shares, content : divide the other latents among jobs; a digest of what decides their sums
        """
        rng = np.random.default_rng(seed)
        shuffled = torch.as_tensor(rng.permutation(len(z)), device=z.device)
        everywhere = FixedPoints(self.folded, self.k)
        candidates = self._candidates(rng)
        sums = torch.zeros(len(z), len(self.weights), dtype=torch.float64, device=z.device)
        check, others = shuffled[:CHECKS], shuffled[CHECKS:]
        order = others[_spread_first(z[others], MOST_SNAPSHOTS)]
        kept, wanted, error, points = [], FIRST_SNAPSHOTS, np.zeros(len(self.weights)), 0
        check_values = self._decode(everywhere, z, check, candidates, sums)
        done = 0
        while done < len(order):
            chosen = order[done:wanted]
            kept.append(self._decode(everywhere, z, chosen, candidates, sums))
            done += len(chosen)
            if done == len(order):  # all maps are decoded in full
                return MaskSums(sums.cpu().numpy(), len(z), 0, np.zeros(len(self.weights)))
            rule = _Cubature.fitted(torch.cat(kept), sums[order[:done]], candidates)
            difference = rule.from_candidates(check_values) - sums[check]
            error = difference.square().mean(0).sqrt().cpu().numpy()
            points = len(rule.points)
            log.info(
                "%d volumes decoded in full, %d Fourier points for the others: error %.1e of the tolerance",
                done + len(check), points, (error / tolerance).max(),
            )  # fmt: skip
            if (error <= tolerance).all() or wanted >= MOST_SNAPSHOTS:
                break
            wanted *= 2
        if (error > FAR_OFF * tolerance).any():
            log.warning(
                "the volumes of this network do not change smoothly with the latents: all volumes are "
                "decoded in full"
            )
            exact = partial(self._exact, everywhere)
            sums[order[done:]] = _shared(exact, z[order[done:]], shares, f"{content}, exact", BATCH)
            return MaskSums(sums.cpu().numpy(), len(z), 0, np.zeros(len(self.weights)))
        rest = order[done:]
        if len(rest):
            from_points = partial(self._from_points, rule)
            sums[rest] = _shared(from_points, z[rest], shares, f"{content}, points", POINTS_BATCH)
        return MaskSums(sums.cpu().numpy(), done + len(check), points, error)

    def _from_points(self, rule: "_Cubature", z: Tensor) -> Tensor:
        """Compute sums (m, U) from the Fourier values at the rule's points."""
        at_points, sums = FixedPoints(self.folded, self.k[rule.points]), []
        with track(total=len(z), unit="particles", description="occupancies") as progress:
            for some in z.split(POINTS_BATCH):
                sums.append(rule(at_points.values(some)))
                progress.update(len(some))
        return torch.cat(sums)

    def _exact(self, everywhere: FixedPoints, z: Tensor) -> Tensor:
        """Compute sums (m, U) of maps decoded in full."""
        sums = torch.zeros(len(z), len(self.weights), dtype=torch.float64, device=z.device)
        nothing = torch.zeros(0, dtype=torch.int64, device=z.device)
        self._decode(everywhere, z, torch.arange(len(z), device=z.device), nothing, sums)
        return sums

    def _candidates(self, rng: np.random.Generator) -> Tensor:
        """Draw candidate points (C,), preferring points with large weights in the sums."""
        if self.n <= CANDIDATES:
            return torch.arange(self.n, device=self.k.device)
        weight = self.weights.abs().square().sum(0).double().sqrt().cpu().numpy()
        # Half by weight, half uniformly: a mode may be strongest where the masks have little weight.
        share = 0.5 * weight / weight.sum() + 0.5 / self.n
        chosen = rng.choice(self.n, CANDIDATES, replace=False, p=share)
        return torch.as_tensor(np.sort(chosen), device=self.k.device)

    def _decode(self, everywhere: FixedPoints, z: Tensor, rows: Tensor, candidates: Tensor, sums) -> Tensor:
        """Fill the exact sums of `rows`; return their values (m, C) at the candidates."""
        kept = []
        with track(total=len(rows), unit="particles", description="decoding in full") as progress:
            for some in rows.split(BATCH):
                values = everywhere.values(z[some])
                sums[some] = (values @ self.weights.conj().T).real.double()
                kept.append(values[:, candidates])
                progress.update(len(some))
        return torch.cat(kept) if kept else torch.zeros(0, len(candidates), dtype=torch.complex64)


@dataclass(frozen=True)
class _Cubature:
    """Linear rule: sums = mean_sums + (values at points - mean_values) @ weights.

    Real and imaginary parts of the values are separate numbers.
    """

    picked: Tensor  # indices among the candidates
    points: Tensor  # indices among all points
    mean_values: Tensor
    mean_sums: Tensor
    weights: Tensor

    @classmethod
    def fitted(cls, values: Tensor, sums: Tensor, candidates: Tensor) -> "_Cubature":
        """Fit the rule to maps decoded in full: values (T, C) at the candidates, sums (T, U)."""
        x, s = _side_by_side(values).cpu().numpy(), sums.cpu().numpy()
        mean, mean_sums = x.mean(axis=0), s.mean(axis=0)
        coefficients, strength, modes = np.linalg.svd(x - mean, full_matrices=False)
        if strength[0] <= LEAST_MODE * np.linalg.norm(x):  # all maps are the same, up to rounding
            weights = np.zeros((2, sums.shape[1]))
            return cls._at(np.zeros(1, dtype=int), candidates, mean, mean_sums, weights)
        rank = max(1, int((strength > LEAST_MODE * strength[0]).sum()))
        modes = modes[:rank]
        per_mode = (coefficients[:, :rank] / strength[:rank]).T @ (s - mean_sums)  # (rank, U)
        pivots = np.asarray(qr(modes, mode="r", pivoting=True)[-1])[:rank]
        picked = np.unique(pivots % len(candidates))
        both = np.concatenate([picked, picked + len(candidates)])
        # There are twice as many numbers as modes, so the coefficients follow by least squares.
        found = lstsq(modes[:, both].T, np.eye(len(both)))
        weights = found[0].T @ per_mode  # pyright: ignore[reportOptionalSubscript]
        return cls._at(picked, candidates, mean, mean_sums, weights)

    @classmethod
    def _at(
        cls,
        picked: np.ndarray,
        candidates: Tensor,
        mean: np.ndarray,
        mean_sums: np.ndarray,
        weights: np.ndarray,
    ) -> "_Cubature":
        """Make the rule of `weights` (2 m, U) at the picked m of the candidates."""
        device = candidates.device
        chosen = torch.as_tensor(picked, device=device)
        both = np.concatenate([picked, picked + len(candidates)])
        fitted = (torch.as_tensor(part, device=device) for part in (mean[both], mean_sums, weights))
        return cls(chosen, candidates[chosen], *fitted)

    def __call__(self, values: Tensor) -> Tensor:
        """Compute sums (m, U) from values (m, points)."""
        return self.mean_sums + (_side_by_side(values) - self.mean_values) @ self.weights

    def from_candidates(self, values: Tensor) -> Tensor:
        """Compute sums (m, U) from values (m, C) at all candidates."""
        return self(values[:, self.picked])


def _spread_first(z: Tensor, count: int) -> Tensor:
    """Order latents (n,) so that each of the first `count` is the farthest from all latents before it.

    Rare states are therefore among the first (Gonzalez, Theor. Comput. Sci. 38, 293, 1985).
    """
    if not len(z):
        return torch.arange(0, device=z.device)
    distance = torch.full((len(z),), torch.inf, device=z.device)
    first = [torch.zeros((), dtype=torch.int64, device=z.device)]
    for _ in range(min(count, len(z)) - 1):
        distance = torch.minimum(distance, (z - z[first[-1]]).square().sum(1))
        first.append(distance.argmax())
    chosen = torch.stack(first).unique()
    rest = torch.ones(len(z), dtype=torch.bool, device=z.device)
    rest[chosen] = False
    return torch.cat([torch.stack(first)[: len(chosen)], torch.nonzero(rest)[:, 0]])


def _side_by_side(values: Tensor) -> Tensor:
    """Convert (m, n) complex to (m, 2n) float64: real parts, then imaginary parts."""
    return torch.cat([values.real, values.imag], dim=1).double()


def mask_weights(masks: Tensor, form: VolumeForm, model_box: int) -> Tensor:
    """Compute the weights (U, n) complex64 of a map's Fourier values in its sums over masks (U, d, d, d).

    The sum over a mask of the map in `form` with values V (n,) on the half ball is Re sum_k V(k) conj(w(k)).
    The sum is linear in V, so its weights are its gradient, which includes every step from V to the written
    map.
    """
    ball = half_ball(form.box, masks.device)
    zero = torch.zeros(1, ball.n, dtype=torch.complex64, device=masks.device, requires_grad=True)
    with torch.enable_grad():
        flat = form(ball.volume(zero, model_box)).flatten()
        return torch.stack([_gradient((flat @ mask.flatten()), zero)[0] for mask in masks])


def _gradient(of: Tensor, by: Tensor) -> Tensor:
    return torch.autograd.grad(of, by, retain_graph=True)[0]
