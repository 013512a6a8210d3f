"""Count the operations of a computation, and the bytes that operations other than products move."""

from collections import Counter

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "_addmm_activation", "addmv", "addmm_", "_linear_pointwise")
WITHOUT_KERNEL = (
    "empty", "empty_like", "new_empty", "empty_strided", "detach", "alias", "device", "scalar_tensor",
    "_record_function_enter_new", "_record_function_exit",
)  # fmt: skip


class Operations(TorchDispatchMode):
    """Counts operations by name while it is active. Views and allocations are no operations.

    names : number of calls of each operation
    moved_bytes : size of the tensors that operations other than matrix products read and write
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()
        self.moved_bytes = 0

    @property
    def total(self) -> int:
        """Number of operations."""
        return self.names.total()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run one operation and count it."""
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.split("::")[-1]
        if func.is_view or name in WITHOUT_KERNEL:
            return result
        self.names[name] += 1
        if name not in PRODUCTS:
            tensors = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, torch.Tensor)]
            self.moved_bytes += sum(x.numel() * x.element_size() for x in tensors)
        return result
