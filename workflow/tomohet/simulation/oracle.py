"""Oracle: classification by likelihood, with true maps, poses, CTF and noise: the best that images allow.

No method that has to find the maps itself can do better on average. The oracle does not know the state: it
weights all combinations of blocks, and all angles of the moving one. Poses and CTF are those of the files,
and noise is assumed white; with errors, neighbours or a background the images allow more. An oracle that does
not know the poses integrates their errors out, to first order about the poses of the files: they are Gaussian
latents of the tangents of the true mean map (`reconstruction.pose_errors`).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tomohet.particles.joining import rows_of_all
from tomohet.particles.store import Store
from tomohet.physics.fourier import cosine_window
from tomohet.physics.imaging import image_parameters
from tomohet.physics.lattice import HalfPlane, images_to_half_planes, shift_half_planes
from tomohet.reconstruction.pose_errors import LEAST, N_TANGENTS, PoseErrors, tangents
from tomohet.simulation.projection import Camera, MapSlices, extraction_weight, premultiplied, shifts_px
from tomohet.simulation.truth import Truth

ANGLES = 9
# Working memory of one chunk of particles, and bytes in it for one pixel of one template image.
CHUNK_BYTES = {"cpu": 2**25, "cuda": 2**32}
BYTES_PER_PIXEL = 40
# Noise assumed for noise-free images, in units of the images; it keeps likelihoods finite.
LEAST_NOISE_STD = 1e-3
# Lowest noise power at a frequency of a premultiplied image, relative to a raw one: the window leaks noise of
# neighbouring frequencies into the zeros of the CTF.
LEAST_RELATIVE_NOISE = 0.02


@dataclass(frozen=True)
class Inference:
    """Inferred states of n particles.

    log_odds : (n, b) log P(present) - log P(absent) given the images, NaN for blocks that never vary
    angle_deg : (n,) posterior mean angle of the moving block, given that it is present (0 without one)
    state : (n,) the most probable combination of blocks, over all angles; row of the truth's state_presence
    """

    log_odds: np.ndarray
    angle_deg: np.ndarray
    state: np.ndarray


def block_log_odds(store: Store, truth: Truth, device: torch.device | str = "cpu") -> np.ndarray:
    """Compute posterior log odds (n, b) of every block of every particle of a store; see `infer`."""
    return infer(store, truth, device).log_odds


def infer(
    store: Store,
    truth: Truth,
    device: torch.device | str = "cpu",
    n_angles: int = ANGLES,
    poses_known: bool = True,
) -> Inference:
    """Infer the states of all particles of a store, in its order, from a store of either dialect.

    Images are y = sum_u o_u f_u + noise with known f_u, so the log-likelihood of a state is the quadratic
    form o.b - o.A.o / 2 with b_u = <f_u, y>, A_uv = <f_u, f_v>, both divided by the noise variance. Prior:
    the frequencies of the states in the truth; angles on a grid, uniform.

    poses_known : whether the poses of the files are treated as exact; if not, errors of the truth's size are
        integrated out

    Raises InputError when the store is not from the truth's simulation.
    """
    rows = truth.rows_of(store.particles["source_id"].to_numpy())
    angles = np.linspace(-1, 1, n_angles) * truth.hinge_limit_deg if truth.moving_block >= 0 else np.zeros(0)
    camera = Camera(truth.specimen(), truth.amplitude_loss, device)
    errors = None if poses_known else _pose_errors(truth, device)
    states = _states(truth, camera, len(angles), device)
    log_odds, angle_deg, state = [], [], []
    images_per_particle = max(1, len(store.images) // len(rows))
    n_templates = states.units.shape[1] + (0 if poses_known else N_TANGENTS)
    bytes_per_particle = BYTES_PER_PIXEL * images_per_particle * n_templates * store.box**2
    step = max(1, CHUNK_BYTES[torch.device(device).type] // bytes_per_particle)
    for start in range(0, len(rows), step):
        particles = np.arange(start, min(start + step, len(rows)))
        b, a = _projections(store, truth, camera, particles, angles, errors)
        if errors is not None:
            a, b = errors.marginal(a, b)
        score = torch.einsum("sf,pf->ps", states.units, b)
        score = score - torch.einsum("sf,pfg,sg->ps", states.units, a, states.units) / 2 + states.log_prior
        log_odds.append(_log_odds(score, states.presence))
        angle_deg.append(_mean_angle(score, states.angle, angles))
        state.append(_best_state(score, states.combination))
    return Inference(*map(np.concatenate, (log_odds, angle_deg, state)))


@dataclass(frozen=True)
class _States:
    """All states.

    units : (s, f) the templates of each state
    presence : (s, b) its blocks
    combination : (s,) the row of its combination in the truth
    angle : (s,) its angle's index, or -1
    """

    units: Tensor
    presence: Tensor
    combination: np.ndarray
    angle: np.ndarray
    log_prior: Tensor


def _states(truth: Truth, camera: Camera, n_angles: int, device: torch.device | str) -> _States:
    """List every combination of blocks that occurs, once for each angle if the moving block is present."""
    prior = np.bincount(truth.state, minlength=len(truth.state_presence)) / len(truth.state)
    with_core = np.insert(truth.state_presence, 0, True, axis=1)[:, camera.slices.still.cpu().numpy()]
    units, presence, combination, angle, log_prior = [], [], [], [], []
    for row, (still, blocks, probability) in enumerate(
        zip(with_core, truth.state_presence, prior, strict=True)
    ):
        moves = truth.moving_block >= 0 and blocks[truth.moving_block]
        for index in range(n_angles) if moves else [-1]:
            shown = np.zeros(n_angles)
            shown[index:][:1] = moves
            units.append(np.concatenate([still, shown]))
            presence.append(blocks)
            combination.append(row)
            angle.append(index)
            log_prior.append(np.log(probability / (n_angles if moves else 1)))
    return _States(
        units=torch.as_tensor(np.array(units), device=device, dtype=torch.float64),
        presence=torch.as_tensor(np.array(presence), device=device),
        combination=np.array(combination),
        angle=np.array(angle),
        log_prior=torch.as_tensor(np.array(log_prior), device=device, dtype=torch.float64),
    )


def _pose_errors(truth: Truth, device: torch.device | str) -> PoseErrors:
    """Return the tangents of the mean map of all particles, with the true pose deviations as their prior."""
    rotation, shift = np.radians(truth.pose_rotvec_deg), truth.pose_shift_A / truth.pixel_size_A
    mean = np.mean([truth.particle_volume(row) for row in range(len(truth.state))], axis=0)
    return PoseErrors(
        maps=tangents(torch.as_tensor(mean, dtype=torch.float32, device=device)),
        deviation=np.maximum([np.sqrt(np.square(error).mean()) for error in (rotation, shift)], LEAST),
        offset=torch.zeros(1, N_TANGENTS, device=device),
    )


def _projections(
    store: Store,
    truth: Truth,
    camera: Camera,
    particles: np.ndarray,
    angles: np.ndarray,
    errors: PoseErrors | None,
) -> tuple[Tensor, Tensor]:
    """Compute b (p, f) and A (p, f, f) of some particles, float64: templates against images and each other.

    With errors of poses the tangents are the last templates.
    """
    rows = store.images_of(particles)
    images = store.images.iloc[rows]
    device, hp = camera.device, camera.slices.half_plane
    premultiplied_data = bool(images.ctf_premultiplied.all())
    clean = _templates(camera, images, angles)
    if errors is not None:
        clean = torch.cat([clean, _tangent_images(camera, images, errors.maps)], dim=1)
    if premultiplied_data:
        clean = premultiplied(clean, images)
    templates = _windowed(clean, images, store, hp)
    data = store.half_planes(rows, device)
    data = data * torch.as_tensor(images.noise_scale.to_numpy("float32", copy=True), device=device)[:, None]
    # Convert to the recorded sign, protein dark: raw and premultiplied files have different signs.
    inverted = store.description["inverted"] == [True]
    if inverted == premultiplied_data:
        data = -data
    noise_std = max(truth.noise_std, LEAST_NOISE_STD)
    variance = noise_std**2 * _window(store, device).square().sum() / 2
    variance = variance.expand(len(images), hp.n)
    if premultiplied_data:
        weight = extraction_weight(image_parameters(images, device), hp.frequency)
        variance = variance * (weight.square() + LEAST_RELATIVE_NOISE)
    deviation = variance.sqrt()
    flat = torch.view_as_real(templates / deviation[:, None]).flatten(2)
    white = torch.view_as_real(data / deviation).flatten(1)
    b = torch.einsum("mfn,mn->mf", flat, white).double()
    a = torch.einsum("mfn,mgn->mfg", flat, flat).double()
    particle = torch.as_tensor(
        rows_of_all(images["particle"].to_numpy(), particles, store.folder), device=device
    )
    n, f = len(particles), templates.shape[1]
    return (
        torch.zeros(n, f, dtype=b.dtype, device=device).index_add_(0, particle, b),
        torch.zeros(n, f, f, dtype=a.dtype, device=device).index_add_(0, particle, a),
    )


def _templates(camera: Camera, images: pd.DataFrame, angles: np.ndarray) -> Tensor:
    """Image the core and each fixed block, then the moving block at every angle: clean (m, f, D, D)."""
    slices = camera.slices
    rotation = image_parameters(images, camera.device).rotation
    values, mass = slices.of_still(rotation).transpose(1, 2), slices.mass[slices.still]
    if len(angles):
        turned = slices.of_moving(rotation.repeat_interleave(len(angles), 0), np.tile(angles, len(images)))
        values = torch.cat([values, turned.reshape(len(images), len(angles), -1)], dim=1)
        mass = torch.cat([mass, slices.mass[slices.moving + 1].expand(len(angles))])
    return camera.develop(values, mass.expand(len(images), -1), images)


def _tangent_images(camera: Camera, images: pd.DataFrame, maps: Tensor) -> Tensor:
    """Image the tangents (6, D, D, D): clean (m, 6, D, D)."""
    rotation = image_parameters(images, camera.device).rotation
    values = MapSlices(maps).at(camera.slices.half_plane.frequency, rotation).transpose(1, 2)
    return camera.develop(values, maps.sum(dim=(1, 2, 3)).expand(len(images), -1), images)


def _window(store: Store, device: torch.device | str) -> Tensor:
    radii = store.description["preparation"]["window"]
    if radii is None:
        return torch.ones(store.box, store.box, device=device)
    return cosine_window(store.box, *radii, device=device)


def _windowed(templates: Tensor, images: pd.DataFrame, store: Store, hp: HalfPlane) -> Tensor:
    """Return half planes (m, f, n) of template images, windowed and shifted as the store's images were."""
    shift = shifts_px(images, templates.device)
    m, f = templates.shape[:2]
    planes = images_to_half_planes(templates.flatten(0, 1), _window(store, templates.device))
    return shift_half_planes(planes, shift.repeat_interleave(f, 0), hp).reshape(m, f, -1)


def _log_odds(score: Tensor, presence: Tensor) -> np.ndarray:
    """Compute log odds (p, b) from state scores (p, s) and presence (s, b)."""
    minus_infinity = torch.full_like(score, -torch.inf)
    columns = [score.new_zeros(len(score), 0)]
    for shown in presence.T:
        present, absent = (
            torch.logsumexp(torch.where(mask, score, minus_infinity), dim=1) for mask in (shown, ~shown)
        )
        varies = bool(shown.any()) and not bool(shown.all())
        odds = present - absent if varies else torch.full_like(present, torch.nan)
        columns.append(odds[:, None])
    return torch.cat(columns, dim=1).cpu().numpy()


def _mean_angle(score: Tensor, angle: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Compute the posterior mean angle (p,) from state scores (p, s)."""
    moves = angle >= 0
    if not moves.any():
        return np.zeros(len(score))
    posterior = torch.softmax(score[:, torch.as_tensor(moves, device=score.device)], dim=1).cpu().numpy()
    return posterior @ angles[angle[moves]]


def _best_state(score: Tensor, combination: np.ndarray) -> np.ndarray:
    """Return the most probable combination of blocks (p,) from state scores (p, s)."""
    members = [torch.as_tensor(combination == row, device=score.device) for row in np.unique(combination)]
    evidence = torch.stack([torch.logsumexp(score[:, mask], dim=1) for mask in members], dim=1)
    return evidence.argmax(1).cpu().numpy()
