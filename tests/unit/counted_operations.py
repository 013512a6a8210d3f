"""Count the operations of a computation, the work of its products, and the bytes that others move."""

from collections import Counter

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "_addmm_activation", "addmv", "addmm_", "_linear_pointwise")
WITHOUT_SUMMAND = ("mm", "bmm", "_linear_pointwise")  # whose first argument is the first factor
WITHOUT_KERNEL = (
    "empty", "empty_like", "new_empty", "empty_strided", "detach", "alias", "device", "scalar_tensor",
    "_record_function_enter_new", "_record_function_exit",
)  # fmt: skip


class Operations(TorchDispatchMode):
    """Counts operations by name while it is active. Views and allocations are no operations.

    names : number of calls of each operation
    moved_bytes : size of the tensors that operations other than matrix products read and write
    multiply_adds : of the matrix products
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()
        self.moved_bytes = self.multiply_adds = 0

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
        if name in PRODUCTS:
            first = args[0] if name in WITHOUT_SUMMAND else args[1]
            self.multiply_adds += result.numel() * first.shape[-1]
        else:
            tensors = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, torch.Tensor)]
            self.moved_bytes += sum(x.numel() * x.element_size() for x in tensors)
        return result
