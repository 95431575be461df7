"""The rule that joins encoder, predictor and objective, as LightningModules."""

from __future__ import annotations

from collections.abc import Callable

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jepa_utils.models.ema import EMA

__all__ = ["JEPA"]


class JEPA(L.LightningModule):
    """Predict the embedding of the target from the embedding of the context, under a regulariser.

    The loss is ``objective(predictor(h_x), h_y) + weight * regularizer(h)`` with ``h_x = context_encoder(x)``,
    ``h_y = target_encoder(y)`` and ``h`` one of the two; gradients flow through both, unless told otherwise.

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
        Predictions and target embeddings, (B, D) each, to a scalar, such as `InfoNCE`; the mean squared error by default.
    regularizer : callable, optional
        Embeddings (B, D) to a scalar, such as `SIGReg`; none by default.
    weight : float, default 0.0
        Its factor, lambda.
    regularize : {"context", "target"}, default "context"
        Which embeddings it sees. With one shared encoder this hardly matters; with two, the other one is free to collapse.
    stop_gradient : bool, default False
        Let no gradient through the target embeddings.
    learning_rate : float, default 1e-3
        Of Adam.

    Raises
    ------
    ValueError
        If `weight` is negative, or is given without a regulariser; if `regularize` is neither of the two; if
        `learning_rate` is not positive; if an `EMA` target is to be regularised, which no gradient reaches.
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
        if regularize not in ("context", "target"):
            raise ValueError(f"regularize must be 'context' or 'target', got {regularize!r}")
        stopped = stop_gradient or isinstance(target_encoder, EMA)
        if weight > 0 and regularize == "target" and stopped:
            raise ValueError("regularize must be 'context' where no gradient reaches the target, got 'target'")
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

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Losses of one batch (contexts, targets): "loss", and its parts "prediction" and "regularizer"."""
        context, target = batch
        h_x = self.context_encoder(context)  # (B, D)
        h_y = self.target_encoder(target)  # (B, D)
        if self.stop_gradient:
            h_y = h_y.detach()
        prediction = self.objective(self.predictor(h_x), h_y)
        if self.weight == 0:  # the regulariser would cost time and change nothing
            return {"loss": prediction, "prediction": prediction.detach()}
        regularizer = self.regularizer(h_x if self.regularize == "context" else h_y)
        loss = prediction + self.weight * regularizer
        return {"loss": loss, "prediction": prediction.detach(), "regularizer": regularizer.detach()}

    def on_train_batch_end(self, outputs: dict[str, Tensor], batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Let a moving average follow."""
        if isinstance(self.target_encoder, EMA):
            self.target_encoder.update(self.context_encoder)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over all parameters that learn."""
        learning = [p for p in self.parameters() if p.requires_grad]
        return torch.optim.Adam(learning, lr=self.learning_rate, fused=True)  # same steps, a third of the time
