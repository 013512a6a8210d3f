"""Imaging conditions of each particle, which its latents must not follow."""

import numpy as np
import pandas as pd

from tomohet.answers import Answer
from tomohet.particles.copies import numbered_sources
from tomohet.particles.table import ROTATION_COLUMNS


def imaging_conditions(store, particles: np.ndarray) -> pd.DataFrame:
    """Tabulate how each of `particles` (store ordinals, (n,)) was imaged, one row per particle.

    Columns: n_tilts; means over the tilt images of dose (e/Å²), defocus, astigmatism (Å) and noise_scale
    (divisor of the raw images in the store); tomogram; view_x, view_y, view_z, the direction of the beam at
    the lowest tilt in the volume's frame (unit vector); r00 to r22, the rotation (volume -> image) of that
    tilt image; source, the number of the particle whose images each particle has, if there are symmetry
    copies.
    """
    counts = np.diff(store.offsets)[particles]
    rows = store.images_of(particles)
    owner = np.repeat(np.arange(len(particles)), counts)

    def column(name: str) -> np.ndarray:
        """One column is taken at a time: all would be a second table of images."""
        return store.images[name].to_numpy(np.float64)[rows]

    def mean(values: np.ndarray) -> np.ndarray:
        sums = np.bincount(owner, weights=values, minlength=len(particles))
        return sums / np.maximum(counts, 1)

    order = np.lexsort((np.abs(column("tilt_deg")), owner))
    lowest = rows[order[np.unique(owner[order], return_index=True)[1]]]
    rotation = store.images[list(ROTATION_COLUMNS)].iloc[lowest].to_numpy(np.float64)
    defocus_u, defocus_v = column("defocus_u_A"), column("defocus_v_A")
    table = pd.DataFrame(
        {
            "n_tilts": counts,
            "mean_dose_e_A2": mean(column("dose_e_A2")),
            "defocus_A": mean((defocus_u + defocus_v) / 2),
            "astigmatism_A": mean(np.abs(defocus_u - defocus_v)),
            "noise_scale": mean(column("noise_scale")),
            "tomogram": store.particles["tomogram"].astype(str).to_numpy()[particles],
            # The beam is the third row of the rotation from the volume to the image.
            **dict(zip(("view_x", "view_y", "view_z"), rotation[:, 6:].T, strict=True)),
            **dict(zip(ROTATION_COLUMNS, rotation.T, strict=True)),
        }
    )
    source = numbered_sources(store.particles, particles)
    return table if source is None else table.assign(source=source)


def audit_answer(described: list[dict]) -> Answer:
    """Summarise the leak audit: which conditions of imaging the latents follow.

    described : a line for each condition: meaning, verdict (`analysis.leaks.describe`)
    """
    raised = [line for line in described if line["verdict"] in ("look", "leak")]
    if not raised:
        return Answer("Leak audit", "good", "No latent follows how a particle was imaged.")
    said = []
    followed = [line for line in raised if line.get("nuisance") != "movement"]
    if followed:
        names = ", ".join(dict.fromkeys(line["meaning"].split(":", maxsplit=1)[0] for line in followed))
        said.append(f"Latents may follow: {names}.")
    for line in raised:
        if line not in followed:
            said.append(
                f"Component {line['pc']:.0f} resembles a movement of the whole particle: wrong poses, or a "
                "large part that comes, goes or moves."
            )
    level = "bad" if any(line["verdict"] == "leak" for line in raised) else "look"
    return Answer("Leak audit", level, " ".join(said))
