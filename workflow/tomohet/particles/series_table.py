"""The image table as an image series, for sets of particles and every dialect without rlnImageName.

The first columns are those of a cryoSRPNT image series, in its order, which tomoDRGN, cryoDRGN-ET and Warp
know. tomoDRGN reads the file with `--source-software cryosrpnt`.
"""

import numpy as np
import pandas as pd

from tomohet.particles.dialects.series_columns import B_FACTOR_PER_DOSE, OWN_COLUMNS
from tomohet.particles.table import ParticleSet
from tomohet.physics.geometry import matrix_to_euler

POSITION_COLUMNS = {"rlnCoordinateX": "x_A", "rlnCoordinateY": "y_A", "rlnCoordinateZ": "z_A"}


def series_table(particle_set: ParticleSet, names: list[str], box: int) -> pd.DataFrame:
    """Tabulate the rows of an image series, one per image in the set's order, for images cropped to `box` px.

    names : the images' new names `N@stack`

    Shifts and positions are in pixels of the new images; angles are those of each image. Flags for which no
    program has a column are written as `OWN_COLUMNS`, where an image has them.
    """
    images = particle_set.images
    particles = particle_set.particles.iloc[images["particle"].to_numpy()].reset_index(drop=True)
    coarser = particle_set.box / box
    angles = matrix_to_euler(particle_set.rotations())
    pixel_size_A = images["pixel_size_A"] * coarser
    table = {
        "rlnImageName": names,
        "rlnDetectorPixelSize": pixel_size_A,
        "rlnDefocusU": images["defocus_u_A"],
        "rlnDefocusV": images["defocus_v_A"],
        "rlnDefocusAngle": images["defocus_angle_deg"],
        "rlnVoltage": images["voltage_kV"],
        "rlnSphericalAberration": images["cs_mm"],
        "rlnAmplitudeContrast": images["amplitude_contrast"],
        "rlnPhaseShift": images["phase_shift_deg"],
        "rlnAngleRot": angles[:, 0],
        "rlnAngleTilt": angles[:, 1],
        "rlnAnglePsi": angles[:, 2],
        "rlnOriginX": images["shift_x_px"] / coarser,
        "rlnOriginY": images["shift_y_px"] / coarser,
        "rlnCtfBfactor": B_FACTOR_PER_DOSE * images["dose_e_A2"] + 0.0,
        "rlnCtfScalefactor": np.cos(np.radians(images["tilt_deg"])),
        "rlnGroupName": particles["source_id"].astype(str),
        "rlnMicrographName": particles["tomogram"].astype(str),
        "rlnTomoName": particles["tomogram"].astype(str),
        "rlnImageSize": np.full(len(images), box),
    }
    if np.isfinite(particles[list(POSITION_COLUMNS.values())].to_numpy(np.float64)).all():
        table |= {name: particles[place] / pixel_size_A for name, place in POSITION_COLUMNS.items()}
    if particles["half"].notna().any():
        table["rlnRandomSubset"] = particles["half"].fillna(0).astype(int)
    if images["ctf_premultiplied"].any():
        table["rlnCtfDataAreCtfPremultiplied"] = images["ctf_premultiplied"].astype(int)
    for name, (column, usual) in OWN_COLUMNS.items():
        if name in images and (images[name] != usual).any():
            table[column] = images[name].astype(float)
    return pd.DataFrame(table)
