"""A tiny round of results, a foreign one of other particles, damage to their files, and who reads them."""

import shutil
from collections.abc import Callable
from pathlib import Path

import analysis_fakes as fakes
import numpy as np

from tomohet.analysis.siren.independence import latents_beside, population_beside
from tomohet.errors import InputError
from tomohet.files.digests import LIST

READ_LATER = (
    "prepared/store.yaml", "prepared/particles.parquet", "prepared/images.parquet", "prepared/images.npy",
    "all/subset/indices.pkl",
    "all/linear/weights.pkl", "all/linear/config.pkl", "all/linear/z.train.pkl", "all/linear/held_out.npz",
    "all/linear/particles.parquet",
    "all/states/particles.parquet",
    "all/train_vae/config.pkl", "all/train_vae/weights.pkl", "all/train_vae/z.train.pkl",
    "all/train_vae/weights.0.pkl", "all/train_vae/z.0.train.pkl", "all/train_vae/loss.csv",
    "all/train_vae/weights.1.pkl", "all/train_vae/z.1.train.pkl",
    "all/convergence/convergence.json",
    "all/volumes/z.pkl", "all/volumes/assignment.parquet",
    "all/particles.parquet",
    "simulated/truth.npz",
)  # fmt: skip


def make(root: Path, simulated: Path, store: Path, linear: Path, training: Path) -> Path:
    """Results of all particles of a store: folders that stages have left, and the later stages run here."""
    shutil.copytree(store, root / "prepared")
    shutil.copytree(linear, root / "all" / "linear")
    shutil.copytree(training, root / "all" / "train_vae")
    (root / "simulated").mkdir()
    for name in ("truth.npz", LIST):
        shutil.copy(simulated / name, root / "simulated" / name)
    everything = root / "all"
    fakes.run("select", root / "prepared" / "particles.parquet", "-o", everything / "subset" / "indices.pkl")
    fakes.run("states", root / "prepared", "--linear", everything / "linear", "-o", everything / "states")
    follow(root, everything / "convergence")
    fakes.run("choose_volumes", everything / "train_vae", "--count", 6, "-o", everything / "volumes")
    of = ("--zfile", everything / "volumes" / "z.pkl", "-o", everything / "volumes")
    fakes.run("eval_vol", "--workdir", everything / "train_vae", *of)
    table(root, everything / "particles.parquet")
    return root


def table(root: Path, output: Path) -> None:
    """The particle table of the round."""
    of = ("--ind-ptcls", root / "all" / "subset" / "indices.pkl", "--round-dir", root / "all")
    fakes.run("particle_table", root / "prepared", *of, "-o", output)


def follow(root: Path, out: Path) -> None:
    """The training followed through its epochs; no volumes, which take long."""
    options = ("--skip-umap", "--skip-volgen", "--epoch-interval", 1)
    fakes.run("convergence_vae", root / "all" / "train_vae", "-o", out, *options)


def _decode(root: Path, out: Path) -> None:
    """Volumes of both models, at the epochs' latents."""
    for model, epoch in (("linear", -1), ("train_vae", -1), ("train_vae", 0), ("train_vae", 1)):
        folder = root / "all" / model
        name = "z.train.pkl" if epoch == -1 else f"z.{epoch}.train.pkl"
        options = ("--epoch", epoch, "--zfile", folder / name, "--downsample", 4)
        fakes.run("eval_vol", "--workdir", folder, *options, "-o", out / f"{model}{epoch}")


def _sort_particles(root: Path, out: Path) -> None:
    particles = ("--ind-ptcls", root / "all" / "subset" / "indices.pkl")
    fakes.run("states", root / "prepared", *particles, "--linear", root / "all" / "linear", "-o", out)


def _reconstruct(root: Path, out: Path) -> None:
    fakes.run(
        "backproject_voxel", root / "prepared", "--ind-ptcls", root / "all/subset/indices.pkl", "-o", out
    )


def _select(root: Path, out: Path) -> None:
    fakes.run("select", root / "all" / "particles.parquet", "--query", "n_tilts > 0", "-o", out / "i.pkl")
    fakes.run("select", root / "prepared" / "particles.parquet", "-o", out / "all.pkl")


def _choose(root: Path, out: Path) -> None:
    epoch = ("--epoch", root / "all" / "convergence" / "convergence.json", "--count", 5)
    fakes.run("choose_volumes", root / "all" / "train_vae", *epoch, "-o", out)


def _weigh(root: Path, out: Path) -> None:
    out.mkdir(exist_ok=True)
    for name, read in (("weight", population_beside), ("z", latents_beside)):
        values = read(root / "all" / "volumes", np.arange(6))
        (out / f"{name}.txt").write_text("none" if values is None else str(values.tolist()))


def _assess(root: Path, out: Path) -> None:
    truth = ("--truth", root / "simulated" / "truth.npz", "--store", root / "prepared")
    fakes.run("assess", *truth, "--round-dir", root / "all", "-o", out)


READERS: dict[str, Callable[[Path, Path], None]] = {
    "reconstruct": _reconstruct, "states": _sort_particles, "table": lambda r, o: table(r, o / "t.parquet"),
    "select": _select, "convergence": follow, "choose": _choose, "decode": _decode, "weigh": _weigh,
    "assess": _assess,
}  # fmt: skip
READ_BY = {
    "prepared/": ("reconstruct", "states", "table", "select"),
    "all/subset": ("reconstruct", "table"),
    "all/linear/z": ("decode", "assess"), "all/linear/part": ("table",), "all/linear": ("states", "decode"),
    "all/states": ("table",),
    "all/train_vae/w": ("decode",), "all/train_vae/c": ("choose", "decode"),
    "all/train_vae": ("convergence", "choose", "decode"), "all/convergence": ("choose",),
    "all/volumes": ("weigh", "table"), "all/particles": ("select", "assess"), "simulated": ("assess",),
}  # fmt: skip


def readers_of(name: str) -> tuple[str, ...]:
    """Those who may read a file."""
    return next(readers for start, readers in READ_BY.items() if name.startswith(start))


def flip(path: Path, seed: int) -> None:
    """Change one bit somewhere in the file."""
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng([seed, len(content)])
    content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)


def _cut(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


DAMAGE: dict[str, Callable[[Path, Path], None]] = {
    "halved": lambda path, _: _cut(path, 0.5),
    "last_byte": lambda path, _: path.write_bytes(path.read_bytes()[:-1]),
    "emptied": lambda path, _: path.write_bytes(b""),
    "lengthened": lambda path, _: path.write_bytes(path.read_bytes() + b"\0" * 16),
    "garbage": lambda path, _: path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size)),
    "deleted": lambda path, _: path.unlink(),
    "foreign": lambda path, other: shutil.copy(other, path),
} | {f"bit_{seed}": lambda path, _, seed=seed: flip(path, seed) for seed in range(6)}


def outcome(reader: str, root: Path, out: Path) -> dict[str, bytes] | str:
    """The files that a reader writes, by name, or the one line in which it ends; others are errors.

    Of maps without the header, which has the time of writing.
    """
    try:
        READERS[reader](root, out)
    except (InputError, OSError) as mistake:
        return str(mistake)
    kept = (path for path in sorted(out.rglob("*")) if path.is_file() and path.suffix not in (".png", ".log"))
    kept = (path for path in kept if path.name[0] != ".")
    return {str(path.relative_to(out)): path.read_bytes()[1024 * (path.suffix == ".mrc") :] for path in kept}
