"""Whether an error says that memory has run out."""

from __future__ import annotations

import torch

# Messages of torch's CPU allocator, of C++, cuBLAS, and oneDNN, whose scratch memory is its own.
_SIGNS = ("out of memory", "can't allocate memory", "not enough memory", "bad_alloc", "ALLOC_FAILED",
          "could not create a primitive")  # fmt: skip


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory has run out: Python's own, torch's on a GPU, or that of its CPU allocator."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)
