"""Defocus of real particles: images premultiplied by Warp show the zeros of the CTF that Warp computed."""

from pathlib import Path

import numpy as np

from tomohet.files.mrc import read_sections
from tomohet.files.star import read_star
from tomohet.particles.dialects import read_particles

WARPTOOLS = "data/tomodrgn-tests/warptools_test_4-tomos_10-ptcls_box-32_angpix-12"
WAVELENGTH_A = 0.0196875  # 300 kV
SIGNIFICANT = 5.0  # standard errors


def power_of_ctf(images, defocus_u_A, defocus_v_A, frequency, azimuth):
    """CTF squared (n, pixels) of 300 kV images."""

    def column(values):
        return np.asarray(values, float)[:, None]

    u, v, angle = column(defocus_u_A), column(defocus_v_A), np.radians(column(images["defocus_angle_deg"]))
    defocus_A = (u + v) / 2 + (u - v) / 2 * np.cos(2 * (azimuth - angle))
    cs_A = column(images["cs_mm"]) * 1e7
    phase = (
        np.pi * WAVELENGTH_A * frequency**2 * defocus_A - np.pi / 2 * cs_A * WAVELENGTH_A**3 * frequency**4
    )
    return np.sin(phase + np.arcsin(column(images["amplitude_contrast"]))) ** 2


def test_depth_of_warptools_sets_has_the_sign_of_the_images(shared):
    """Power spectra fit defocus with depth better than without, and without better than reversed."""
    read = read_particles(shared / f"{WARPTOOLS}_optimisation_set.star")
    tomograms = read_star(shared / f"{WARPTOOLS}_tomograms.star")
    axis = np.fft.fftfreq(read.box, read.pixel_size_A)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    frequency = np.hypot(x, y)
    band = (frequency > 1 / 60) & (frequency < 0.47 / read.pixel_size_A)
    shell = np.digitize(frequency[band], np.linspace(1 / 60, 0.47 / read.pixel_size_A, 16)) - 1
    in_shell = np.eye(15)[shell]

    def without_radial_mean(log_power):
        return log_power - (log_power @ in_shell / in_shell.sum(axis=0))[:, shell]

    score = {sign: [] for sign in (1, 0, -1)}
    for stack, images in read.images.groupby("stack"):
        tilts = tomograms[read.particles["tomogram"][images["particle"].iloc[0]]].iloc[images["tilt"]]
        u, v = tilts["rlnDefocusU"].to_numpy(), tilts["rlnDefocusV"].to_numpy()
        depth_A = images["defocus_u_A"].to_numpy() - u
        pixels = read_sections(Path(stack), images["section"].to_numpy() - 1).astype(np.float64)
        spectra = np.abs(np.fft.fft2(pixels - pixels.mean(axis=(1, 2), keepdims=True))) ** 2
        seen = without_radial_mean(np.log(spectra[:, band] + 1e-12))
        for sign, scores in score.items():
            power = power_of_ctf(
                images, u + sign * depth_A, v + sign * depth_A, frequency[band], np.arctan2(y, x)[band]
            )
            model = without_radial_mean(np.log(power + 1e-3))
            scores.append((model * seen).sum(1) / np.sqrt((model**2).sum(1) * (seen**2).sum(1)))
    with_depth, without, reversed_depth = (np.concatenate(scores) for scores in score.values())
    for better, worse, least in (
        (with_depth, without, SIGNIFICANT),
        (with_depth, reversed_depth, SIGNIFICANT),
        (without, reversed_depth, 0.0),
    ):
        gain = better - worse
        assert gain.mean() > least * gain.std() / np.sqrt(len(gain))
