"""Two fresh runs of one configuration choose the same particles, bit by bit."""

import json

import yaml
from test_end_to_end import TINY, snakemake

CHOSEN = ("all/subset/indices.pkl", "half/subset/indices.pkl")
CONFIG = TINY | {
    "latents": "linear",
    "simulate": TINY["simulate"] | {"n_particles": 24},
    "volumes": {"count": 24},
    "rounds": {"all": {}, "half": {"parent": "all", "select": "pc1 > 0 and kmeans <= 1"}},
}


def test_two_fresh_runs_choose_the_same_particles(tmp_path):
    runs = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        config = folder / "config.yaml"
        config.write_text(yaml.safe_dump(CONFIG))
        snakemake(folder, config, *(f"results/tiny/{file}" for file in CHOSEN))
        runs.append(folder / "results" / "tiny")
    first, second = runs
    for file in (*CHOSEN, "all/particles.parquet", "prepared/images.npy"):
        assert (first / file).read_bytes() == (second / file).read_bytes(), file
    counts = json.loads((first / "half/subset/summary.json").read_text())
    assert 0 < counts["n_particles"] < counts["n_parent"] == 24
