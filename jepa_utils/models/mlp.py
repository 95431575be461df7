"""Multi-layer perceptrons."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from jepa_utils.arguments import check_count

__all__ = ["MLP"]


class MLP(nn.Sequential):
    """Linear layers with GELU between them.

    Parameters
    ----------
    inputs, hidden, outputs : int
        Widths of the input, of every hidden layer, and of the output.
    layers : int, default 2
        Number of hidden layers.

    Raises
    ------
    ValueError
        If a number is no integer of at least 1.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, *, layers: int = 2):
        sizes = dict(inputs=inputs, hidden=hidden, outputs=outputs, layers=layers)
        inputs, hidden, outputs, layers = (check_count(*size) for size in sizes.items())
        widths = [inputs, *[hidden] * layers]
        body = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.GELU())]
        super().__init__(*body, nn.Linear(hidden, outputs))
