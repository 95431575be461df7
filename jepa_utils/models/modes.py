"""Training and evaluation mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def modes_kept(network: object) -> Iterator[None]:
    """A context after which each of a network's modules is in the mode it was in before.

    Some may be frozen in one that trains, so it is not enough to call `train` again.
    """
    modules = list(network.modules()) if isinstance(network, nn.Module) else []
    modes = [module.training for module in modules]
    try:
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode
