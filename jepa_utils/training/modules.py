"""The rule that joins encoder, predictor and objective, as LightningModules."""

from __future__ import annotations

from collections.abc import Callable

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["JEPA"]


class JEPA(L.LightningModule):
    """Predict the embedding of the target from the embedding of the context, under a regulariser.

    The loss is ``MSE(predictor(h_x), h_y) + weight * regularizer(h)`` with ``h_x = context_encoder(x)``,
    ``h_y = target_encoder(y)`` and ``h`` one of the two; gradients flow through both.

    Parameters
    ----------
    context_encoder : nn.Module
        Contexts x to embeddings (B, D).
    predictor : nn.Module
        Embeddings (B, D) to predicted target embeddings (B, D).
    target_encoder : nn.Module, optional
        Targets y to embeddings (B, D); the context encoder itself by default.
    regularizer : callable, optional
        Embeddings (B, D) to a scalar, such as `SIGReg`; none by default.
    weight : float, default 0.0
        Its factor, lambda.
    regularize : {"context", "target"}, default "context"
        Which embeddings it sees. With one shared encoder this hardly matters; with two, the other one is free to collapse.
    learning_rate : float, default 1e-3
        Of Adam.

    Raises
    ------
    ValueError
        If `weight` is negative, or is given without a regulariser; if `regularize` is neither of the two; if
        `learning_rate` is not positive.
    """

    def __init__(
        self,
        context_encoder: nn.Module,
        predictor: nn.Module,
        *,
        target_encoder: nn.Module | None = None,
        regularizer: Callable[[Tensor], Tensor] | None = None,
        weight: float = 0.0,
        regularize: str = "context",
        learning_rate: float = 1e-3,
    ):
        super().__init__()
        if weight < 0 or (weight > 0 and regularizer is None):
            raise ValueError(f"weight must be 0 or positive, and 0 without a regularizer, got {weight}")
        if regularize not in ("context", "target"):
            raise ValueError(f"regularize must be 'context' or 'target', got {regularize!r}")
        if learning_rate <= 0:
            raise ValueError(f"learning_rate must be positive, got {learning_rate}")
        self.context_encoder = context_encoder
        self.target_encoder = context_encoder if target_encoder is None else target_encoder
        self.predictor = predictor
        self.regularizer = regularizer
        self.weight = weight
        self.regularize = regularize
        self.learning_rate = learning_rate

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Losses of one batch (contexts, targets): "loss", and its parts "prediction" and "regularizer"."""
        context, target = batch
        h_x = self.context_encoder(context)  # (B, D)
        h_y = self.target_encoder(target)  # (B, D)
        prediction = F.mse_loss(self.predictor(h_x), h_y)
        if self.weight == 0:  # the regulariser would cost time and change nothing
            return {"loss": prediction, "prediction": prediction.detach()}
        regularizer = self.regularizer(h_x if self.regularize == "context" else h_y)
        loss = prediction + self.weight * regularizer
        return {"loss": loss, "prediction": prediction.detach(), "regularizer": regularizer.detach()}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over all parameters."""
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate)
