"""Encoders of words in context."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["WindowEncoder"]


class WindowEncoder(nn.Module):
    """Several context words to one embedding: shared word vectors, their places kept apart, one hidden layer.

    Parameters
    ----------
    words : nn.Embedding
        The table of word vectors (V, D), shared with whoever encodes the target.
    window : int
        Number of context words W.
    hidden : int
        Width of the hidden layer.

    Raises
    ------
    ValueError
        If `window` or `hidden` is below 1.
    """

    def __init__(self, words: nn.Embedding, *, window: int, hidden: int):
        super().__init__()
        if window < 1 or hidden < 1:
            raise ValueError(f"window and hidden must be at least 1, got window={window}, hidden={hidden}")
        self.words = words
        dimensions = words.embedding_dim
        self.mix = nn.Sequential(nn.Linear(window * dimensions, hidden), nn.GELU(), nn.Linear(hidden, dimensions))

    def forward(self, context: Tensor) -> Tensor:
        """Word ids (B, W), oldest first, to embeddings (B, D)."""
        return self.mix(torch.flatten(self.words(context), start_dim=1))  # (B, W, D) -> (B, W*D) -> (B, D)
