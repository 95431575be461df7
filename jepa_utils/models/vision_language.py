"""Networks on the visual tokens of an encoder that stays as it is.

An embedding of the image, and predictors that read text, too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jepa_utils.arguments import check_count, whole
from jepa_utils.models.mlp import MLP
from jepa_utils.models.vit import position_grid

__all__ = ["CausalQueryPredictor", "CrossPredictor", "ImageHead", "QueryPredictor"]


class ImageHead(nn.Sequential):
    """One embedding from the visual tokens of an image.

    Each is made narrow, and all side by side go through a hidden layer.

    The place of a token is the place of its numbers, so where something lies is not lost, as it is
    in a mean of tokens.

    Maps tokens (B, K, D) to embeddings (B, E).

    Parameters
    ----------
    places : int
        Number of tokens K.
    dimensions : int
        Width D of the tokens.
    width : int, default 16
        Numbers that are left of each token.
    hidden : int, default 256
        Width of the hidden layer.
    embedding : int, default 128
        Dimensions E of the embedding.
    dropout : float, default 0.0
        Share of the narrow tokens' numbers dropped while training.

    Raises
    ------
    ValueError
        If a size is no integer of at least 1.
    """

    def __init__(
        self,
        places: int,
        dimensions: int,
        *,
        width: int = 16,
        hidden: int = 256,
        embedding: int = 128,
        dropout: float = 0.0,
    ):
        places, dimensions = check_count("places", places), check_count("dimensions", dimensions)
        sizes = dict(width=width, hidden=hidden, embedding=embedding)
        width, hidden, embedding = (check_count(*size) for size in sizes.items())
        narrow = [
            nn.LayerNorm(dimensions),
            nn.Linear(dimensions, width),
            nn.Flatten(),
            nn.GELU(),
            nn.Dropout(dropout),
        ]
        super().__init__(*narrow, MLP(width * places, hidden, embedding, layers=1))


class CrossPredictor(nn.Module):
    """Predict hidden visual tokens from visible ones and a text: tokens ask, words answer.

    In each layer all visual tokens look at each other, before and after (self-attention), then at
    the words (cross-attention: queries from visual tokens, keys and values from words).

    Parameters
    ----------
    dimensions : int
        Width D of the visual tokens.
    word_dimensions : int
        Width E of the word vectors.
    grid : tuple of int
        Rows and columns of visual tokens.
    width : int, default 96
        Width of the predictor's own tokens; a multiple of 4.
    layers : int, default 2
        Transformer layers.
    heads : int, default 3
        Attention heads; must divide `width`.

    Raises
    ------
    ValueError
        If a size is out of range.

    References
    ----------
    "JEPA: Joint Embedding Predictive Architecture" (notes on VL-JEPA, 2026), section "Predictor".
    """

    def __init__(
        self,
        dimensions: int,
        word_dimensions: int,
        grid: tuple[int, int],
        *,
        width: int = 96,
        layers: int = 2,
        heads: int = 3,
    ):
        super().__init__()
        width, heads = _check_width(width, heads)
        sizes = dict(dimensions=dimensions, word_dimensions=word_dimensions, layers=layers)
        dimensions, word_dimensions, layers = (check_count(*size) for size in sizes.items())
        self.dimensions, self.grid = dimensions, grid
        self.read, self.read_words = nn.Linear(dimensions, width), nn.Linear(word_dimensions, width)
        self.mask_token, self.no_text = (nn.Parameter(0.02 * torch.randn(width)) for _ in range(2))
        self.register_buffer("positions", position_grid(width, *grid), persistent=False)
        settings = dict(nhead=heads, dim_feedforward=4 * width, dropout=0.0, activation="gelu")
        self.layers = nn.ModuleList(
            nn.TransformerDecoderLayer(width, **settings, batch_first=True, norm_first=True)
            for _ in range(layers)
        )
        self.norm, self.write = nn.LayerNorm(width), nn.Linear(width, dimensions)

    def forward(
        self,
        context: Tensor,
        seen: Tensor,
        wanted: Tensor,
        words: Tensor | None = None,
        visible: Tensor | None = None,
    ) -> Tensor:
        """Predict the tokens at the wanted places.

        Parameters
        ----------
        context : Tensor, shape (B, K, D)
            Visual tokens that are seen.
        seen : Tensor of int64, shape (B, K)
            Their places on the grid.
        wanted : Tensor of int64, shape (B, T)
            Places to predict.
        words : Tensor, shape (B, L, E), optional
            Word vectors. Without them one learned vector stands for "no text".
        visible : Tensor of bool, shape (B, L), optional
            The words that are there; given with `words`.

        Returns
        -------
        Tensor, shape (B, T, D)

        Raises
        ------
        ValueError
            If shapes do not fit, one of `words` and `visible` is missing, or a row has no word.
        """
        shape = (*seen.shape, self.dimensions)
        if (
            seen.dim() != 2
            or context.shape != shape
            or wanted.dim() != 2
            or len(wanted) != len(seen)
        ):
            raise ValueError(
                f"context must be (B, K, {self.dimensions}), seen (B, K) and wanted (B, T), "
                f"got {tuple(context.shape)}, {tuple(seen.shape)} "
                f"and {tuple(wanted.shape)}"
            )
        if words is None and visible is None:
            text, missing = self.no_text.expand(len(context), 1, -1), None
        else:
            _check_words("words", words, visible, len(context))
            text, missing = self.read_words(words), ~visible
        asked = self.mask_token + self.positions[wanted]  # (B, T, W)
        x = torch.cat([self.read(context) + self.positions[seen], asked], dim=1)  # (B, K+T, W)
        for layer in self.layers:
            x = layer(x, text, memory_key_padding_mask=missing)
        return self.write(self.norm(x[:, seen.shape[1] :]))


class QueryPredictor(nn.Module):
    """Predict the embedding of a text from visual tokens and a question about them.

    One transformer over visual tokens and the question's words, in which every token sees every
    other one; the prediction is read from their mean.

    Parameters
    ----------
    dimensions : int
        Width D of the visual tokens.
    grid : tuple of int
        Rows and columns of visual tokens.
    embedding : int
        Width of the embedding to predict.
    vocabulary : int, default 0
        Number of token ids of the questions V; 0 if none are asked.
    places : int, default 0
        Most words of a question, if their order is to be seen: each place gets a learned vector.
        With 0 a question is a bag of words.
    width : int, default 128
        Width of the predictor's own tokens; a multiple of 4.
    layers : int, default 1
        Transformer layers.
    heads : int, default 4
        Attention heads; must divide `width`.
    dropout : float, default 0.1
        Share of activations dropped while training.

    Raises
    ------
    ValueError
        If a size is out of range.

    References
    ----------
    Chen et al., "VL-JEPA", arXiv 2512.10942. There the predictor comes from a language model; here
    it is small and new.
    """

    def __init__(
        self,
        dimensions: int,
        grid: tuple[int, int],
        embedding: int,
        *,
        vocabulary: int = 0,
        places: int = 0,
        width: int = 128,
        layers: int = 1,
        heads: int = 4,
        dropout: float = 0.1,
    ):
        super().__init__()
        width, heads = _check_width(width, heads)
        sizes = dict(dimensions=dimensions, embedding=embedding, layers=layers)
        dimensions, embedding, layers = (check_count(*size) for size in sizes.items())
        vocabulary, places = whole("vocabulary", vocabulary, 0), whole("places", places, 0)
        if places and not vocabulary:
            raise ValueError(f"places must be 0 for a predictor with vocabulary=0, got {places}")
        self.dimensions = dimensions
        self.read = nn.Sequential(nn.LayerNorm(dimensions), nn.Linear(dimensions, width))
        self.words = nn.Embedding(vocabulary, width) if vocabulary else None
        self.register_buffer("positions", position_grid(width, *grid), persistent=False)
        settings = dict(nhead=heads, dim_feedforward=2 * width, dropout=dropout, activation="gelu")
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, **settings, batch_first=True, norm_first=True)
            for _ in range(layers)
        )
        self.write = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, embedding))
        self.places = nn.Embedding(places, width) if places else None

    def forward(
        self, tokens: Tensor, ids: Tensor | None = None, visible: Tensor | None = None
    ) -> Tensor:
        """Predict one embedding per image.

        Parameters
        ----------
        tokens : Tensor, shape (B, K, D)
            The visual tokens of the whole grid.
        ids : Tensor of int64, shape (B, L), optional
            Token ids of the question.
        visible : Tensor of bool, shape (B, L), optional
            The words that are there; given with `ids`.

        Returns
        -------
        Tensor, shape (B, embedding)

        Raises
        ------
        ValueError
            If shapes do not fit, one of `ids` and `visible` is missing, a row has no word, a
            question is asked of a predictor without vocabulary, or it has more words than places.
        """
        wanted = (len(self.positions), self.dimensions)
        if tokens.dim() != 3 or tokens.shape[1:] != wanted:
            raise ValueError(
                f"tokens must have shape (B, {wanted[0]}, {wanted[1]}), got {tuple(tokens.shape)}"
            )
        x, missing = self.read(tokens) + self.positions, None  # (B, K, W)
        if ids is not None or visible is not None:
            if self.words is None:
                raise ValueError(
                    "ids must be None for a predictor with vocabulary=0, got a question"
                )
            _check_words("ids", ids, visible, len(tokens))
            x = torch.cat([x, self._read_words(ids)], dim=1)  # (B, K+L, W)
            missing = torch.cat([visible.new_zeros(tokens.shape[:2]), ~visible], dim=1)
        return self.write(self._pooled(x, missing))

    def _read_words(self, ids: Tensor) -> Tensor:
        words = self.words(ids)  # (B, L, W)
        if self.places is None:
            return words
        if ids.shape[1] > self.places.num_embeddings:
            raise ValueError(
                f"ids must have at most places = {self.places.num_embeddings} columns, got "
                f"{ids.shape[1]}"
            )
        return words + self.places.weight[: ids.shape[1]]

    def _pooled(self, x: Tensor, missing: Tensor | None) -> Tensor:
        """One vector (B, W) from all tokens (B, K+L, W)."""
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=missing)
        if missing is not None:
            x = x * ~missing.unsqueeze(-1)
        count = x.shape[1] if missing is None else (~missing).sum(dim=1, keepdim=True)
        return x.sum(dim=1) / count


class CausalQueryPredictor(QueryPredictor):
    """The same network with the attention of a language model that writes.

    Visual tokens come first, row by row of the grid, then the question's words. Every token sees
    itself and those before it; the prediction is read from the last word, the only one that sees
    all. It has the parameters of a `QueryPredictor`.

    Parameters
    ----------
    dimensions, grid, embedding, vocabulary, places, width, layers, heads, dropout
        As for `QueryPredictor`.
    """

    def _pooled(self, x: Tensor, missing: Tensor | None) -> Tensor:
        number = x.shape[1]
        later = torch.ones(number, number, dtype=torch.bool, device=x.device).triu(1)
        for layer in self.layers:
            x = layer(x, src_mask=later, src_key_padding_mask=missing)
        if missing is None:
            return x[:, -1]
        place = torch.arange(number, device=x.device)
        last = (place * ~missing).argmax(dim=1)
        return x[torch.arange(len(x), device=x.device), last]


def _check_width(width: int, heads: int) -> tuple[int, int]:
    width, heads = check_count("width", width), check_count("heads", heads)
    if width % 4:
        raise ValueError(f"width must be a positive multiple of 4, got {width}")
    if width % heads:
        raise ValueError(f"heads must divide width = {width}, got {heads}")
    return width, heads


def _check_words(name: str, words: Tensor | None, visible: Tensor | None, rows: int) -> None:
    """Words are ids (B, L) or vectors (B, L, E)."""
    if words is None or visible is None:
        raise ValueError(f"{name} and visible must be given together, got one of them")
    if len(words) != rows or visible.shape != words.shape[:2] or visible.dtype != torch.bool:
        raise ValueError(
            f"{name} must be given for {rows} rows and visible be of bool and as long, "
            f"got {tuple(words.shape)} and "
            f"{tuple(visible.shape)} of {visible.dtype}"
        )
    if not visible.any(dim=1).all():
        raise ValueError("visible must show at least one word of every row, got a row without")
