"""Particles of tomograms as a STAR file of RELION: coordinates, angles, labels.

ArtiaX (the ChimeraX extension) opens the file of one tomogram as a list of particles: it reads
rlnCoordinateX, ..., in pixels, and rlnAngleRot, ..., and offers further columns of numbers for colouring.
"""

import pandas as pd

from tomohet.mapback.labels import Labels

AXES = "XYZ"


def relion_coordinates(placed: pd.DataFrame, labels: Labels, pixel_size_A: float) -> pd.DataFrame:
    """Return the table of particles (n rows), with their centres in pixels from the tomogram's corner.

    placed : as `placements.read_placements` returns them; refined shifts are in the coordinates, so that
        origins are 0
    pixel_size_A : that of the coordinates, stated as rlnTomoTiltSeriesPixelSize

    rlnClassNumber is the label's number from 1.
    """
    table = pd.DataFrame({"rlnTomoName": placed["tomogram"].to_numpy()})
    for axis in AXES:
        table[f"rlnCoordinate{axis}"] = (placed[f"{axis.lower()}_A"].to_numpy() / pixel_size_A).round(4)
    for name in ("rot", "tilt", "psi"):
        table[f"rlnAngle{name.capitalize()}"] = placed[f"{name}_deg"].to_numpy().round(4)
    for axis in AXES:
        table[f"rlnOrigin{axis}Angst"] = 0.0
    table["rlnTomoTiltSeriesPixelSize"] = pixel_size_A
    table["rlnClassNumber"] = labels.code + 1
    return table
