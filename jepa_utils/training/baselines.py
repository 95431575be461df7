"""Rivals of a JEPA, trained by the same loop: labels, hidden words, captions, a decoder."""

from __future__ import annotations

from functools import partial
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jepa_utils.arguments import whole
from jepa_utils.models.text import TextDecoder, TextEncoder
from jepa_utils.models.vit import ViT
from jepa_utils.training._numbers import number, problem_with, rate, shares_of
from jepa_utils.training.jepa import JEPA
from jepa_utils.training.optimizers import (
    ImageTraining,
    Schedule,
    adam,
    at_least_float,
    optimizer_of,
)
from jepa_utils.training.parallel import batch_group, own_rows, per_rank, raise_together, weighted

__all__ = ["CaptionTraining", "ClassTraining", "DecoderTraining", "HybridTraining", "MaskedLM"]


class CaptionTraining(L.LightningModule):
    """Predict an image's caption word by word: the generative rival of predicting its embedding.

    Parameters
    ----------
    reader : nn.Module
        Visual tokens (B, K, D), and a question's ids and visible where there are any, to embeddings
        (B, E).
    decoder : TextDecoder
        Embeddings (B, E) and tokens (B, L) to logits (B, L, V).
    learning_rate : float, default 1e-3
        Of Adam.

    Raises
    ------
    ValueError
        If `learning_rate` is not positive.
    """

    def __init__(self, reader: nn.Module, decoder: TextDecoder, *, learning_rate: float = 1e-3):
        super().__init__()
        self.reader, self.decoder, self.learning_rate = reader, decoder, rate(learning_rate)

    def log_likelihood(self, embeddings: Tensor, ids: Tensor, visible: Tensor) -> Tensor:
        """Log-probability of each caption given its embedding, in nats: (B,)."""
        losses = F.cross_entropy(
            self.decoder(embeddings, ids).transpose(1, 2), ids, reduction="none"
        )  # (B, L)
        return -(losses * visible).sum(dim=1)

    def training_step(self, batch: tuple, batch_idx: int) -> dict[str, Tensor]:
        """Mean cross-entropy per word of one batch of a `CaptionDataModule`, in nats.

        Raises
        ------
        ValueError
            If a word is none of the decoder's, or no caption has one.
        """
        context, (ids, visible), *_ = batch
        raise_together(problem_with("captions", ids, self.decoder.choose.out_features))
        words = per_rank(visible.sum())
        if words == 0:  # on all processes, then
            raise ValueError("captions must hold at least one word per batch, got none")
        likelihood = self.log_likelihood(self.reader(*context), ids, visible)
        return {"loss": -likelihood.sum() / words}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over all parameters that learn."""
        return adam(self)


class ClassTraining(ImageTraining):
    """The same encoder trained with labels: what it can do when it is told the answers.

    Parameters
    ----------
    encoder : ViT
        Encoder; the classes are read from the mean of its tokens.
    classes : int
        Number of classes.
    crop, learning_rate, weight_decay, warmup
        See `MaskedJEPA`.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    def __init__(
        self,
        encoder: ViT,
        *,
        classes: int,
        crop: tuple[float, float] = (0.5, 1.0),
        learning_rate: float = 1e-3,
        weight_decay: float = 0.05,
        warmup: float = 0.1,
    ):
        super().__init__(learning_rate, weight_decay, warmup)
        classes = whole("classes", classes, 2)
        self.encoder, self.crop = encoder, shares_of(crop)
        self.head = nn.Linear(encoder.dimensions, classes)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Mean cross-entropy, in nats, of one batch: images (B, 3, S, S) and classes (B,).

        Raises
        ------
        ValueError
            If `labels` are not one class for each image.
        """
        raise_together(problem_with("labels", batch[1], self.head.out_features))
        images, group = self.crops(batch[0])
        with self.autocast():
            logits = self.head(self.encoder(images).mean(dim=1))
        return {"loss": weighted(F.cross_entropy(at_least_float(logits), batch[1]), group)}


class MaskedLM(L.LightningModule):
    """Masked language model: name the hidden tokens of a sequence from those around them.

    Hidden tokens are replaced by one that occurs in no text; the logits are products with the
    encoder's own token vectors.

    Parameters
    ----------
    encoder : TextEncoder
        The encoder.
    mask_id : int
        Token that stands for a hidden one.
    candidates : Tensor of int64, shape (C,)
        Token ids to choose from, ascending: all that occur in the training text.
    share : float, default 0.15
        Share of tokens hidden, between 0 and 1.
    frequencies : Tensor, shape (C,), optional
        How often each candidate occurs, positive. The logits' bias starts at its logarithm, so that
        the model begins with what can be said without reading; by default at 0.
    learning_rate : float, default 1e-3
        Of Adam.
    schedule : Schedule, optional
        As for `JEPA`.

    Raises
    ------
    ValueError
        If `share`, `learning_rate` or `mask_id` is out of range, `candidates` are not ascending
        token ids without `mask_id`, or `frequencies` are not as many positive numbers.

    References
    ----------
    Devlin et al., "BERT: Pre-training of deep bidirectional transformers for language
    understanding" (2019).
    """

    def __init__(
        self,
        encoder: TextEncoder,
        *,
        mask_id: int,
        candidates: Tensor,
        share: float = 0.15,
        frequencies: Tensor | None = None,
        learning_rate: float = 1e-3,
        schedule: Schedule | None = None,
    ):
        super().__init__()
        share = number("share", share, "between 0 and 1", lambda x: 0 < x < 1)
        size = encoder.tokens.num_embeddings
        mask_id = whole("mask_id", mask_id, 0, size - 1)
        ascending = (
            isinstance(candidates, Tensor)
            and candidates.dim() == 1
            and candidates.dtype == torch.int64
            and (candidates.diff() > 0).all()
        )
        if (
            not ascending
            or len(candidates) == 0
            or candidates[0] < 0
            or candidates[-1] >= size
            or mask_id in candidates
        ):
            got = type(candidates).__name__
            if isinstance(candidates, Tensor):
                got = f"{tuple(candidates.shape)} of {candidates.dtype}"
            raise ValueError(
                f"candidates must be ascending token ids below {size}, mask_id = {mask_id} not "
                f"among them, got {got}"
            )
        self.encoder, self.mask_id, self.share, self.learning_rate = (
            encoder,
            mask_id,
            share,
            rate(learning_rate),
        )
        self.schedule = schedule
        start = torch.zeros(len(candidates))
        if frequencies is not None:
            fits = frequencies.shape == candidates.shape and (frequencies > 0).all()
            if not fits or frequencies.isinf().any():
                least = f" from {float(frequencies.min()):g}" if frequencies.numel() else ""
                raise ValueError(
                    f"frequencies must be {len(candidates)} positive finite numbers, one for each "
                    f"candidate, got {tuple(frequencies.shape)}{least}"
                )
            start = (frequencies / frequencies.sum()).log()
        self.bias = nn.Parameter(start.to(torch.get_default_dtype()))
        self.register_buffer("candidates", candidates)

    def training_step(
        self, batch: tuple[tuple[Tensor, Tensor], ...], batch_idx: int
    ) -> dict[str, Tensor]:
        """Mean cross-entropy of the hidden tokens of one batch, in nats.

        The masks of a `SpanDataModule` are not used.

        Raises
        ------
        ValueError
            If there are no tokens, one is not of the encoder's, or a hidden one is no candidate.
        """
        ids = batch[0][0]  # (B, L)
        raise_together(problem_with("tokens", ids, self.encoder.tokens.num_embeddings))
        group = batch_group(len(ids), ids.device)
        draws = torch.rand(group.total, ids.shape[1], device=ids.device)
        hidden = (draws < self.share) | (draws == draws.min())  # never none, which has no mean
        hidden = own_rows(hidden, group)
        shown = ids.masked_fill(hidden, self.mask_id)
        classes = torch.searchsorted(self.candidates, ids[hidden]).clamp(
            max=len(self.candidates) - 1
        )
        known = torch.equal(self.candidates[classes], ids[hidden])
        raise_together(
            None
            if known
            else "candidates must hold every token of the batches, "
            "got a hidden token that is none of them"
        )
        h = self.encoder.encode_tokens(shown, torch.ones_like(hidden))[hidden]  # (M, D)
        # In chunks of rows the logits (M, C) never exist as a whole, which is twice as fast.
        choose = partial(
            F.linear_cross_entropy,
            h,
            self.encoder.tokens.weight[self.candidates],
            classes,
            linear_bias=self.bias,
            options=nn.LinearCrossEntropyOptions(batch_chunk_size=128),
        )
        if group.ranks == 1:
            return {"loss": choose()}
        # of none it may be, here
        return {"loss": choose(reduction="sum") / per_rank(hidden.sum())}

    def configure_optimizers(self) -> torch.optim.Optimizer | dict[str, Any]:
        """Adam over all parameters, or what `schedule` says."""
        return optimizer_of(self)


class HybridTraining(L.LightningModule):
    """Predict embeddings and hidden tokens at once: the sum of a JEPA's loss and a masked model's.

    Parameters
    ----------
    jepa : JEPA
        The one; its learning rate and schedule are those of both.
    masked : MaskedLM
        The other, with the same encoder.

    Raises
    ------
    ValueError
        If the two have different encoders.
    """

    def __init__(self, jepa: JEPA, masked: MaskedLM):
        super().__init__()
        if jepa.context_encoder is not masked.encoder:
            raise ValueError("masked must have the encoder of jepa, got another one")
        self.jepa, self.masked = jepa, masked
        self.learning_rate, self.schedule = jepa.learning_rate, jepa.schedule

    def training_step(
        self, batch: tuple[tuple[Tensor, Tensor], ...], batch_idx: int
    ) -> dict[str, Tensor]:
        """Losses "loss", "jepa" and "masked" of one batch of a `SpanDataModule`."""
        jepa = self.jepa.training_step(batch, batch_idx)["loss"]
        masked = self.masked.training_step(batch, batch_idx)["loss"]
        return {"loss": jepa + masked, "jepa": jepa.detach(), "masked": masked.detach()}

    def on_train_batch_end(
        self, outputs: dict[str, Tensor], batch: tuple[tuple[Tensor, Tensor], ...], batch_idx: int
    ) -> None:
        """Let the JEPA's moving average follow, where it has one."""
        self.jepa.on_train_batch_end(outputs, batch, batch_idx)

    def configure_optimizers(self) -> torch.optim.Optimizer | dict[str, Any]:
        """Adam over all parameters, or what the schedule says."""
        return optimizer_of(self)


class DecoderTraining(L.LightningModule):
    """Teach a decoder to write the tokens behind an embedding.

    Parameters
    ----------
    decoder : TextDecoder
        The decoder.
    learning_rate : float, default 1e-3
        Of Adam.
    """

    def __init__(self, decoder: TextDecoder, *, learning_rate: float = 1e-3):
        super().__init__()
        self.decoder, self.learning_rate = decoder, rate(learning_rate)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Mean cross-entropy per token, in nats, of embeddings (B, D) and their tokens (B, L).

        Raises
        ------
        ValueError
            If there are no tokens, or one is none of the decoder's.
        """
        embeddings, ids = batch
        raise_together(problem_with("tokens", ids, self.decoder.choose.out_features))
        loss = F.cross_entropy(self.decoder(embeddings, ids).flatten(0, 1), ids.flatten())
        return {"loss": weighted(loss, batch_group(len(ids), ids.device))}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over all parameters."""
        return adam(self)
