"""One optimiser step: losses and gradients of a batch, their sum over the processes, new weights."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tomohet.training.batches import Fetched, ParticleImages
from tomohet.training.passes import CudaGraph, FixedPasses, Graph

LOSSES = ("total", "gen", "kld")


def graphs_on(device: torch.device) -> Callable[[], Graph] | None:
    """Return what makes the graphs of steps on a device, or None where operations are launched one by one."""
    return CudaGraph if device.type == "cuda" else None


class OptimiserStep:
    """Steps of an optimiser on the batches of an epoch's images (`begin`).

    objective : has `losses(batch, seen, generator)` and what `passes.FixedPasses` needs
    trained : the parameters with gradients
    """

    def __init__(
        self,
        objective,
        images: ParticleImages,
        trained: Sequence[torch.nn.Parameter],
        optimiser: torch.optim.Optimizer,
    ) -> None:
        self._objective, self._images = objective, images
        self._trained, self._optimiser = trained, optimiser
        graph = graphs_on(images.device)
        self.passes: FixedPasses | None = None
        if graph is not None and not objective.exchanges:
            self.passes = FixedPasses(objective, images, trained, objective.data.rows_per_image, graph)

    def begin(self, images: ParticleImages) -> None:
        """Begin an epoch on `images`: between epochs the network and what is known of them may change."""
        self._images = images
        if self.passes is not None:
            self.passes.begin(images)

    def __call__(
        self, fetched: Fetched, seen: int, seed: int, signal_number: int
    ) -> tuple[Tensor, Tensor | None]:
        """Make one step on a batch after `seen` particles, with the random numbers of `seed`.

        Returns (total, gen, kld) on the device, and the stop signals of several processes (None for one).
        """
        processes = self._images.processes
        losses = self._losses(fetched, seen, seed)
        told = None
        if processes.size > 1:
            losses, told = self._add_up(losses, signal_number)
        self._optimiser.step()
        return losses, told

    def _losses(self, fetched: Fetched, seen: int, seed: int) -> Tensor:
        """Compute losses (3,) and gradients of this process's part of a batch."""
        self._optimiser.zero_grad()
        device = self._images.device
        if not len(fetched.tilts):  # the batch has fewer particles than there are processes
            return torch.zeros(len(LOSSES), dtype=torch.float64, device=device)
        if self.passes is not None:
            return self.passes(fetched, seen, seed)
        generator = torch.Generator(device).manual_seed(seed)
        losses = self._objective.losses(self._images.gathered(fetched), seen, generator)
        losses[0].backward()
        return torch.stack([loss.detach().double() for loss in losses])

    def _add_up(self, losses: Tensor, signal_number: int) -> tuple[Tensor, Tensor]:
        """Sum gradients and losses over the processes, and share their stop signals, in one exchange."""
        processes = self._images.processes
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self._trained]
        told = torch.zeros(processes.size, device=losses.device)
        told[processes.rank] = signal_number
        flat = torch.cat([*(g.reshape(-1).float() for g in gradients), losses.float(), told])
        processes.add_up(flat)
        *parts, losses, told = flat.split([*(g.numel() for g in gradients), len(losses), len(told)])
        for parameter, part in zip(self._trained, parts, strict=True):
            parameter.grad = part.view_as(parameter)
        return losses.double(), told
