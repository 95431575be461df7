"""Encoders of text: a window of words, or a sequence of tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from jepa_utils.arguments import check_count, whole

__all__ = ["TextDecoder", "TextEncoder", "WindowEncoder"]


class WindowEncoder(nn.Module):
    """Several context words to one embedding.

    The words share their vectors, their places are kept apart, and there is one hidden layer.

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
        If `window` or `hidden` is no integer of at least 1.
    """

    def __init__(self, words: nn.Embedding, *, window: int, hidden: int):
        super().__init__()
        window, hidden = check_count("window", window), check_count("hidden", hidden)
        self.words = words
        dimensions = words.embedding_dim
        self.mix = nn.Sequential(
            nn.Linear(window * dimensions, hidden), nn.GELU(), nn.Linear(hidden, dimensions)
        )

    def forward(self, context: Tensor) -> Tensor:
        """Word ids (B, W), oldest first, to embeddings (B, D)."""
        return self.mix(
            torch.flatten(self.words(context), start_dim=1)
        )  # (B, W, D) -> (B, W*D) -> (B, D)


class TextEncoder(nn.Module):
    """Transformer encoder of token sequences: visible tokens only, pooled by a mean.

    Every visible token sees every other visible token, before and after it; hidden tokens are seen
    by none and not pooled.

    Parameters
    ----------
    vocabulary : int
        Number of token ids V.
    dimensions : int, default 64
        Width D of token vectors and of the embedding.
    heads : int, default 2
        Attention heads; must divide `dimensions`.
    layers : int, default 2
        Transformer layers; 0 leaves token and position vectors alone.
    max_length : int, default 512
        Longest sequence, in tokens.
    dropout : float, default 0.1
        Share of activations dropped while training.
    token_std : float, default 1.0
        Standard deviation of the first, random token and position vectors.
    positions : bool, default True
        Add a learned vector for each place. Without, the encoder does not know the order.
    norm_first : bool, default False
        Normalise before attention and before the hidden layer, not after (pre-norm).
    identity_start : bool, default False
        Let every layer begin as the identity: what it adds is 0 at first. For `norm_first`.
    weights : Tensor, shape (V,), optional
        What each token counts in the mean at first, positive, such as inverse document frequencies;
        the weights learn. By default all tokens count alike.

    Raises
    ------
    ValueError
        If a number is out of range, `weights` are not V positive numbers, or layers are to begin
        as the identity that normalise last.
    """

    def __init__(
        self,
        vocabulary: int,
        *,
        dimensions: int = 64,
        heads: int = 2,
        layers: int = 2,
        max_length: int = 512,
        dropout: float = 0.1,
        token_std: float = 1.0,
        positions: bool = True,
        norm_first: bool = False,
        identity_start: bool = False,
        weights: Tensor | None = None,
    ):
        super().__init__()
        sizes = dict(vocabulary=vocabulary, dimensions=dimensions, heads=heads)
        vocabulary, dimensions, heads = (check_count(*size) for size in sizes.items())
        layers = whole("layers", layers, 0)
        max_length = check_count("max_length", max_length)
        if dimensions % heads:
            raise ValueError(f"heads must divide dimensions = {dimensions}, got {heads}")
        if not 0 < token_std < float("inf"):
            raise ValueError(f"token_std must be positive and finite, got {token_std}")
        if identity_start and not norm_first:
            raise ValueError(
                f"identity_start must be False with norm_first=False, got {identity_start}"
            )
        self.tokens = nn.Embedding(vocabulary, dimensions)
        self.positions = nn.Embedding(max_length, dimensions) if positions else None
        self.max_length = max_length
        self.tokens.weight.data.mul_(token_std)
        if positions:
            self.positions.weight.data.mul_(token_std)
        self.dropout = nn.Dropout(dropout)
        how = dict(batch_first=True, norm_first=norm_first)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(dimensions, heads, 4 * dimensions, dropout, **how)
            for _ in range(layers)
        )
        if identity_start:
            for layer in self.layers:
                nn.init.zeros_(layer.self_attn.out_proj.weight)
                nn.init.zeros_(layer.linear2.weight)
                nn.init.zeros_(layer.linear2.bias)
        self.norm = nn.LayerNorm(dimensions)
        self.weights = None
        if weights is not None:
            if weights.shape != (vocabulary,) or not (weights > 0).all() or weights.isinf().any():
                least = f" from {float(weights.min()):g}" if weights.numel() else ""
                raise ValueError(
                    f"weights must be {vocabulary} positive finite numbers, one a token, got "
                    f"{tuple(weights.shape)}{least}"
                )
            # logarithms, which stay positive however they learn
            self.weights = nn.Embedding.from_pretrained(weights.log()[:, None], freeze=False)

    def encode_tokens(self, ids: Tensor, visible: Tensor) -> Tensor:
        """One vector for each token.

        Parameters
        ----------
        ids : Tensor of int64, shape (B, L)
            Token ids.
        visible : Tensor of bool, shape (B, L)
            The tokens that may be seen.

        Returns
        -------
        Tensor, shape (B, L, D)
            Zero where a token is hidden.

        Raises
        ------
        ValueError
            If shapes differ, a sequence is longer than `max_length`, or a row has no visible token.
        """
        self._check(ids, visible)
        # Columns hidden in every row are left out: nobody sees them, so it only saves time.
        columns = visible.any(dim=0).nonzero().squeeze(1)  # (L',)
        ids, shown = ids[:, columns], visible[:, columns]
        x = self.tokens(ids)  # (B, L', D)
        x = self.dropout(x if self.positions is None else x + self.positions(columns))
        hidden = None if shown.all() else ~shown
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=hidden)
        x = self.norm(x) * shown.unsqueeze(-1)
        return x.new_zeros(*visible.shape, x.shape[-1]).index_copy(1, columns, x)

    def forward(self, ids: Tensor, visible: Tensor) -> Tensor:
        """Embeddings (B, D), the mean over visible tokens; the rest is as for `encode_tokens`."""
        x = self.encode_tokens(ids, visible)
        share = visible.to(x.dtype)  # (B, L)
        if self.weights is not None:
            share = share * self.weights(ids).squeeze(-1).exp()
        return (x * share.unsqueeze(-1)).sum(dim=1) / share.sum(dim=1, keepdim=True)

    def _check(self, ids: Tensor, visible: Tensor) -> None:
        if ids.dim() != 2 or ids.shape != visible.shape or visible.dtype != torch.bool:
            raise ValueError(
                f"ids and visible must have one shape (B, L), visible of bool, "
                f"got {tuple(ids.shape)} and "
                f"{tuple(visible.shape)} of {visible.dtype}"
            )
        if self.positions is not None and ids.shape[1] > self.max_length:
            raise ValueError(
                f"ids must have at most max_length = {self.max_length} columns, got {ids.shape[1]}"
            )
        empty = (~visible.any(dim=1)).nonzero().flatten().tolist()
        if empty:
            raise ValueError(
                f"visible must show at least one token of every row, got none in rows {empty[:8]}"
            )


class TextDecoder(nn.Module):
    """A recurrent network that writes text from an embedding, one token after the other.

    Parameters
    ----------
    vocabulary : int
        Number of token ids V.
    embedding : int
        Dimensions D of the embeddings it reads.
    dimensions : int, default 128
        Width of token vectors and of the recurrent state.

    Raises
    ------
    ValueError
        If a number is no integer of at least 1.
    """

    def __init__(self, vocabulary: int, *, embedding: int, dimensions: int = 128):
        super().__init__()
        sizes = dict(vocabulary=vocabulary, embedding=embedding, dimensions=dimensions)
        vocabulary, embedding, dimensions = (check_count(*size) for size in sizes.items())
        self.tokens = nn.Embedding(vocabulary + 1, dimensions)  # the last one begins every text
        self.read = nn.Linear(embedding, dimensions)
        self.recurrent = nn.GRU(dimensions, dimensions, batch_first=True)
        self.choose = nn.Linear(dimensions, vocabulary)

    def forward(self, embeddings: Tensor, ids: Tensor) -> Tensor:
        """Logits (B, L, V) of each token of ids (B, L), from those before and embeddings (B, D)."""
        start = ids.new_full((len(ids), 1), self.tokens.num_embeddings - 1)
        before = self.tokens(torch.cat([start, ids[:, :-1]], dim=1))  # (B, L, W)
        states, _ = self.recurrent(before + self.read(embeddings).unsqueeze(1))
        return self.choose(states)

    @torch.no_grad()
    def write(self, embeddings: Tensor, length: int, *, without: Sequence[int] = ()) -> Tensor:
        """The likeliest next token, `length` times: ids (B, length) for embeddings (B, D).

        It is never one of `without`.
        """
        length = check_count("length", length)
        ids = embeddings.new_full(
            (len(embeddings), 1), self.tokens.num_embeddings - 1, dtype=torch.int64
        )
        state, told = None, self.read(embeddings).unsqueeze(1)  # (B, 1, W)
        written = []
        for _ in range(length):
            states, state = self.recurrent(self.tokens(ids) + told, state)
            logits = self.choose(states)  # (B, 1, V)
            logits[..., list(without)] = -torch.inf
            ids = logits.argmax(dim=-1)  # (B, 1)
            written.append(ids)
        return torch.cat(written, dim=1)
