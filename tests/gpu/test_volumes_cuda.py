"""Volumes and latents on CUDA: those of the CPU, in float32 and float16, by one process or several."""

import numpy as np
import pytest
import torch

from tomohet.device import fast_bfloat16
from tomohet.files.mrc import read_volume
from tomohet.files.pickles import load_latents
from tomohet.model.decoder import Decoder
from tomohet.model.volumes import half_precision

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

SMALL = "--zdim 2 -n 2 -b 6 --dec-dim 64 --enc-dim-A 16 --out-dim-A 8 --enc-dim-B 16 --device cuda".split()
Z = np.random.default_rng(0).normal(size=(9, 2))


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
@pytest.mark.parametrize("hermitian", [True, False])
def test_decoded_maps_are_those_of_the_cpu(activation, hermitian):
    torch.manual_seed(0)
    decoder, z = Decoder(24, 4, 3, 64, activation=activation, hermitian=hermitian), torch.randn(5, 4)
    expected = torch.cat(list(decoder.decode(z, 16, radius=6.0)))
    decoder.cuda()
    found = torch.cat(list(decoder.decode(z.cuda(), 16, radius=6.0, batch=2)))
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_float16_is_within_a_thousandth():
    torch.manual_seed(0)
    decoder, z = Decoder(32, 8, 3, 256).cuda(), torch.randn(5, 8, device="cuda")
    assert half_precision(z.device) is torch.float16
    exact, half = (torch.cat(list(decoder.decode(z, dtype=t))) for t in (torch.float32, torch.float16))
    assert (half - exact).abs().max() < 5e-3 * exact.abs().max()
    assert (half - exact).norm() < 1e-3 * exact.norm()
    assert not torch.equal(half, exact)


def test_bfloat16_is_reported_as_pytorch_does():
    expected = torch.cuda.is_bf16_supported(including_emulation=False)
    assert fast_bfloat16(torch.device("cuda")) == expected


@pytest.fixture(scope="module")
def training(tiny_store, tmp_path_factory, run_script):
    folder = tmp_path_factory.mktemp("training")
    run_script("train_vae", tiny_store, "-o", folder, *SMALL)
    np.savetxt(folder / "points.txt", Z)
    return folder


def maps(folder):
    return np.stack([read_volume(path)[0] for path in sorted(folder.glob("vol_*.mrc"))])


@pytest.mark.parametrize("options", [(), ("--amp",), ("--stack",), ("--multigpu",), ("--lowpass", 60)])
def test_eval_vol_on_cuda(options, training, tmp_path, run_script):
    model = ("--workdir", training, "--zfile", training / "points.txt")
    on_cpu = options if "--lowpass" in options else ()
    run_script("eval_vol", *model, "-o", tmp_path / "cpu", "--device", "cpu", *on_cpu)
    run_script("eval_vol", *model, "-o", tmp_path / "cuda", "--device", "cuda", *options)
    expected = maps(tmp_path / "cpu")
    if "--stack" in options:
        found = read_volume(tmp_path / "cuda" / "vol.mrcs")[0].reshape(expected.shape)
    else:
        found = maps(tmp_path / "cuda")
    tolerance = 1e-2 if "--amp" in options else 1e-3
    np.testing.assert_allclose(found, expected, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("options", [(), ("--multigpu",), ("--lazy", "--num-workers", 2)])
def test_eval_images_on_cuda(options, training, tiny_store, tmp_path, run_script):
    model = ("-w", training / "weights.pkl", "-c", training / "config.pkl")
    found = []
    for device, more in (("cpu", ()), ("cuda", options)):
        out = tmp_path / f"{device}.pkl"
        run_script("eval_images", tiny_store, *model, "--out-z", out, "-b", 5, "--device", device, *more)
        found.append(load_latents(out))
    np.testing.assert_allclose(found[1], found[0], atol=1e-3)
