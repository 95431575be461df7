"""Arrays that measures are given: tensors, lists, masks."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def as_numbers(name: str, x: object) -> np.ndarray:
    """A tensor, array or list as an array of real numbers; `ValueError` if it holds others."""
    if isinstance(x, Tensor):
        x = x.detach().cpu()
        if x.dtype in (torch.float16, torch.bfloat16):  # NumPy lacks the second
            x = x.float()
    try:
        x = np.asarray(x)
    except (TypeError, ValueError, RuntimeError) as problem:
        raise ValueError(f"{name} must be an array of numbers, got {problem}") from problem
    if x.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be an array of numbers, got one of {x.dtype}")
    return x


def as_rows(name: str, rows: object, size: int) -> np.ndarray:
    """Row numbers, given as such or as a boolean mask over `size` rows."""
    rows = as_numbers(name, rows)
    if rows.dtype == bool:
        if rows.shape != (size,):
            raise ValueError(f"{name} must be a mask of {size} rows, got shape {rows.shape}")
        return np.flatnonzero(rows)
    if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
        raise ValueError(
            f"{name} must hold row numbers, or be a mask of {size} rows, "
            f"got {rows.dtype} of shape {rows.shape}"
        )
    if rows.size and not (0 <= rows.min() and rows.max() < size):
        raise ValueError(
            f"{name} must lie between 0 and {size - 1}, got {rows.min()} to {rows.max()}"
        )
    return rows.astype(np.int64)
