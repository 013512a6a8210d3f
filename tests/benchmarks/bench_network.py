"""`make bench`: how fast the network trains, infers and decodes, against this machine's own peak.

Everything is timed in one run: the matrix-product peak, our code and the textbook way, on the same data and
threads. Printed as a table and written to `benchmarks/network.json`; nothing depends on the times.
"""

import json
import time
from pathlib import Path

import pytest
import torch
from textbook import Particles, TextbookVAE, training_steps
from workloads import Workload

from tomohet.model.vae import build_vae
from tomohet.physics.fourier import half_ball, half_plane
from tomohet.physics.imaging import encoder_view

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "network.json"
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DEMO = Workload("D=32, 25 tilts, 3x128", box=32, tilts=25, batch=8, layers=3, width=128, zdim=8)
TOY = Workload("D=32, 9 tilts, 3x256", box=32, tilts=9, batch=8, layers=3, width=256, zdim=8)
PRODUCTION = Workload("D=64, 41 tilts, 3x512", box=64, tilts=41, batch=1, layers=3, width=512, zdim=128)
LARGE = Workload("D=96, 41 tilts, 3x512", box=96, tilts=41, batch=1, layers=3, width=512, zdim=128)
WORKLOADS = [DEMO, TOY, PRODUCTION, *([LARGE] if DEVICE.type == "cuda" else [])]


@pytest.fixture(scope="module")
def results():
    """Collects what is measured; prints and writes it at the end."""
    found = {
        "device": str(DEVICE),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "rows": [],
    }
    if DEVICE.type == "cuda":
        found["device_name"] = torch.cuda.get_device_name()
    yield found
    found["peak_gflop_per_s"] = max(row["peak_gflop_per_s"] for row in found["rows"])
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    peak = f"{found['peak_gflop_per_s']:.0f} GFLOP/s"
    print(f"\n\nmatrix-product peak {peak}, {found['threads']} threads, {DEVICE}")
    print(f"{'workload':28} {'what':22} {'per s':>10} {'of peak':>8} {'textbook':>9}")
    for row in found["rows"]:
        share, ratio = row.get("share_of_peak"), row.get("times_textbook")
        print(
            f"{row['workload']:28} {row['what']:22} {row['per_second']:>10.4g} "
            f"{f'{share:.0%}' if share else '':>8} {f'{ratio:.1f}x' if ratio else '':>9}"
        )


def best_seconds(work, repeats: int = 3) -> float:
    """Shortest time of some repetitions, after one to warm up.

    CPU time when one thread does it all: other programs on the machine then hardly count.
    """
    alone = DEVICE.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    times = []
    for _ in range(repeats + 1):
        synchronise()
        start = clock()
        work()
        synchronise()
        times.append(clock() - start)
    return min(times[1:])


def synchronise() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def matrix_product_peak() -> float:
    """GFLOP/s of a large product in the type that the decoder uses."""
    size, dtype = (8192, torch.bfloat16) if DEVICE.type == "cuda" else (2048, torch.float32)
    a = torch.randn(size, size, device=DEVICE, dtype=dtype)
    return 2 * size**3 / best_seconds(lambda: a @ a, repeats=8) / 1e9


def textbook_for(load: Workload) -> tuple[TextbookVAE, Particles]:
    torch.manual_seed(0)
    fourier, params = load.images(torch.device("cpu"))
    particles = Particles(fourier, params, load.tilts, load.box)
    return TextbookVAE(load.box, load.tilts, load.zdim, load.layers, load.width), particles


@pytest.mark.parametrize("load", WORKLOADS, ids=lambda load: load.name)
def test_training_step(load, results):
    textbook = None
    if DEVICE.type == "cpu":
        model, particles = textbook_for(load)
        textbook = best_seconds(lambda: training_steps(model, particles, load.batch, 1), repeats=2)
    for share in (1.0, 0.25, 0.1):
        peak = matrix_product_peak()
        seconds = best_seconds(load.training_step(DEVICE, share))
        rate = load.decoder_flop(share * load.rows) / seconds / 1e9
        results["rows"].append(
            {
                "workload": load.name,
                "what": "train, exact" if share == 1 else f"train, {share:.0%} of rows",
                "per_second": load.batch / seconds,
                "unit": "particles",
                "peak_gflop_per_s": peak,
                "share_of_peak": rate / peak,
                "times_textbook": textbook / seconds if textbook else None,
            }
        )


@pytest.mark.parametrize("load", [DEMO, *WORKLOADS[2:]], ids=lambda load: load.name)
def test_eval_vol(load, results):
    count = 16 if load.box == 32 else 2
    decoder = build_vae(load.box, load.model_args(), seed=0).decoder.to(DEVICE)
    z = torch.randn(count, load.zdim, device=DEVICE)
    peak = matrix_product_peak()
    with torch.no_grad():
        seconds = best_seconds(lambda: decoder.volumes(z)) / count
    rate = load.decoder_forward_flop(half_ball(load.box).n) / seconds / 1e9
    row = {
        "workload": load.name,
        "what": "eval_vol",
        "per_second": 1 / seconds,
        "unit": "volumes",
        "peak_gflop_per_s": peak,
        "share_of_peak": rate / peak,
    }
    if DEVICE.type == "cpu":
        model, _ = textbook_for(load)
        row["times_textbook"] = best_seconds(lambda: model.volume(z[0], load.box), repeats=1) / seconds
    results["rows"].append(row)


@pytest.mark.parametrize("load", [DEMO, PRODUCTION], ids=lambda load: load.name)
def test_encoder(load, results):
    fourier, params = load.images(DEVICE)
    model = build_vae(load.box, load.model_args(), seed=0).to(DEVICE)
    tilts = torch.full((load.batch,), load.tilts, device=DEVICE)
    hp = half_plane(load.box, DEVICE)

    def infer() -> None:
        with torch.no_grad():
            model.encode(encoder_view(fourier, params, hp), tilts)

    peak = matrix_product_peak()
    seconds = best_seconds(infer)
    results["rows"].append(
        {
            "workload": load.name,
            "what": "encoder",
            "per_second": load.batch / seconds,
            "unit": "particles",
            "peak_gflop_per_s": peak,
        }
    )
