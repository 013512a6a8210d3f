"""The image-series dialects, each declared by the columns that its files must have.

The order is the order of recognition, from the most to the least specific. Files that fit several dialects
read the same in each, since columns have one meaning in all of them. Known overlaps: a Warp file without
micrograph names is a cryoSRPNT file; cryoDRGN-ET's files with rlnGroupName and rlnDetectorPixelSize are
Warp's; a NextPYP file without rlnTiltIndex is a RELION image series. cisTEM has its own columns.
"""

from tomohet.particles.dialects.image_series import ImageSeries
from tomohet.particles.dialects.series_columns import PARTICLE_ID_COLUMNS, TILT_COLUMNS

# The usual column comes first, since messages name the first one.
PARTICLE = ("rlnGroupName", *(c for c in PARTICLE_ID_COLUMNS if c.startswith("rln") and c != "rlnGroupName"))
PIXEL_SIZE = ("rlnImagePixelSize", "rlnDetectorPixelSize")
DOSE = ("rlnCtfBfactor", "rlnMicrographPreExposure")
TILT = ("rlnCtfScalefactor", *TILT_COLUMNS)
OPTICS = ("rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast")
POSE = (
    "rlnDefocusU",
    "rlnDefocusV",
    "rlnDefocusAngle",
    "rlnAngleRot",
    "rlnAngleTilt",
    "rlnAnglePsi",
)

CISTEM = ImageSeries(
    "cisTEM image series",
    ("cistem",),
    "one table with cisTEMPositionInStack, cisTEMParticleGroup, cisTEMPreExposure, angles and CTF",
    (
        "cisTEMPositionInStack",
        "cisTEMParticleGroup",
        "cisTEMPixelSize",
        ("cisTEMMicroscopeVoltagekV", "cisTEMVoltage"),
        ("cisTEMMicroscopeCsMM", "cisTEMCs"),
        "cisTEMAmplitudeContrast",
        "cisTEMDefocus1",
        "cisTEMDefocus2",
        "cisTEMDefocusAngle",
        "cisTEMAnglePhi",
        "cisTEMAngleTheta",
        "cisTEMAnglePsi",
        "cisTEMXShift",
        "cisTEMYShift",
        "cisTEMPreExposure",
    ),
)
TOMODRGN = ImageSeries(
    "tomoDRGN-preprocessed image series",
    ("tomodrgn_preprocessed",),
    "an image series with tomodrgnTotalDose and tomodrgnPseudoStageTilt",
    (
        "rlnImageName",
        PARTICLE,
        PIXEL_SIZE,
        *OPTICS,
        *POSE,
        "tomodrgnTotalDose",
        "tomodrgnPseudoStageTilt",
    ),
)
NEXTPYP = ImageSeries(
    "NextPYP image series",
    ("nextpyp",),
    "data_optics and data_particles with rlnGroupNumber, rlnTiltIndex, rlnOriginXAngst",
    (
        "rlnImageName",
        "rlnGroupNumber",
        "rlnImagePixelSize",
        *OPTICS,
        *POSE,
        "rlnOriginXAngst",
        "rlnOriginYAngst",
        DOSE,
        TILT,
        "rlnTiltIndex",
    ),
    optics=True,
)
RELION = ImageSeries(
    "RELION image series",
    ("relion",),
    "data_optics and data_particles with rlnImageName `N@stack`, a particle name, rlnCtfBfactor, "
    "rlnCtfScalefactor",
    ("rlnImageName", PARTICLE, PIXEL_SIZE, *OPTICS, *POSE, DOSE, TILT),
    optics=True,
)
WARP = ImageSeries(
    "Warp/M image series",
    ("warp",),
    "one table with the same, rlnGroupName and rlnMicrographName",
    (
        "rlnImageName",
        "rlnGroupName",
        "rlnDetectorPixelSize",
        *OPTICS,
        *POSE,
        DOSE,
        TILT,
        "rlnMicrographName",
    ),
    optics=False,
)
CRYOSRPNT = ImageSeries(
    "cryoSRPNT image series",
    ("cryosrpnt",),
    "one table with rlnImageName `N@stack`, rlnGroupName, rlnCtfBfactor, rlnCtfScalefactor, angles and CTF",
    ("rlnImageName", "rlnGroupName", "rlnDetectorPixelSize", *OPTICS, *POSE, DOSE, TILT),
    optics=False,
)
CRYODRGN = ImageSeries(
    "cryoDRGN-ET image series",
    ("cryodrgn",),
    "the same with rlnGroupName or rlnGroupNumber, and any pixel size",
    ("rlnImageName", PARTICLE, PIXEL_SIZE, *OPTICS, *POSE, DOSE, TILT),
)
IMAGE_SERIES = (CISTEM, TOMODRGN, NEXTPYP, RELION, WARP, CRYOSRPNT, CRYODRGN)
