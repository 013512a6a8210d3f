"""Changes of the code that a unit test should detect, and the tests of the changed files."""

from typing import NamedTuple


class Mutant(NamedTuple):
    """A change: `original` in `file` (below workflow/tomohet), where it occurs once, becomes `mutated`."""

    file: str
    original: str
    mutated: str


# Test files in tests/unit of every file that is changed.
TESTS = {
    "analysis/maven/calibration.py": ["test_maven_amplitudes.py"],
    "analysis/maven/occupancy.py": ["test_maven_amplitudes.py"],
    "analysis/neighbours.py": ["test_neighbours.py"],
    "analysis/siren/bits.py": ["test_siren_pairs.py"],
    "analysis/siren/pairs.py": ["test_siren_pairs.py"],
    "analysis/siren/popcount.py": ["test_siren_pairs.py"],
    "analysis/siren/statistics.py": ["test_siren_pairs.py"],
    "linear/em.py": ["test_fitted_maps.py", "test_linear.py"],
    "linear/likelihood.py": ["test_fitted_maps.py", "test_linear.py", "test_tilt_shifts.py"],
    "linear/fitted_maps.py": ["test_fitted_maps.py"],
    "linear/prediction.py": ["test_linear_prediction.py"],
    "mapback/placements.py": ["test_mapback.py"],
    "particles/volume_series.py": ["test_mapback.py"],
    "mapback/scene.py": ["test_mapback.py"],
    "model/decoder.py": ["test_model.py"],
    "model/kernels/encoding.py": ["test_kernels.py"],
    "model/kernels/last_layer.py": ["test_kernels.py"],
    "model/kernels/lower_gradient.py": ["test_kernels.py"],
    "model/loss.py": ["test_model.py"],
    "particles/extraction_filter.py": ["test_extraction_filter.py"],
    "particles/filter_profile.py": ["test_filter_profile.py"],
    "particles/noise_levels.py": ["test_noise_levels.py"],
    "particles/store.py": ["test_store.py"],
    "particles/store_writing.py": ["test_store.py"],
    "training/held_out.py": ["test_analysis_convergence.py"],
    "training/untaught.py": ["test_until_converged.py::test_gain_of_own_volumes_by_hand"],
    "physics/backprojection.py": ["test_backprojection.py"],
    "physics/ctf.py": ["test_physics_imaging.py"],
    "physics/dose.py": ["test_physics_imaging.py"],
    "physics/lattice.py": ["test_physics_fourier.py"],
    "physics/fourier_grids.py": ["test_physics_fourier.py"],
    "physics/fsc.py": ["test_physics_fsc_masks.py"],
    "physics/geometry.py": ["test_physics_imaging.py"],
    "physics/imaging.py": ["test_physics_imaging.py"],
    "physics/insertion.py": ["test_backprojection.py"],
    "physics/resampling.py": ["test_rescale.py"],
    "physics/shells.py": ["test_shells.py", "test_backprojection.py"],
    "physics/slicing.py": ["test_slicing.py", "test_backprojection.py"],
    "reconstruction/half_maps.py": [
        "test_observations.py",
        "test_half_maps.py::test_signal_to_noise_from_fsc",
    ],
    "reconstruction/noise.py": ["test_windowed_noise.py", "test_noise_levels.py"],
    "reconstruction/observations.py": ["test_observations.py"],
    "reconstruction/prior.py": ["test_map_prior.py"],
    "serving/guard.py": ["test_serve.py"],
    "serving/means.py": ["test_serve_requests.py"],
    "serving/models.py": ["test_serve_requests.py"],
    "serving/results_files.py": ["test_serve.py"],
    "report/cell.py": ["test_report_cell.py"],
    "report/codec.py": ["test_report_volumes.py"],
    "report/compare.py": ["test_report_volumes.py"],
    "report/spaces.py": ["test_report_volumes.py"],
    "report/codes.py": ["test_report_tables.py"],
    "report/view.py": ["test_report_tables.py"],
    "rounds/polygons.py": ["test_polygons.py"],
}

# Each file's changes of the forward model, of signs, axes, factors and limits. Those of the first list once
# went unnoticed; their tests were written for them.
FOUND_TO_SURVIVE = [
    Mutant("physics/dose.py", "limit_px, right=True", "limit_px, right=False"),
    Mutant("physics/backprojection.py", "torch.where(mirrored, values.conj(), values)", "values"),
    Mutant("physics/imaging.py", "g, h = g * cosine, h * cosine", "g, h = g, h * cosine"),
    Mutant("linear/fitted_maps.py", "unit * mean.volume.to", "mean.volume.to"),
    Mutant("linear/fitted_maps.py", "unit**2 * mean.power", "mean.power"),
    Mutant("linear/fitted_maps.py", "unit**2 * self.basis_variance", "unit * self.basis_variance"),
    Mutant("linear/fitted_maps.py", "unit * self.basis.to", "self.basis.to"),
    Mutant("linear/fitted_maps.py", "self.scale / store.scale", "store.scale / self.scale"),
    Mutant("linear/fitted_maps.py", "unit**2 * variance", "unit * variance"),
    Mutant("linear/fitted_maps.py", "px * self.pixel_size_A / store.pixel_size_A", "px"),
    Mutant(
        "linear/fitted_maps.py",
        "return relative * torch.as_tensor(store.noise_factor[rows], device=device)",
        "return relative",
    ),
    Mutant("reconstruction/observations.py", "1 / own_gain, own_gain)", "own_gain, own_gain)"),
    Mutant("reconstruction/observations.py", "numerator=gain / factor * data", "numerator=gain * data"),
    Mutant("reconstruction/observations.py", "return h * own_gain, g", "return h, g"),
    Mutant("physics/fsc.py", "shell >= first_shell + 2", "shell >= first_shell"),
    Mutant(
        "model/decoder.py",
        "torch.cat(((real - imaginary) / 2, (real + imaginary) / 2))",
        "torch.cat(((real + imaginary) / 2, (real - imaginary) / 2))",
    ),
    Mutant("model/decoder.py", "frequencies=self.freqs * (self.extent / 0.5)", "frequencies=self.freqs"),
    Mutant("model/kernels/encoding.py", "tl.cos(phase)", "tl.sin(phase)"),
    Mutant("model/kernels/last_layer.py", "by_a, by_b = 2.0 * w", "by_a, by_b = 1.0 * w"),
    Mutant("model/kernels/lower_gradient.py", "total += tl.sum(one, 0)", "total = tl.sum(one, 0)"),
    Mutant("model/loss.py", "(beta - kl) ** 2 / full_plane_points", "(beta - kl) ** 2"),
    Mutant("analysis/siren/pairs.py", "worth = (voxels.weighted or volumes) / volumes", "worth = 1.0"),
    Mutant("analysis/siren/pairs.py", "len(rows) * (n - 1), log10_p", "len(rows) * (n - 1) // 2, log10_p"),
    Mutant("analysis/siren/pairs.py", "- volumes + n_i + n_j", "- volumes + n_i"),
    Mutant(
        "analysis/siren/popcount.py",
        "if n11 < needed[0] or i == j or _distance_A(xyz_A, i, j) <= max(noise_A[i], noise_A[j]):",
        "if n11 < needed[0] or i == j or _distance_A(xyz_A, i, j) <= min(noise_A[i], noise_A[j]):",
    ),
    Mutant(
        "analysis/siren/popcount.py",
        "if n11 < needed[0] or i == j or _distance_A(xyz_A, i, j) <= max(noise_A[i], noise_A[j]):",
        "if n11 < needed[0] or i == j:",
    ),
    Mutant(
        "analysis/maven/occupancy.py",
        "single = single - measured.background",
        "single = single + measured.background",
    ),
    Mutant(
        "analysis/maven/occupancy.py",
        "return sums / units.table.mass.to_numpy()",
        "return sums / units.table.mass.to_numpy().mean()",
    ),
    Mutant("analysis/maven/calibration.py", "1.4826 * deviation / level", "deviation / level"),
    Mutant(
        "analysis/maven/calibration.py",
        "straddles, (modes.cut - modes.low_mode) / (modes.high_mode - modes.low_mode), modes.cut",
        "straddles, modes.cut, modes.cut",
    ),
    Mutant(
        "particles/volume_series.py", "shift_px * coordinate_pixel_sizes_A(series, pixel_size_A)", "shift_px"
    ),
    Mutant(
        "particles/store.py",
        'return (usual / self.images["noise_scale"])',
        'return (self.images["noise_scale"] / usual)',
    ),
]

FURTHER = [
    Mutant("physics/ctf.py", "kx**2 - ky**2, 2 * kx * ky", "kx**2 - ky**2, -2 * kx * ky"),
    Mutant("physics/ctf.py", "- torch.asin(", "+ torch.asin("),
    Mutant("physics/ctf.py", "wavelength**3 / pixel**4", "wavelength**3 / pixel**2"),
    Mutant("physics/dose.py", "torch.exp(-0.5 * dose", "torch.exp(-1.0 * dose"),
    Mutant("physics/dose.py", "/ (_OPTIMAL * _voltage_factor(voltage_kV))", "/ _OPTIMAL"),
    Mutant("physics/geometry.py", "-cg * sb]", "cg * sb]"),
    Mutant("physics/imaging.py", "h = torch.where(premultiplied, ctf.square(), ctf)", "h = ctf"),
    Mutant(
        "physics/imaging.py",
        "g = torch.where(premultiplied, torch.ones_like(ctf), ctf)",
        "g = ctf",
    ),
    Mutant("physics/lattice.py", "angle = -2 * math.pi * (x", "angle = 2 * math.pi * (x"),
    Mutant("physics/lattice.py", "0] + y * hp.frequency[:, 1]", "1] + y * hp.frequency[:, 0]"),
    Mutant("physics/fourier_grids.py", "np.roll(volume[::-1], 1, axis=0)", "volume[::-1]"),
    Mutant("physics/fourier_grids.py", "(box / full) ** 3", "(box / full) ** 2"),
    Mutant("physics/fourier_grids.py", "spectrum[..., half] /= 2", "pass"),
    Mutant("physics/slicing.py", "torch.sinc(position / (PADDING * box)) ** 2", "torch.sinc(position / box)"),
    Mutant(
        "physics/slicing.py", "k.to(rotation.dtype) @ rotation[:, :2, :]", "k.float() @ rotation.mT[:, :2]"
    ),
    Mutant("physics/slicing.py", "x, y, z = (torch.stack", "z, y, x = (torch.stack"),
    Mutant("physics/backprojection.py", "roll((1, 1), (0, 1)).conj()", "roll((1, 1), (0, 1))"),
    Mutant("physics/shells.py", "torch.ceil(radius - 1e-4)", "torch.round(radius)"),
    Mutant("physics/insertion.py", "-x, -y, -z, -imaginary", "-x, -y, -z, imaginary"),
    Mutant("physics/resampling.py", "* (pixel_size_A / target_A) ** 2", "* (pixel_size_A / target_A)"),
    Mutant("physics/shells.py", "multiplicity[0] = multiplicity[-1] = 1.0", "multiplicity[0] = 1.0"),
    Mutant("physics/fsc.py", "(high - threshold) / (high - low)", "(threshold - low) / (high - low)"),
    Mutant("linear/likelihood.py", "rows, 2 * (slices", "rows, (slices"),
    Mutant("linear/likelihood.py", "else 2 * variance[:", "else variance[:"),
    Mutant("linear/likelihood.py", "observations.spectral_shell", "observations.shell"),
    Mutant("physics/shells.py", "shell_of(radius - 0.5)", "shell_of(radius - 0.25)"),
    Mutant("linear/likelihood.py", "self.mean[:, None] + self.cov", "self.mean[:, None] - self.cov"),
    Mutant("linear/em.py", "chunk.weight[..., None] * second", "chunk.weight[..., None].sqrt() * second"),
    Mutant("linear/fitted_maps.py", "dim1=1, dim2=2).log())", "dim1=1, dim2=2))"),
    Mutant("linear/prediction.py", "_quadratic(both, sum_b) - _quad", "_quadratic(both, sum_b) + _quad"),
    Mutant("linear/prediction.py", "torch.logdet(precision) - ", "-torch.logdet(precision) + "),
    Mutant("reconstruction/half_maps.py", "weights = g * data, g * h", "weights = g * data, h"),
    Mutant("reconstruction/half_maps.py", "return 2 * usable / (1 + usable)", "return usable"),
    Mutant("reconstruction/noise.py", "weight=chunk.weight / variance", "weight=chunk.weight"),
    Mutant("reconstruction/noise.py", "level + shrunk(_log_ratio", "level - shrunk(_log_ratio"),
    Mutant("reconstruction/prior.py", "torch.sqrt(power / box**3)", "torch.sqrt(power)"),
    Mutant("particles/extraction_filter.py", "(share - CUT)", "(CUT - share)"),
    Mutant("particles/filter_profile.py", "log_power.numpy() / 2", "log_power.numpy()"),
    Mutant("particles/noise_levels.py", "spread * count / (spread * count + 1)", "spread * count"),
    Mutant(
        "particles/store_writing.py",
        "shift_half_planes(torch.view_as_complex(parts), s",
        "shift_half_planes(torch.view_as_complex(parts), -s",
    ),
    Mutant("particles/store_writing.py", "transforms) * signs[", "transforms) / 1 + 0 * signs["),
    Mutant(
        "model/decoder.py", "torch.stack((torch.ones_like(sign), sign), dim=1)", "torch.ones_like(k[:, :2])"
    ),
    Mutant("model/decoder.py", "(minus - plus) / 2), dim=1", "(plus - minus) / 2), dim=1"),
    Mutant("model/loss.py", "-0.5 * (1 + logvar - mu**2", "-0.5 * (1 - logvar - mu**2"),
    Mutant("model/loss.py", "return beta * kl / full_plane_points", "return beta * kl"),
    Mutant("analysis/siren/pairs.py", "np.maximum(present, absent)) + 1)", "np.maximum(present, absent)))"),
    Mutant("analysis/siren/pairs.py", "kinds[:, None] - needed", "kinds[:, None] - needed + 1"),
    Mutant("analysis/siren/popcount.py", "n11 * volumes - n_i * n_j", "n11 * volumes + n_i * n_j"),
    Mutant(
        "analysis/siren/popcount.py",
        "elif _distance_A(xyz_A, i, j) <= max(",
        "elif _distance_A(xyz_A, i, j) <= min(",
    ),
    Mutant("analysis/siren/statistics.py", "np.ceil(needed - 1e-9)", "np.floor(needed - 1e-9)"),
    Mutant("analysis/siren/statistics.py", "if distance_A >= FAR_A:", "if distance_A < 0:"),
    Mutant("analysis/siren/bits.py", "first[word] & second[word]", "first[word] | second[word]"),
    Mutant("analysis/maven/occupancy.py", "overlap / own[:, None], rcond", "overlap / own, rcond"),
    Mutant(
        "analysis/maven/calibration.py", "np.log(share_low / share_high)", "np.log(share_high / share_low)"
    ),
    Mutant(
        "analysis/maven/calibration.py",
        "values > 0.5 * level\n        before",
        "values > 0 * level\n        before",
    ),
    Mutant("mapback/placements.py", "= position_A - origin_A", "= position_A + origin_A"),
    Mutant("mapback/scene.py", ".to_numpy() - rotation @ centre_A", ".to_numpy() - centre_A"),
    Mutant("mapback/scene.py", "(box // 2) * pixel_size_A", "(box / 2 + 0.5) * pixel_size_A"),
    Mutant("serving/guard.py", "if _name(host) not in OWN_NAMES:", "if False:"),
    Mutant("serving/guard.py", "if origin is not None and origin != ", "if origin is None and origin != "),
    Mutant("serving/guard.py", "if origin is None and request.method not in READING:", "if False:"),
    Mutant("serving/results_files.py", "not path.is_relative_to(root.resolve()) or not", "not"),
    Mutant("serving/means.py", "+ content_digest(*known, particles)", "+ content_digest(*known)"),
    Mutant("serving/models.py", "volume = maps[0]", "volume = -maps[0]"),
    Mutant("analysis/neighbours.py", '"mji,mj->mi"', '"mij,mj->mi"'),
    Mutant(
        "analysis/neighbours.py",
        "np.lexsort((rng.random(len(labels)), tomograms))",
        "np.argsort(rng.random(len(labels)))",
    ),
    Mutant("analysis/neighbours.py", "min(1.0, 2 * min(below, above))", "min(below, above)"),
    Mutant("analysis/neighbours.py", "np.arange(len(rows), 0, -1)", "1"),
    Mutant("report/cell.py", "pose[:, :, 2]", "pose[:, 2, :]"),
    Mutant("report/codec.py", "root * (rest @ rest.T) * root.T", "rest @ rest.T"),
    Mutant("report/codec.py", "[row + zero for row, _ in coded]", "[row for row, _ in coded]"),
    Mutant("report/compare.py", "np.std((first - second) / 2)", "np.std(first - second)"),
    Mutant("report/spaces.py", "[0].numpy() - mean for j", "[0].numpy() for j"),
    Mutant(
        "report/codes.py", "np.rint((numbers[known] - low) / step)", "np.floor((numbers[known] - low) / step)"
    ),
    Mutant(
        "report/codes.py",
        "codes = np.full(len(numbers), missing, kind)",
        "codes = np.zeros(len(numbers), kind)",
    ),
    Mutant("report/view.py", "/ (n - cells)", "/ n"),
    Mutant("rounds/polygons.py", "found ^= spans", "found |= spans"),
    Mutant("rounds/polygons.py", "(y1 > y) != (y2 > y)", "(y1 > y) != (y2 >= y)"),
    Mutant("rounds/polygons.py", "sign = -1.0 if", "sign = 1.0 if"),
]

CONVERGENCE = [
    Mutant("training/held_out.py", "if share < SETTLED", "if share < 2 * SETTLED"),
    Mutant("training/held_out.py", "gain > LEARNT_NATS * row", "gain > 0 * row"),
    Mutant("training/held_out.py", ".iloc[-fallen:].all()", ".any()"),
    Mutant("training/held_out.py", "max(FALLEN, int((_share_done(shown) > 0.75).sum()))", "FALLEN"),
    Mutant("training/held_out.py", "if len(shown) >= WITHOUT_GAIN", "if len(shown)"),
    Mutant("training/untaught.py", "(common - own) / self.noise", "(own - common) / self.noise"),
    Mutant("training/untaught.py", "replace(self.data, rows_per_image=1.0)", "self.data"),
]
MUTANTS = [*FOUND_TO_SURVIVE, *FURTHER, *CONVERGENCE]
