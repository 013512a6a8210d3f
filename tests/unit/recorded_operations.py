"""A CUDA graph without a GPU: operations recorded once, and repeated at the same addresses."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map


class RecordedOperations(TorchDispatchMode):
    """Stands in for `passes.CudaGraph` on a CPU, with its rules.

    A replay runs the recorded operations on the recorded tensors, and writes results where they were first
    written. What the host knew at the time of recording stays as it was. Reading a value is an error.
    """

    made = 0

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[tuple] = []

    def record(self, work, generator, beside=None) -> None:
        """Record `work`. Unlike CUDA, this also runs it; the draws of the generator are given back."""
        type(self).made += 1
        state = generator.get_state()
        with self:
            work()
        generator.set_state(state)

    def replay(self) -> None:
        """Repeat the recorded operations."""
        with torch.no_grad():
            for func, args, kwargs, results in self._calls:
                again = func(*args, **kwargs)
                if func.is_view or func._schema.is_mutable:
                    continue
                for old, new in zip(results, tree_leaves(again), strict=True):
                    if isinstance(old, torch.Tensor):
                        old.copy_(new)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Record one operation and run it."""
        name = func._schema.name.split("::")[-1]
        if name in ("_local_scalar_dense", "nonzero", "masked_select", "equal"):
            raise RuntimeError(f"operation not permitted when stream is capturing: {name}")
        # Aliases keep the shapes of this moment, which later operations may change in place.
        args_now, kwargs_now = tree_map(_alias, args), tree_map(_alias, kwargs or {})
        result = func(*args, **(kwargs or {}))
        if name != "device" and torch.Tag.inplace_view not in func.tags:
            self._calls.append((func, args_now, kwargs_now, tree_leaves(tree_map(_alias, result))))
        return result


def _alias(value):
    return value.detach() if isinstance(value, torch.Tensor) else value
