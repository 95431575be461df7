"""Predictors of an answer that see the order of the question's words."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jepa_utils.arguments import check_count
from jepa_utils.models.vision_language import QueryPredictor

__all__ = ["CausalQueryPredictor", "OrderedQueryPredictor"]


class OrderedQueryPredictor(QueryPredictor):
    """A `QueryPredictor` in which each place of the question has a learned vector, too.

    To `QueryPredictor` a question is a bag of words: "where is A from B" is "where is B from A".

    Parameters
    ----------
    dimensions, grid, embedding, vocabulary, width, layers, heads, dropout
        As for `QueryPredictor`; `vocabulary` is at least 1.
    places : int
        Most words of a question.

    Raises
    ------
    ValueError
        If a size is out of range; when it is asked, if a question has more words than places, and
        as `QueryPredictor`.
    """

    def __init__(
        self,
        dimensions: int,
        grid: tuple[int, int],
        embedding: int,
        *,
        vocabulary: int,
        places: int,
        **sizes,
    ):
        vocabulary, places = check_count("vocabulary", vocabulary), check_count("places", places)
        super().__init__(dimensions, grid, embedding, vocabulary=vocabulary, **sizes)
        self.places = nn.Embedding(places, self.words.embedding_dim)
        self.words = _PlacedWords(self.words, self.places)


class _PlacedWords(nn.Embedding):
    """Word vectors, each with that of its place added."""

    def __init__(self, words: nn.Embedding, places: nn.Embedding):
        super().__init__(*words.weight.shape, _weight=words.weight.data)
        self._places = (places,)  # the predictor holds its weights

    def forward(self, ids: Tensor) -> Tensor:
        (places,) = self._places
        if ids.shape[1] > places.num_embeddings:
            raise ValueError(
                f"ids must have at most places = {places.num_embeddings} columns, got "
                f"{ids.shape[1]}"
            )
        return super().forward(ids) + places.weight[: ids.shape[1]]


class CausalQueryPredictor(OrderedQueryPredictor):
    """The same network with the attention of a language model that writes.

    Visual tokens come first, row by row of the grid, then the question's words. Every token sees
    itself and those before it; the prediction is read from the last word, the only one that sees
    all. It has the parameters of an `OrderedQueryPredictor`, and always needs a question.

    Parameters
    ----------
    dimensions, grid, embedding, vocabulary, places, width, layers, heads, dropout
        As for `OrderedQueryPredictor`.
    """

    def forward(self, tokens: Tensor, ids: Tensor, visible: Tensor) -> Tensor:
        """Predict one embedding per image; arguments as for `QueryPredictor`."""
        if visible.shape != ids.shape or len(ids) != len(tokens) or not visible.any(dim=1).all():
            raise ValueError(
                f"visible must show a word of each of {len(tokens)} questions, got "
                f"{tuple(visible.shape)} for ids of {tuple(ids.shape)}"
            )
        x = torch.cat([self.read(tokens) + self.positions, self.words(ids)], dim=1)  # (B, K+L, W)
        missing = torch.cat([visible.new_zeros(tokens.shape[:2]), ~visible], dim=1)
        number = x.shape[1]
        later = torch.ones(number, number, dtype=torch.bool, device=x.device).triu(1)
        for layer in self.layers:
            x = layer(x, src_mask=later, src_key_padding_mask=missing)
        last = (torch.arange(number, device=x.device) * ~missing).argmax(dim=1)
        return self.write(x[torch.arange(len(x), device=x.device), last])
