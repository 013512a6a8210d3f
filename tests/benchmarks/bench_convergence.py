"""Whether the epoch at which a training is called converged is a good one, over data, networks and seeds.

    python tests/benchmarks/bench_convergence.py --folder DIR [--seeds 0 1 2] [--repeats 2] [--only SET ...]

Each training of `DATA_SETS` is long. Its verdict is taken after every judgement of held-out tilt images, as
if the training had ended there (`training.held_out.judge_held_out`). The accuracy of an epoch is the mean
correlation, inside of a sphere, of the particles' decoded maps with their true maps, both less the mean true
map. For a network that starts from the linear model, the latents of an epoch are those that a training which
ends there would infer.

"lost" is the accuracy of the epoch used below that of the best epoch, in per cent of the latter. Used is the
epoch that the analysis would choose (`analysis.verdict.epoch_to_use`) if the training had ended at the first
judgement that says converged or overfitting, or else at the last. An epoch that loses more than 5 % is
under-trained; the last two columns count such epochs that were judged, and those of them that were called
converged. Trainings are kept in DIR.
"""

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from simulated_sets import command, simulated
from states_scores import truth_of

from tomohet.analysis.verdict import epoch_to_use
from tomohet.files.pickles import load_latents
from tomohet.linear.saved_model import SavedModel
from tomohet.model.config_file.reading import read_vae_settings
from tomohet.model.load import load_model, load_vae, read_weights
from tomohet.particles.store import open_store
from tomohet.physics.masks import sphere_mask
from tomohet.simulation.assessment import RoundTruth
from tomohet.training.batches import ParticleImages
from tomohet.training.held_out import judge_held_out, preferred_epochs
from tomohet.training.settings import loss_rows
from tomohet.training.splits import TiltSplit
from tomohet.training.teaching import teach

SHOWN = 100  # particles in the accuracy
WITHIN = 0.05
EVERY_OF_UNTAUGHT = 2  # epochs between judgements whose accuracy is computed
CPU = torch.device("cpu")
BOX = "--box 24 --pixel-size 16 --dialect warp --pose-error-deg 2 --pose-error-A 2"
NESTED = [
    {"name": "S1", "mass": 0.09, "frequency": 0.6},
    {"name": "S2", "mass": 0.06, "frequency": 0.5, "host": "S1"},
    {"name": "S3", "mass": 0.04, "frequency": 0.88},
    {"name": "S4", "mass": 0.07, "frequency": 0.12},
]
TWO = [{"name": "S1", "mass": 0.08, "frequency": 0.5}]


@dataclass(frozen=True)
class DataSet:
    """What is simulated, and the networks that are trained on it: their names and options."""

    simulation: str
    blocks: list[dict]
    taught: bool
    networks: dict[str, str]

    def run(self, folder: Path, name: str, network: str, seed: int, repeat: int = 0) -> Path:
        """Simulate, prepare and train what is not there yet; return the training's folder.

        repeat : number of a further training on the same data, with other weights and other held-out tilts
        """
        place = folder / f"{name}.{seed}".replace(", ", "-").replace(" ", "-")
        simulated(place, *f"{BOX} {self.simulation} --seed {seed}".split(), blocks=self.blocks)
        linear, run = place / "linear", place / (network + f" {repeat}" * bool(repeat)).replace(" ", "-")
        if self.taught and not (linear / "config.pkl").is_file():
            command("train_linear", place / "prepared", "-o", linear)
        if not (run / "weights.pkl").is_file():
            options = f"{self.networks[network]} --checkpoint 1 --seed {seed + 100 * repeat}".format(
                linear=linear
            )
            command("train_vae", place / "prepared", "-o", run, *options.split())
        return run


TAUGHT = "--init {linear} -n 24 -b 8 --lr 3e-4 --rows-per-image 0.25 --l-dose-mask"
UNTAUGHT = (
    "--zdim 8 -n 40 -b 8 --lr 1e-3 --rows-per-image 0.5 --l-dose-mask --recon-dose-weight "
    "--recon-tilt-weight --fraction-train 0.9 --enc-dim-A 64 --enc-dim-B 64"
)
OF_TAUGHT = {
    "3x128": f"{TAUGHT} --dec-dim 128",
    "3x64": f"{TAUGHT} --dec-dim 64",
    "3x64 slow": f"{TAUGHT} --dec-dim 64 --lr 5e-5",
}
OF_UNTAUGHT = {"3x64": f"{UNTAUGHT} --dec-dim 64", "2x128": f"{UNTAUGHT} --dec-dim 128 --dec-layers 2"}
# Few particles, a large network, a high learning rate, many epochs: it learns the noise.
OF_FEW = {"3x256": f"{TAUGHT} --dec-dim 256 -n 60 --lr 1e-3 --rows-per-image 0.5"}
OF_UNTAUGHT_FEW = {"3x128": f"{UNTAUGHT} --dec-dim 128 -n 80 -b 4"}
DATA_SETS = {
    "nested": DataSet("--particles 150 --snr 0.08", NESTED, True, OF_TAUGHT),
    "nested, SNR 0.03": DataSet("--particles 150 --snr 0.03", NESTED, True, OF_TAUGHT),
    "nested, 80 particles": DataSet("--particles 80 --snr 0.08", NESTED, True, OF_TAUGHT),
    "two, SNR 0.03": DataSet("--particles 100 --snr 0.03", TWO, True, OF_TAUGHT),
    "few nested": DataSet("--particles 30 --snr 0.05", NESTED, True, OF_FEW),
    "untaught nested": DataSet("--particles 200 --snr 1 --tilt-step 12", NESTED, False, OF_UNTAUGHT),
    "untaught two": DataSet("--particles 200 --snr 0.5 --tilt-step 12", TWO, False, OF_UNTAUGHT),
    "untaught few": DataSet("--particles 40 --snr 1 --tilt-step 12", NESTED, False, OF_UNTAUGHT_FEW),
}


def decoded_accuracy(decoder, latents: np.ndarray, truth: RoundTruth) -> float:
    """Mean correlation of decoded with true maps, both less the mean true map."""
    chosen = np.linspace(0, len(latents) - 1, min(SHOWN, len(latents))).astype(int)
    decoded = decoder.volumes(torch.from_numpy(latents[chosen])).numpy()
    maps = truth.truth.core_map + np.tensordot(truth.presence, truth.truth.block_maps, axes=1)
    inside = np.asarray(sphere_mask(decoded.shape[-1], 0.4 * decoded.shape[-1])) > 0.5
    true, mean = maps[chosen][:, inside], maps.mean(0)[inside]
    scale = np.vdot(decoded[:, inside].mean(0), mean) / np.vdot(mean, mean)
    pairs = zip(decoded[:, inside] - scale * mean, scale * (true - mean), strict=True)
    return float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs]))


def latents_of_the_end(run: Path, epoch: int) -> tuple[torch.nn.Module, np.ndarray]:
    """Return network and latents of a warm-started training as if it had ended with this epoch."""
    stated, saved = open_store(run.parent / "prepared"), SavedModel.read(run.parent / "linear", 24)
    particles = np.arange(len(stated.particles))
    store = saved.poses(stated, particles).corrected(stated, particles)
    content = read_weights(run / f"weights.{epoch}.pkl")
    settings = read_vae_settings(run / "config.pkl")
    model = load_vae(run / f"weights.{epoch}.pkl", settings)
    split = TiltSplit.of_store(store, particles, 1.0, True, settings.seed)
    fitted, unseen, whole = (
        ParticleImages(store, particles, CPU, keep=mask, loss_rows=loss_rows(settings.data_set))
        for mask in (split.trained, split.judging, split.trained | split.judging)
    )
    with tempfile.TemporaryDirectory() as folder:
        course = {"epochs": epoch + 1, "seed": settings.seed, "folder": Path(folder)}
        maps = saved.maps.for_store(store, CPU)
        teaching = teach(maps, model, store, particles, split, fitted, unseen, whole, **course)
        model.load_state_dict(content["model_state_dict"])
        teaching.load_state(content["teaching"])
        teaching.after_epoch(epoch)
    return model, teaching.latents()[0]


def accuracy(run: Path, epoch: int, taught: bool, truth: RoundTruth) -> float:
    """Compute the accuracy of an epoch's volumes."""
    if taught:
        network, latents = latents_of_the_end(run, epoch)
        return decoded_accuracy(network.decoder, latents, truth)
    latents, _ = load_latents(run / f"z.{epoch}.train.pkl")
    return decoded_accuracy(load_model(run / f"weights.{epoch}.pkl", run / "config.pkl"), latents, truth)


def accuracies(run: Path, epochs: list[int], taught: bool) -> np.ndarray:
    """Compute the accuracy of each of the epochs, kept in accuracy.json."""
    file = run / "accuracy.json"
    known = json.loads(file.read_text()) if file.is_file() else {}
    truth = truth_of(run.parent)
    for epoch in epochs:
        if str(epoch) not in known:
            known[str(epoch)] = accuracy(run, epoch, taught, truth)
    file.write_text(json.dumps(known) + "\n")
    return np.array([known[str(epoch)] for epoch in epochs])


def judged(run: Path, taught: bool) -> dict:
    """Take the verdict after every judgement of a training, and compare the chosen epoch with the best."""
    table = pd.read_csv(run / "held_out.csv")
    epochs = [int(e) for e in table["epoch"] if taught or (e + 1) % EVERY_OF_UNTAUGHT == 0]
    found = accuracies(run, epochs, taught)
    verdicts = [judge_held_out(table[table["epoch"] <= epoch])[0] for epoch in epochs]
    called = [verdict in ("converged", "overfitting") for verdict in verdicts]
    chosen = called.index(True) if any(called) else len(epochs) - 1
    until = table[table["epoch"] <= epochs[chosen]]
    used = epoch_to_use(preferred_epochs(until), epochs[: chosen + 1], epochs[chosen])
    poor = found < (1 - WITHIN) * found.max()
    return {
        "called": verdicts[chosen],
        "at epoch": epochs[chosen],
        "used": used,
        "best epoch": epochs[int(found.argmax())],
        "accuracy there": found.max(),
        "lost %": 100 * (1 - found[epochs.index(used)] / found.max()),
        "under-trained": int(poor.sum()),
        "called converged": int((poor & np.array(called)).sum()),
    }


def main() -> None:
    """Train what is missing; print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--repeats", type=int, default=2, help="trainings of a network on the same data")
    parser.add_argument("--only", nargs="+", default=list(DATA_SETS), choices=DATA_SETS)
    options = parser.parse_args()
    rows = []
    for seed in options.seeds:
        for name in options.only:
            data = DATA_SETS[name]
            for network in data.networks:
                for repeat in range(options.repeats):
                    run = data.run(options.folder, name, network, seed, repeat)
                    about = {"data": name, "network": network, "seed": seed, "repeat": repeat}
                    rows.append(about | judged(run, data.taught))
                    print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    print(table.to_markdown(index=False, floatfmt=".3g"))
    within = int((table["lost %"] <= 100 * WITHIN).sum())
    print(f"{within} of {len(table)} runs within {100 * WITHIN:.0f} % of their best epoch")


if __name__ == "__main__":
    main()
