"""The network on CUDA: the numbers of the CPU, and a training that runs."""

import numpy as np
import pandas as pd
import pytest
import torch

from tomohet.cli import options_of
from tomohet.commands import train_vae
from tomohet.files.pickles import load_latents
from tomohet.model.decoder import Decoder
from tomohet.model.encoder import TiltEncoder
from tomohet.model.latent_terms import latent_terms, network_share
from tomohet.model.loss import reconstruction_loss
from tomohet.model.rows import PackedRows, pack_rows
from tomohet.model.vae import HeterogeneityVAE
from tomohet.particles.store import open_store
from tomohet.physics.lattice import half_ball, half_plane
from tomohet.training.batches import LossRows, ParticleImages
from tomohet.training.objectives import DataTerm, VaeObjective
from tomohet.training.passes import FixedPasses

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

BOX = 24
HP = half_plane(BOX)


@pytest.fixture
def rows():
    draw = torch.Generator().manual_seed(0)
    tilts = torch.tensor([9, 4, 7])
    m = int(tilts.sum())
    return pack_rows(
        torch.view_as_complex(torch.randn(m, HP.n, 2, generator=draw)),
        torch.linalg.qr(torch.randn(m, 3, 3, generator=draw))[0],
        torch.rand(m, HP.n, generator=draw) * 2 - 1,
        torch.rand(m, HP.n, generator=draw),
        torch.randint(5, HP.n + 1, (m,), generator=draw),
        tilts,
        HP.frequency,
    )


def on_cuda(rows):
    return PackedRows(
        *(value.cuda() if isinstance(value, torch.Tensor) else value for value in vars(rows).values())
    )


def loss_and_gradients(decoder, z, rows, dtype=torch.float32):
    z = z.clone().requires_grad_()
    loss = reconstruction_loss(decoder, z, rows, chunk_rows=700, dtype=dtype)
    return loss, torch.autograd.grad(loss, [z, *decoder.decoder.parameters()])


def test_loss_and_gradients_are_those_of_the_cpu(rows):
    torch.manual_seed(0)
    decoder, z = Decoder(BOX, 4, 3, 64), torch.randn(3, 4)
    loss, gradients = loss_and_gradients(decoder, z, rows)
    cuda_loss, cuda_gradients = loss_and_gradients(decoder.cuda(), z.cuda(), on_cuda(rows))
    assert cuda_loss.item() == pytest.approx(loss.item(), rel=1e-5)
    for ours, expected in zip(cuda_gradients, gradients, strict=True):
        torch.testing.assert_close(ours.cpu(), expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.skipif(not torch.cuda.is_bf16_supported(), reason="no bfloat16")
def test_bfloat16_is_close(rows):
    torch.manual_seed(0)
    decoder, z = Decoder(BOX, 4, 3, 64).cuda(), torch.randn(3, 4).cuda()
    rows = on_cuda(rows)
    loss, gradients = loss_and_gradients(decoder, z, rows)
    half_loss, half_gradients = loss_and_gradients(decoder, z, rows, torch.bfloat16)
    assert half_loss.item() == pytest.approx(loss.item(), rel=1e-2)
    for ours, expected in zip(half_gradients, gradients, strict=True):
        assert torch.nn.functional.cosine_similarity(ours.flatten(), expected.flatten(), dim=0) > 0.99


def test_latent_terms_and_share_are_those_of_the_cpu(rows):
    torch.manual_seed(0)
    decoder, z = Decoder(BOX, 4, 3, 64, n_basis=2), torch.randn(3, 4)
    decoder.base.fill(torch.randn(BOX, BOX, BOX), torch.randn(2, BOX, BOX, BOX))
    expected = [*vars(latent_terms(decoder, rows, z)).values(), network_share(decoder, rows, z)]
    decoder, rows, z = decoder.cuda(), on_cuda(rows), z.cuda()
    found = [
        *vars(latent_terms(decoder, rows, z, 700)).values(),
        network_share(decoder, rows, z, chunk_rows=700),
    ]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))


@pytest.mark.parametrize("encoder", ["tilts", "backprojected", "free"])
def test_a_taught_network_trains_and_is_evaluated(tiny_store, tiny_linear, tmp_path, run_script, encoder):
    options = f"--zdim 2 -n 2 -b 4 --dec-dim 32 --encoder {encoder} --fraction-train 0.7 --device cuda"
    run_script("train_vae", tiny_store, "-o", tmp_path, "--init", tiny_linear, *options.split())
    model = ("-w", tmp_path / "weights.pkl", "-c", tmp_path / "config.pkl")
    run_script("eval_images", tiny_store, *model, "--out-z", tmp_path / "z.pkl", "--device", "cuda")
    for name in ("z.train.pkl", "z.test.pkl", "z.pkl"):
        assert np.isfinite(load_latents(tmp_path / name)).all()
    assert pd.read_csv(tmp_path / "held_out.csv")["share_of_network"].between(0, 1).all()


def test_volumes_are_those_of_the_cpu():
    torch.manual_seed(0)
    decoder, z = Decoder(BOX, 4, 3, 64), torch.randn(5, 4)
    expected = decoder.fourier(half_ball(BOX).frequency, z)
    found = decoder.cuda().fourier(half_ball(BOX, "cuda").frequency, z.cuda(), chunk_rows=1000)
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    assert decoder.volumes(z.cuda()).is_cuda


@pytest.mark.parametrize(
    "options", ["", "--no-amp", "--lazy --num-workers 2 --pin-memory", "--rows-per-image 0.3"]
)
def test_training_lowers_the_loss(tiny_store, tmp_path, options):
    arguments = (
        f"{tiny_store} -o {tmp_path} --zdim 2 -n 4 -b 4 --dec-dim 64 --lr 0.001 --device cuda {options}"
    )
    train_vae.run(options_of("train_vae", arguments.split()))
    losses = pd.read_csv(tmp_path / "loss.csv")["gen"]
    assert losses.iloc[-1] < losses.iloc[0]


@pytest.mark.parametrize("fraction", [1.0, 0.3])
def test_a_training_step_does_not_wait_for_the_device(tiny_store, fraction):
    store, device = open_store(tiny_store), torch.device("cuda")
    images = ParticleImages(store, np.arange(6), device, loss_rows=LossRows(dose_mask=True), place="device")
    torch.manual_seed(0)
    model = HeterogeneityVAE(TiltEncoder(images.half_plane.n, 3), Decoder(store.box, 3, 3, 64)).to(device)
    data = DataTerm(images.half_plane, True, True, False, fraction, torch.bfloat16)
    objective = VaeObjective(model, data, 0.1, None, total_particles=100)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-4, fused=True)

    def step():
        batch = images.batch(np.array([3, 0, 5]))
        objective.losses(batch, 0, torch.Generator(device).manual_seed(0))[0].backward()
        optimiser.step()

    step()  # workspaces and handles are made once
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(torch.isfinite(p).all() for p in trained)


@pytest.mark.parametrize("place", ["device", "memory"])
@pytest.mark.parametrize("fraction", [1.0, 0.3])
def test_a_replayed_graph_is_the_step_without_it(tiny_store, fraction, place, caplog):
    store, device = open_store(tiny_store), torch.device("cuda")
    images = ParticleImages(store, np.arange(6), device, loss_rows=LossRows(dose_mask=True), place=place)
    torch.manual_seed(0)
    longest = int(images.tilts.max())
    encoder = TiltEncoder(images.half_plane.n, 3, longest=longest)
    model = HeterogeneityVAE(encoder, Decoder(store.box, 3, 3, 64)).to(device)
    data = DataTerm(images.half_plane, True, True, False, fraction, torch.bfloat16)
    objective = VaeObjective(model, data, 0.1, None, total_particles=100)
    trained = [p for p in model.parameters() if p.requires_grad]
    graphs, steps = (
        FixedPasses(objective, images, trained, fraction, usable=usable) for usable in (True, False)
    )
    for number, fetched in enumerate(images.fetched([np.array([3, 0, 5])] * 12)):
        replayed = [graphs(fetched, number, number), *(p.grad.clone() for p in trained)]
        expected = [steps(fetched, number, number), *(p.grad for p in trained)]
        for one, other in zip(replayed, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5 * float(other.abs().max()))
    assert graphs.usable, caplog.text
    assert graphs.replays == 11


def test_a_step_that_waits_for_the_device_is_not_recorded(tiny_store, caplog):
    store, device = open_store(tiny_store), torch.device("cuda")
    images = ParticleImages(store, np.arange(6), device, place="device")
    model = HeterogeneityVAE(TiltEncoder(images.half_plane.n, 3, longest=99), Decoder(store.box, 3, 1, 16))
    data = DataTerm(images.half_plane, True, True, False, 1.0, torch.float32)

    class Waiting(VaeObjective):
        def losses_at(self, batch, beta, generator):
            float(beta)
            return super().losses_at(batch, beta, generator)

    model.to(device)
    trained = [p for p in model.parameters() if p.requires_grad]
    passes = FixedPasses(Waiting(model, data, 0.1, None, total_particles=100), images, trained, 1.0)
    for number, fetched in enumerate(images.fetched([np.array([3, 0, 5])] * 4)):
        assert torch.isfinite(passes(fetched, number, number)).all()
    assert not passes.usable and "cannot be recorded" in caplog.text
