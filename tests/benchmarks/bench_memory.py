"""Training on more images than memory holds: python tests/benchmarks/bench_memory.py [--folder DIR].

Rate: `train_vae` on a store twice as large as the memory it may take (`ulimit -d`), against the same training
with all images in memory. The file's pages are driven out of the system's cache all along, so that every
image comes from the disk. Peak memory: one epoch's batches from stores of one and four sizes. Needs twice
--ram-gb of free disk and, for the comparison, three times --ram-gb of memory.
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tomohet.files.atomic import write_parquet, write_yaml
from tomohet.physics.lattice import half_plane

SCRIPTS = Path(__file__).resolve().parents[2] / "workflow" / "scripts"
RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "memory.json"
GB = 1e9


@dataclass(frozen=True)
class Case:
    """A store's images (box in px, tilts per particle, type) and the network trained on them."""

    name: str
    box: int
    tilts: int
    dtype: str
    options: str

    @property
    def bytes_per_particle(self) -> int:
        return self.tilts * half_plane(self.box).n * 2 * np.dtype(self.dtype).itemsize


CASES = [
    Case(
        "D=32, 41 tilts, 1x32, 2 % of rows",
        32,
        41,
        "float32",
        "--zdim 2 -b 8 --dec-dim 32 --dec-layers 1 --pe-dim 4 --enc-dim-A 32 --enc-layers-A 1 --out-dim-A 16 "
        "--enc-dim-B 32 --enc-layers-B 1 --rows-per-image 0.02",
    ),
    Case(
        "D=64, 41 tilts, 3x512, 10 % of rows",
        64,
        41,
        "float16",
        "--zdim 128 -b 8 --dec-dim 512 --rows-per-image 0.1 --l-dose-mask",
    ),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="for the stores (a temporary one)")
    parser.add_argument("--ram-gb", type=float, default=2.0, help="memory that the training may take (2)")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each training (30)")
    parser.add_argument("--pairs", type=int, default=2, help="of trainings that are compared (2)")
    parser.add_argument("--only-pass", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only_pass:
        print(json.dumps(pass_over(args.only_pass)))
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        found = {
            "ram_gb": args.ram_gb,
            "rates": [rates(case, args, Path(folder)) for case in CASES],
            "peaks": [peaks(case, args, Path(folder)) for case in CASES],
        }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


def rates(case: Case, args: argparse.Namespace, folder: Path) -> dict:
    """Particles per second with all images in memory, and from a store of twice the allowed memory."""
    store = folder / "store"
    write_store(store, case, 2 * args.ram_gb * GB)
    limit = int(args.ram_gb * GB)
    pairs = [
        (train(case, store, folder, args.seconds), train(case, store, folder, args.seconds, limit))
        for _ in range(args.pairs)
    ]
    held, read = (max(pair[i]["rate"] for pair in pairs) for i in (0, 1))
    peak = max(pair[1]["peak_gb"] for pair in pairs)
    print(
        f"{case.name}: {held:.4g} particles/s from memory ({held * case.bytes_per_particle / 1e6:.3g} MB/s), "
        f"{read:.4g} from a store of {2 * args.ram_gb:g} GB within {args.ram_gb:g} GB (peak {peak:.2f} GB): "
        f"ratio {read / held:.2f}",
        flush=True,
    )
    return {"case": case.name, "held": held, "read": read, "ratio": read / held, "pairs": pairs}


def peaks(case: Case, args: argparse.Namespace, folder: Path) -> dict:
    """Peak resident memory of one epoch's batches, from stores of half the allowed memory and of twice it.

    `reading_gb` is what reading adds to the program and its tables, which grow with the number of images.
    """
    found = []
    for share in (0.5, 2):
        store = folder / "store"
        n_images = write_store(store, case, share * args.ram_gb * GB)
        with nothing_cached(store / "images.npy"):
            command = [sys.executable, __file__, "--only-pass", store]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        found.append({"store_gb": share * args.ram_gb, "images": n_images} | json.loads(done.stdout))
    small, large = found
    ratio = large["reading_gb"] / small["reading_gb"]
    tables = (large["peak_gb"] - small["peak_gb"]) * GB / (large["images"] - small["images"])
    for one in found:
        print(
            f"{case.name}: peak {one['peak_gb']:.2f} GB for {one['store_gb']:g} GB of images, "
            f"of which {one['reading_gb']:.2f} GB for reading them, at {one['gb_per_s']:.2f} GB/s"
        )
    print(
        f"{case.name}: ratio of the memory for reading {ratio:.2f}; tables take {tables:.0f} bytes per image "
        f"of {case.bytes_per_particle // case.tilts}",
        flush=True,
    )
    return {"case": case.name, "ratio": ratio, "table_bytes_per_image": tables, "passes": found}


def train(case: Case, store: Path, folder: Path, seconds: float, limit: int | None = None) -> dict:
    """Train for a while, with at most `limit` bytes of memory; rate and peak memory."""
    from tomohet.model.load import read_weights

    out = Path(tempfile.mkdtemp(dir=folder))
    command = [sys.executable, SCRIPTS / "train_vae.py", store, "-o", out, *case.options.split(), "-n", "1"]
    command += ["--checkpoint-minutes", str(seconds / 120), "--num-workers", "2", "--device", "cpu"]

    def limited() -> None:
        if limit:
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    # The limit counts address space as well, of which Arrow's usual allocator reserves a gigabyte.
    environment = os.environ | {"ARROW_DEFAULT_MEMORY_POOL": "system"}
    with nothing_cached(store / "images.npy") if limit else threading.Lock():
        process = subprocess.Popen(
            list(map(str, command)),
            preexec_fn=limited,  # noqa: PLW1509 (no threads yet)
            stderr=subprocess.PIPE,
            env=environment,
        )
        position = {"seconds": 0.0}
        while position["seconds"] < seconds:
            time.sleep(0.5)
            if process.poll() is not None:
                raise RuntimeError(process.stderr.read().decode())
            if (out / "checkpoint.pkl").is_file():
                position = read_weights(out / "checkpoint.pkl")["position"]
        process.send_signal(signal.SIGTERM)
        process.stderr.read()
        usage = os.wait4(process.pid, 0)[2]
        process.stderr.close()
    expected = "read from the store's file" if limit else "held on the device"
    if expected not in (out / "run.log").read_text():
        raise RuntimeError(f"the images were not {expected}")
    batch = int(case.options.split()[case.options.split().index("-b") + 1])
    return {"rate": position["step"] * batch / position["seconds"], "peak_gb": usage.ru_maxrss * 1024 / GB}


def pass_over(store: Path) -> dict:
    """All batches of one epoch, read from the store, without a network."""
    import torch

    from tomohet.particles.store import open_store
    from tomohet.training.batches import ParticleImages
    from tomohet.training.reading import Loading

    opened = open_store(store)
    loading = Loading(lazy=True, workers=2)
    images = ParticleImages(
        opened, np.arange(len(opened.particles)), torch.device("cpu"), batch_size=8, loading=loading
    )
    tables = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / GB
    start = time.perf_counter()
    for _ in images.batches(images.shuffled(np.random.default_rng(0))):
        pass
    rate = opened.data.nbytes / (time.perf_counter() - start) / GB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GB
    return {"gb_per_s": rate, "peak_gb": peak, "reading_gb": peak - tables}


class nothing_cached:  # noqa: N801
    """A context in which the system keeps no page of a file in its cache."""

    def __init__(self, path: Path) -> None:
        self._file, self._over = open(path, "rb"), threading.Event()  # noqa: SIM115
        self._thread = threading.Thread(target=self._drop)

    def _drop(self) -> None:
        while not self._over.wait(0.1):
            os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def __enter__(self) -> None:
        os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        self._thread.start()

    def __exit__(self, *_) -> None:
        self._over.set()
        self._thread.join()
        self._file.close()


def write_store(folder: Path, case: Case, n_bytes: float) -> int:
    """A prepared store of noise of about this size; returns its number of images."""
    from tomohet.particles.store import FORMAT

    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    particles, n = int(n_bytes / case.bytes_per_particle), half_plane(case.box).n
    images = particles * case.tilts
    write_images(folder / "images.npy", (images, n, 2), case.dtype, rng)
    particle = np.repeat(np.arange(particles), case.tilts)
    tilt = np.tile(np.arange(case.tilts), particles)
    rotation = np.linalg.qr(rng.normal(size=(1000, 3, 3)))[0][particle % 1000].reshape(-1, 9)
    table = pd.DataFrame({"image": np.arange(images), "particle": particle, "tilt": tilt})
    names = [f"TS_{p // 500:03d}/{p:06d}" for p in range(particles)]
    stacks = pd.Series(names).map("/data/relion/Extract/job012/Subtomograms/{}_stack2d.mrcs".format)
    table["stack"] = stacks[particle].to_numpy()
    table["section"] = tilt + 1
    for number, name in enumerate(f"r{i}{j}" for i in range(3) for j in range(3)):
        table[name] = rotation[:, number]
    table = table.assign(
        shift_x_px=0.0, shift_y_px=0.0, defocus_u_A=rng.uniform(2e4, 4e4, images), defocus_v_A=2e4,
        defocus_angle_deg=30.0, voltage_kV=300.0, cs_mm=2.7, amplitude_contrast=0.07, phase_shift_deg=0.0,
        pixel_size_A=5.0, dose_e_A2=3.0 * tilt, tilt_deg=1.5 * tilt, ctf_premultiplied=False,
        dose_weighted=False, scale_factor=1.0, dose_b_factor_A2=0.0,
        row=np.arange(images), noise_scale=np.float32(1),
    )  # fmt: skip
    write_parquet(folder / "images.parquet", table)
    position = rng.uniform(0, 5000, (3, particles))
    write_parquet(
        folder / "particles.parquet",
        pd.DataFrame(
            {"particle": np.arange(particles), "source_id": names, "tomogram": [name[:6] for name in names]}
        ).assign(
            x_A=position[0], y_A=position[1], z_A=position[2], n_tilts=case.tilts,
            half=pd.array([pd.NA] * particles, dtype="Int8"),
        ),
    )  # fmt: skip
    counts = {"particles": particles, "images": images, "tomograms": 1 + particles // 500}
    write_yaml(
        folder / "store.yaml",
        {
            "format": FORMAT, "tomohet": "bench", "source": "noise", "dialect": "noise", "box": case.box,
            "pixel_size_A": 5.0, "scale": 1.0, "inverted": [True], "inputs": {}, "digest": "noise",
            "preparation": {"window": [0.8, 0.9], "invert": None, "normalise": "noise", "dtype": case.dtype},
            "counts": counts | {"in_input": counts},
        },
    )  # fmt: skip
    return images


def write_images(path: Path, shape: tuple[int, int, int], dtype: str, rng: np.random.Generator) -> None:
    """An .npy file of noise, on the disk when this returns."""
    chunk = rng.standard_normal((4000, *shape[1:])).astype(dtype)
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": np.lib.format.dtype_to_descr(chunk.dtype), "fortran_order": False, "shape": shape}
        )
        for start in range(0, shape[0], len(chunk)):
            file.write(chunk[: shape[0] - start].tobytes())
        file.flush()
        os.fsync(file.fileno())


if __name__ == "__main__":
    main()
