"""Random data of a given size, our network and the textbook one for it, and their arithmetic."""

from dataclasses import dataclass

import torch

from tomohet.model.vae import build_vae
from tomohet.physics.fourier import half_plane
from tomohet.physics.imaging import ImageParameters
from tomohet.training.batches import Batch
from tomohet.training.loop import ADAM_EPSILON
from tomohet.training.objectives import DataTerm, VaeObjective


@dataclass(frozen=True)
class Workload:
    """A training's size: box (px), tilts per particle, particles per step, decoder layers and width, zdim."""

    name: str
    box: int
    tilts: int
    batch: int
    layers: int
    width: int
    zdim: int

    @property
    def rows(self) -> int:
        """Half-plane rows of a batch."""
        return self.batch * self.tilts * half_plane(self.box).n

    def decoder_flop(self, rows: float) -> float:
        """Multiplications and additions of the decoder's products for `rows`, forward and backward.

        Three products per layer (values, gradient of weights, gradient of inputs), two for the first.
        """
        features = 6 * (self.box // 2)
        return 2 * rows * (2 * features * self.width + 3 * self.layers * self.width**2 + 3 * 2 * self.width)

    def decoder_forward_flop(self, rows: float) -> float:
        """The same, forward only, with the first layer's coordinate part left out (computed once)."""
        return 2 * rows * (self.layers * self.width**2 + 2 * self.width)

    def images(self, device: torch.device) -> tuple[torch.Tensor, ImageParameters]:
        """Half planes (m, n) and parameters of the images of one batch."""
        generator = torch.Generator().manual_seed(0)
        m = self.batch * self.tilts
        fourier = torch.randn(m, half_plane(self.box).n, 2, generator=generator)
        tilt = torch.linspace(-60, 60, self.tilts).repeat(self.batch)
        one = torch.ones(m)
        rotation = torch.linalg.qr(torch.randn(m, 3, 3, generator=generator))[0]
        params = ImageParameters(
            rotation, 4 * one, 2e4 + 100 * tilt, 2e4 - 100 * tilt, 30 * one, 300 * one, 2.7 * one, 0.07 * one,
            0 * one, (tilt + 60), tilt, torch.zeros(m, dtype=torch.bool), torch.zeros(m, dtype=torch.bool),
        )  # fmt: skip
        return torch.view_as_complex(fourier).to(device), params.to(device)

    def model_args(self) -> dict:
        """`model_args` of the network: production encoder, mean pooling."""
        return {
            "qlayersA": 3, "qdimA": 256, "out_dimA": 128, "qlayersB": 3, "qdimB": 256, "zdim": self.zdim,
            "ntilts": self.tilts, "players": self.layers, "pdim": self.width, "activation": "relu",
            "enc_mask": None, "pooling_function": "mean", "num_seeds": 1, "num_heads": 4, "layer_norm": False,
            "pe_type": "gaussian", "pe_dim": None, "feat_sigma": 0.5, "l_extent": 0.5, "hermitian": True,
        }  # fmt: skip

    def training_step(self, device: torch.device, rows_per_image: float):
        """A function that takes one optimiser step of our network."""
        fourier, params = self.images(device)
        hp = half_plane(self.box, device)
        m = len(fourier)
        batch = Batch(
            fourier,
            params,
            torch.ones(m, device=device),
            torch.full((m,), hp.n, device=device),
            torch.full((self.batch,), self.tilts, device=device),
        )
        model = build_vae(self.box, self.model_args(), seed=0).to(device)
        half = device.type == "cuda" and torch.cuda.is_bf16_supported()
        data = DataTerm(
            half_plane=hp,
            dose_weight=True,
            tilt_weight=True,
            physical=False,
            rows_per_image=rows_per_image,
            dtype=torch.bfloat16 if half else torch.float32,
        )
        objective = VaeObjective(model, data, 1 / self.zdim, None, total_particles=10**6)
        trained = [p for p in model.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(trained, lr=1e-4, eps=ADAM_EPSILON, fused=True)
        generator = torch.Generator(device).manual_seed(0)

        def step() -> None:
            total, _, _ = objective.losses(batch, 0, generator)
            optimiser.zero_grad()
            total.backward()
            optimiser.step()

        return step
