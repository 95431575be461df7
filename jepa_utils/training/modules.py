"""The rule that joins encoder, predictor and objective, as LightningModules."""

from __future__ import annotations

from collections.abc import Callable

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jepa_utils.models.ema import EMA
from jepa_utils.models.text import TextDecoder, TextEncoder

__all__ = ["JEPA", "DecoderTraining", "MaskedLM"]


class JEPA(L.LightningModule):
    """Predict the embedding of the target from the embedding of the context, under a regulariser.

    The loss is ``objective(predictor(h_x), h_y) + weight * regularizer(h)`` with ``h_x = context_encoder(x)``,
    ``h_y = target_encoder(y)`` and ``h`` one of the two, or both; gradients flow through both, unless told otherwise. Contexts
    and targets that are tuples, such as tokens with their mask, are passed to the encoder as several arguments.

    Parameters
    ----------
    context_encoder : nn.Module
        Contexts x to embeddings (B, D).
    predictor : nn.Module
        Embeddings (B, D) to predicted target embeddings (B, D).
    target_encoder : nn.Module, optional
        Targets y to embeddings (B, D); the context encoder itself by default. An `EMA` gets no gradient and follows the
        context encoder after every step.
    objective : callable, optional
        Predictions and target embeddings, (B, D) each, to a scalar, such as `InfoNCE`; the mean squared error by default. Where
        batches have groups it also gets ``positives``, of bool (B, B): which rows share a group.
    regularizer : callable, optional
        Embeddings (B, D) to a scalar, such as `SIGReg`; none by default.
    weight : float, default 0.0
        Its factor, lambda.
    regularize : {"context", "target", "both"}, default "context"
        Which embeddings it sees; "both" is the mean of its two values. Where the encoder can tell targets from contexts, or
        there are two encoders, the other side is free to collapse.
    stop_gradient : bool, default False
        Let no gradient through the target embeddings.
    learning_rate : float, default 1e-3
        Of Adam.

    Raises
    ------
    ValueError
        If `weight` is negative, or is given without a regulariser; if `regularize` is none of the three; if
        `learning_rate` is not positive; if a target is to be regularised that no gradient reaches.
    """

    def __init__(
        self,
        context_encoder: nn.Module,
        predictor: nn.Module,
        *,
        target_encoder: nn.Module | None = None,
        objective: Callable[[Tensor, Tensor], Tensor] = F.mse_loss,
        regularizer: Callable[[Tensor], Tensor] | None = None,
        weight: float = 0.0,
        regularize: str = "context",
        stop_gradient: bool = False,
        learning_rate: float = 1e-3,
    ):
        super().__init__()
        if weight < 0 or (weight > 0 and regularizer is None):
            raise ValueError(f"weight must be 0 or positive, and 0 without a regularizer, got {weight}")
        if regularize not in ("context", "target", "both"):
            raise ValueError(f"regularize must be 'context', 'target' or 'both', got {regularize!r}")
        stopped = stop_gradient or isinstance(target_encoder, EMA)
        if weight > 0 and regularize != "context" and stopped:
            raise ValueError(f"regularize must be 'context' where no gradient reaches the target, got {regularize!r}")
        if learning_rate <= 0:
            raise ValueError(f"learning_rate must be positive, got {learning_rate}")
        self.context_encoder = context_encoder
        self.target_encoder = context_encoder if target_encoder is None else target_encoder
        self.predictor = predictor
        self.objective = objective
        self.regularizer = regularizer
        self.weight = weight
        self.regularize = regularize
        self.stop_gradient = stop_gradient
        self.learning_rate = learning_rate

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> dict[str, Tensor]:
        """Losses of one batch (contexts, targets) or (contexts, targets, groups): "loss", "prediction" and "regularizer"."""
        context, target, *groups = batch
        h_x = _encode(self.context_encoder, context)  # (B, D)
        h_y = _encode(self.target_encoder, target)  # (B, D)
        if self.stop_gradient:
            h_y = h_y.detach()
        pairs = {"positives": group.unsqueeze(1) == group for group in groups}
        prediction = self.objective(self.predictor(h_x), h_y, **pairs)
        if self.weight == 0:  # the regulariser would cost time and change nothing
            return {"loss": prediction, "prediction": prediction.detach()}
        sides = {"context": [h_x], "target": [h_y], "both": [h_x, h_y]}[self.regularize]
        regularizer = sum(self.regularizer(h) for h in sides) / len(sides)
        loss = prediction + self.weight * regularizer
        return {"loss": loss, "prediction": prediction.detach(), "regularizer": regularizer.detach()}

    def on_train_batch_end(self, outputs: dict[str, Tensor], batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Let a moving average follow."""
        if isinstance(self.target_encoder, EMA):
            self.target_encoder.update(self.context_encoder)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over all parameters that learn."""
        return _adam(self)


class MaskedLM(L.LightningModule):
    """Masked language model: name the hidden tokens of a sequence from those around them. A baseline for `TextEncoder`.

    Hidden tokens are replaced by one that occurs in no text; the logits are products with the encoder's own token vectors.

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
    learning_rate : float, default 1e-3
        Of Adam.

    Raises
    ------
    ValueError
        If `share`, `learning_rate` or `mask_id` is out of range, or `candidates` are not ascending token ids without `mask_id`.

    References
    ----------
    Devlin et al., "BERT: Pre-training of deep bidirectional transformers for language understanding" (2019).
    """

    def __init__(
        self,
        encoder: TextEncoder,
        *,
        mask_id: int,
        candidates: Tensor,
        share: float = 0.15,
        learning_rate: float = 1e-3,
    ):
        super().__init__()
        if not 0 < share < 1:
            raise ValueError(f"share must lie between 0 and 1, got {share}")
        if learning_rate <= 0:
            raise ValueError(f"learning_rate must be positive, got {learning_rate}")
        size = encoder.tokens.num_embeddings
        ascending = candidates.dim() == 1 and candidates.dtype == torch.int64 and (candidates.diff() > 0).all()
        if not ascending or len(candidates) == 0 or candidates[0] < 0 or candidates[-1] >= size or mask_id in candidates:
            raise ValueError(
                f"candidates must be ascending token ids below {size}, mask_id = {mask_id} not among them, got "
                f"{tuple(candidates.shape)} of {candidates.dtype}"
            )
        if not 0 <= mask_id < size:
            raise ValueError(f"mask_id must be a token id below {size}, got {mask_id}")
        self.encoder, self.mask_id, self.share, self.learning_rate = encoder, mask_id, share, learning_rate
        self.bias = nn.Parameter(torch.zeros(len(candidates)))
        self.register_buffer("candidates", candidates)

    def training_step(self, batch: tuple[tuple[Tensor, Tensor], ...], batch_idx: int) -> dict[str, Tensor]:
        """Mean cross-entropy of the hidden tokens of one batch, in nats; the masks of a `SpanDataModule` are not used.

        Raises
        ------
        ValueError
            If a hidden token is no candidate.
        """
        ids = batch[0][0]  # (B, L)
        draws = torch.rand(ids.shape, device=ids.device)
        hidden = (draws < self.share) | (draws == draws.min())  # never none, which has no mean
        shown = ids.masked_fill(hidden, self.mask_id)
        h = self.encoder.encode_tokens(shown, torch.ones_like(hidden))[hidden]  # (M, D)
        logits = F.linear(h, self.encoder.tokens.weight[self.candidates], self.bias)  # (M, C)
        classes = torch.searchsorted(self.candidates, ids[hidden]).clamp(max=len(self.candidates) - 1)
        if not torch.equal(self.candidates[classes], ids[hidden]):
            raise ValueError("candidates must hold every token of the batches, got a hidden token that is none of them")
        return {"loss": F.cross_entropy(logits, classes)}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over all parameters."""
        return _adam(self)


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
        if learning_rate <= 0:
            raise ValueError(f"learning_rate must be positive, got {learning_rate}")
        self.decoder, self.learning_rate = decoder, learning_rate

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Mean cross-entropy per token, in nats, of one batch: embeddings (B, D) and the tokens (B, L) behind them."""
        embeddings, ids = batch
        return {"loss": F.cross_entropy(self.decoder(embeddings, ids).flatten(0, 1), ids.flatten())}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over all parameters."""
        return _adam(self)


def _encode(encoder: nn.Module, inputs: Tensor | tuple[Tensor, ...]) -> Tensor:
    return encoder(*inputs) if isinstance(inputs, (tuple, list)) else encoder(inputs)


def _adam(module: L.LightningModule) -> torch.optim.Optimizer:
    """Adam over all parameters that learn; fused: same steps, a third of the time."""
    learning = [p for p in module.parameters() if p.requires_grad]
    return torch.optim.Adam(learning, lr=module.learning_rate, fused=True)
