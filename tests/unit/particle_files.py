"""Small particle files for tests: an image series and an optimisation set, with random images."""

from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd

BOX = 16
PIXEL_SIZE_A = 8.0
N_PARTICLES, N_TILTS = 6, 5


def write_stack(path: Path, images: np.ndarray, pixel_size_A: float = PIXEL_SIZE_A) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(images)
        mrc.set_image_stack()
        mrc.voxel_size = pixel_size_A


def image_table(rng: np.random.Generator) -> pd.DataFrame:
    """Rows of an image series: particles of two tomograms, one stack per tomogram."""
    n = N_PARTICLES * N_TILTS
    particle = np.repeat(np.arange(N_PARTICLES), N_TILTS)
    tomogram = particle % 2
    section = np.zeros(n, int)
    for number in (0, 1):
        section[tomogram == number] = np.arange((tomogram == number).sum()) + 1
    tilt = np.tile(np.arange(N_TILTS), N_PARTICLES)
    return pd.DataFrame(
        {
            "rlnImageName": [f"{s}@stacks/TS_{t}.mrcs" for s, t in zip(section, tomogram, strict=True)],
            "rlnMicrographName": [f"TS_{t}.tomostar" for t in tomogram],
            "rlnGroupName": [f"TS_{t}_{p:04d}" for t, p in zip(tomogram, particle, strict=True)],
            "rlnDetectorPixelSize": PIXEL_SIZE_A,
            "rlnVoltage": 300.0,
            "rlnSphericalAberration": 2.7,
            "rlnAmplitudeContrast": 0.07,
            "rlnPhaseShift": 0.0,
            "rlnDefocusU": rng.uniform(2e4, 4e4, n).round(1),
            "rlnDefocusV": rng.uniform(2e4, 4e4, n).round(1),
            "rlnDefocusAngle": rng.uniform(0, 180, n).round(3),
            "rlnAngleRot": rng.uniform(-180, 180, n).round(4),
            "rlnAngleTilt": rng.uniform(0, 180, n).round(4),
            "rlnAnglePsi": rng.uniform(-180, 180, n).round(4),
            "rlnOriginX": rng.uniform(-2, 2, n).round(4),
            "rlnOriginY": rng.uniform(-2, 2, n).round(4),
            "rlnCtfBfactor": -4.0 * 3 * tilt,
            "rlnCtfScalefactor": np.cos(np.radians(6.0 * tilt)).round(6),
            "rlnRandomSubset": particle % 2 + 1,
        }
    )


def write_text_star(path: Path, blocks: dict) -> Path:
    """A STAR file written by other code than the project's."""
    lines = ["# written by a test", ""]
    for name, block in blocks.items():
        lines += [f"data_{name}", ""]
        if isinstance(block, pd.DataFrame):
            lines += ["loop_", *(f"_{c} #{i}" for i, c in enumerate(block.columns, 1))]
            lines += ["  ".join(str(value) for value in row) for row in block.itertuples(index=False)]
        else:
            lines += [f"_{key}   {value}" for key, value in block.items()]
        lines += ["", ""]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines))
    return path


def write_image_series(folder: Path, seed: int = 0) -> tuple[Path, pd.DataFrame]:
    """An image series with its stacks; returns the STAR file and its table."""
    rng = np.random.default_rng(seed)
    table = image_table(rng)
    for number in (0, 1):
        depth = int(table["rlnImageName"].str.endswith(f"TS_{number}.mrcs").sum())
        images = rng.normal(size=(depth, BOX, BOX)).astype(np.float32)
        write_stack(folder / f"stacks/TS_{number}.mrcs", images)
    return write_text_star(folder / "particles.star", {"": table}), table


def optimisation_set_blocks(rng: np.random.Generator) -> tuple[dict, dict]:
    """Particles file and tomograms file of an optimisation set: 3 tomograms interleaved, tilts hidden."""
    names = [f"00{p % 3 + 1}" for p in range(N_PARTICLES)]
    visible = [[int(t != p % 3) for t in range(N_TILTS)] for p in range(N_PARTICLES)]
    particles = pd.DataFrame(
        {
            "rlnTomoName": names,
            "rlnTomoParticleName": [f"{name}/{p}" for p, name in enumerate(names)],
            **{f"rlnCoordinate{a}": rng.uniform(10, 40, N_PARTICLES).round(3) for a in "XYZ"},
            **{f"rlnAngle{a}": rng.uniform(0, 170, N_PARTICLES).round(3) for a in ("Rot", "Tilt", "Psi")},
            **{f"rlnOrigin{a}Angst": rng.uniform(-9, 9, N_PARTICLES).round(3) for a in "XYZ"},
            "rlnOpticsGroup": [p % 2 + 1 for p in range(N_PARTICLES)],
            "rlnImageName": [f"stacks/{name}/p{p}.mrcs" for p, name in enumerate(names)],
            "rlnTomoVisibleFrames": [str(v).replace(" ", "") for v in visible],
            "rlnRandomSubset": [p % 2 + 1 for p in range(N_PARTICLES)],
        }
    )
    optics = pd.DataFrame(
        {
            "rlnOpticsGroup": [1, 2],
            "rlnOpticsGroupName": ["a", "b"],
            "rlnSphericalAberration": 2.7,
            "rlnVoltage": 300.0,
            "rlnAmplitudeContrast": 0.07,
            "rlnCtfDataAreCtfPremultiplied": [1, 0],
            "rlnImagePixelSize": PIXEL_SIZE_A,
            "rlnImageSize": BOX,
        }
    )
    overview = pd.DataFrame(
        {
            "rlnTomoName": ["002", "003", "001"],
            "rlnTomoSizeX": 200,
            "rlnTomoSizeY": 210,
            "rlnTomoSizeZ": 220,
            "rlnTomoHand": [-1.0, 1.0, -1.0],
            "rlnTomoTiltSeriesPixelSize": 2.0,
        }
    )
    tomograms = {"global": overview}
    for number, name in enumerate(overview["rlnTomoName"]):
        angle = np.radians(np.array([0, 20, -20, 40, -40]) + number)
        rotation = [[[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]] for a in angle]
        tomograms[name] = pd.DataFrame(
            {
                **{
                    f"rlnTomoProj{a}": [
                        "[" + ",".join(f"{v:.9g}" for v in [*matrix[row], 0]) + "]" for matrix in rotation
                    ]
                    for row, a in enumerate("XYZ")
                },
                "rlnDefocusU": rng.uniform(2e4, 4e4, N_TILTS).round(1),
                "rlnDefocusV": rng.uniform(2e4, 4e4, N_TILTS).round(1),
                "rlnDefocusAngle": rng.uniform(0, 180, N_TILTS).round(2),
                "rlnCtfScalefactor": np.cos(angle).round(6),
                "rlnMicrographPreExposure": np.arange(N_TILTS) * 3.1 + number,
            }
        )
    blocks = {"general": {"rlnTomoSubTomosAre2DStacks": 1}, "optics": optics, "particles": particles}
    return blocks, tomograms


def write_optimisation_set(folder: Path, blocks: dict, tomograms: dict, only_visible: bool = False) -> Path:
    """The three STAR files and the stacks, which hold all tilts or only the visible ones."""
    write_text_star(folder / "particles.star", blocks)
    write_text_star(folder / "tomograms.star", tomograms)
    for number, row in blocks["particles"].iterrows():
        visible = np.array([flag == "1" for flag in row["rlnTomoVisibleFrames"].strip("[]").split(",")])
        images = np.random.default_rng(number).normal(size=(N_TILTS, BOX, BOX)).astype(np.float32)
        write_stack(folder / row["rlnImageName"], images[visible] if only_visible else images)
    files = {"rlnTomoParticlesFile": "particles.star", "rlnTomoTomogramsFile": "tomograms.star"}
    return write_text_star(folder / "particles_optimisation_set.star", {"": files})
