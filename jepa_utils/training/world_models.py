"""World models from pixels: a JEPA that predicts embeddings, and its rival that predicts pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn import functional as F

from jepa_utils.arguments import check_count
from jepa_utils.models.ema import EMA
from jepa_utils.models.world import (
    ActionPredictor,
    InverseDynamics,
    WorldDecoder,
    WorldEncoder,
    rollout,
)
from jepa_utils.objectives._distributed import BatchGroup
from jepa_utils.objectives.dynamics import (
    inverse_dynamics_loss,
    next_embedding_loss,
    smoothness_penalty,
)
from jepa_utils.training._numbers import number, rate
from jepa_utils.training.optimizers import Schedule, optimizer_of
from jepa_utils.training.parallel import batch_group, batch_value, weighted

__all__ = ["PixelWorld", "WorldJEPA"]


class _WorldModel(L.LightningModule):
    """An encoder and a predictor that rolls out from each frame of trajectories."""

    def __init__(
        self,
        encoder: WorldEncoder,
        predictor: ActionPredictor,
        steps: int,
        learning_rate: float,
        schedule: Schedule | None,
    ):
        super().__init__()
        if predictor.dimensions != encoder.dimensions:
            raise ValueError(
                f"predictor must be of {encoder.dimensions} dimensions, as the encoder, got "
                f"{predictor.dimensions}"
            )
        self.encoder, self.predictor = encoder, predictor
        self.steps = check_count("steps", steps)
        self.learning_rate, self.schedule = rate(learning_rate), schedule

    def losses(
        self, images: Tensor, actions: Tensor, group: BatchGroup | None = None
    ) -> dict[str, Tensor]:
        raise NotImplementedError

    def predictions(self, embeddings: Tensor, actions: Tensor) -> Tensor:
        """Roll out `steps` steps from each frame that has as many after it.

        Parameters
        ----------
        embeddings : Tensor, shape (B, T+1, D)
            Embeddings of trajectories.
        actions : Tensor, shape (B, T, A)
            The action between each two.

        Returns
        -------
        Tensor, shape (B, N, steps, D)
            Predicted embeddings from N = T + 2 - history - steps starts.

        Raises
        ------
        ValueError
            If shapes do not fit, or trajectories are too short for one start.
        """
        history, least = self.predictor.history, self.predictor.history + self.steps
        frames = embeddings.shape[1] if embeddings.dim() == 3 else 0
        if frames < least or actions.shape[:-1] != (len(embeddings), frames - 1):
            raise ValueError(
                f"a batch must hold (B, T+1) frames and (B, T) actions with T+1 at least {least} "
                f"(history {history}, steps {self.steps}), got {tuple(embeddings.shape[:-1])} and "
                f"{tuple(actions.shape[:-1])}"
            )
        pasts = _windows(embeddings[:, : frames - self.steps], history)  # (B, N, history, D)
        return rollout(self.predictor, pasts, _windows(actions[:, history - 1 :], self.steps))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """The losses of one batch: images (B, T+1, C, S, S) and actions (B, T, A)."""
        images, actions = batch
        return self.losses(images, actions, batch_group(len(images), images.device))

    def configure_optimizers(self) -> torch.optim.Optimizer | dict[str, Any]:
        """Adam over all parameters that learn, or what `schedule` says."""
        return optimizer_of(self)

    def _targets(self, frames: Tensor) -> Tensor:
        """What is to be predicted, (B, N, steps, ...), of frames or embeddings (B, T+1, ...)."""
        return _windows(frames[:, self.predictor.history :], self.steps)


def _windows(x: Tensor, length: int) -> Tensor:
    """All stretches of a length along the second axis: (B, T, ...) to (B, N, length, ...)."""
    return x.unfold(1, length, 1).movedim(-1, 2)


class WorldJEPA(_WorldModel):
    """Predict the next embedding from this one and the action (LeWorldModel).

    With embeddings ``h_t = encoder(x_t)`` the loss is::

        mean (h_hat - h)**2  +  weight * regularizer(h)

    where ``h_hat`` is rolled out over `steps` steps from each frame. Gradients flow through
    predictions and targets; without a regulariser, inverse dynamics or a moving average they
    collapse. There is no decoder.

    Parameters
    ----------
    encoder : WorldEncoder
        Frames to embeddings.
    predictor : ActionPredictor
        Embeddings and an action to the next embedding.
    regularizer : callable, optional
        Embeddings (T+1, B, D) to a scalar, such as `SIGReg`, `VISReg` or `VCReg`: the frames of
        each time are a batch of their own. None by default.
    weight : float, default 0.0
        Its factor, lambda.
    steps : int, default 1
        Steps that each frame predicts; the error is their mean.
    inverse : float, default 0.0
        Factor of inverse dynamics: a small network, `inverse_head`, has to tell the action from
        two consecutive embeddings (PLDM).
    smoothness : float, default 0.0
        Factor of the mean square of the second differences of a trajectory's embeddings.
    target : {"same", "ema"}, default "same"
        Who embeds the targets: the encoder itself, or its moving average, without gradient. All
        other parts of the loss look at the encoder.
    ema_decay : float, default 0.99
        Of the moving average.
    learning_rate : float, default 1e-3
        Of Adam.
    schedule : Schedule, optional
        Warm-up and decay; by default the rate is one and stays.

    Raises
    ------
    ValueError
        If a number is out of range, `target` is neither of the two, encoder and predictor differ in
        dimensions, or `weight` is given without a regulariser.

    References
    ----------
    Maes et al., "LeWorldModel: Stable End-to-End Joint-Embedding Predictive Architecture from
    Pixels", arXiv 2603.19312; for inverse dynamics, Sobal et al. (PLDM), arXiv 2502.14819.
    """

    def __init__(
        self,
        encoder: WorldEncoder,
        predictor: ActionPredictor,
        *,
        regularizer: Callable[[Tensor], Tensor] | None = None,
        weight: float = 0.0,
        steps: int = 1,
        inverse: float = 0.0,
        smoothness: float = 0.0,
        target: str = "same",
        ema_decay: float = 0.99,
        learning_rate: float = 1e-3,
        schedule: Schedule | None = None,
    ):
        super().__init__(encoder, predictor, steps, learning_rate, schedule)
        wants = "0 or positive, and 0 without a regularizer"
        self.weight = number(
            "weight", weight, wants, lambda x: x == 0 or (x > 0 and regularizer is not None)
        )
        self.inverse, self.smoothness = (
            number(name, value, "0 or positive", lambda x: x >= 0)
            for name, value in (("inverse", inverse), ("smoothness", smoothness))
        )
        if target not in ("same", "ema"):
            raise ValueError(f"target must be 'same' or 'ema', got {target!r}")
        self.regularizer, self.target = regularizer, target
        self.target_encoder = EMA(encoder, ema_decay) if target == "ema" else encoder
        if self.inverse > 0:
            sizes = predictor.dimensions, predictor.actions, predictor.hidden
            self.inverse_head = InverseDynamics(*sizes)

    def losses(
        self, images: Tensor, actions: Tensor, group: BatchGroup | None = None
    ) -> dict[str, Tensor]:
        """The loss and its parts: "prediction" and, where it counts, each of the others.

        Parameters
        ----------
        images : Tensor, shape (B, T+1, C, S, S)
            Frames of trajectories.
        actions : Tensor, shape (B, T, A)
            The action between each two.
        group : BatchGroup, optional
            Which processes share the batch; by default this one has all of it.

        Returns
        -------
        dict of str to Tensor
            "loss", with gradient, and its parts: "prediction", "regularizer", "inverse" and
            "smoothness", each before it is multiplied by its factor.
        """
        group = group or BatchGroup(0, (len(images),))
        h = self.encoder(images)  # (B, T+1, D)
        predicted = self.predictions(h, actions)
        targets = h if self.target == "same" else self.target_encoder(images)
        parts = {
            "prediction": weighted(next_embedding_loss(predicted, self._targets(targets)), group)
        }
        if self.weight > 0:  # else it would cost time and change nothing
            parts["regularizer"] = batch_value(self.regularizer, h.transpose(0, 1), group=group)
        if self.inverse > 0:
            guess = inverse_dynamics_loss(h, actions, self.inverse_head)
            parts["inverse"] = weighted(guess, group)
        if self.smoothness > 0:
            parts["smoothness"] = weighted(smoothness_penalty(h), group)
        factors = {
            "prediction": 1.0,
            "regularizer": self.weight,
            "inverse": self.inverse,
            "smoothness": self.smoothness,
        }
        loss = sum(factors[name] * value for name, value in parts.items())
        return {"loss": loss} | {name: value.detach() for name, value in parts.items()}

    def on_train_batch_end(
        self, outputs: dict[str, Tensor], batch: tuple[Tensor, Tensor], batch_idx: int
    ) -> None:
        """Let the moving average follow."""
        if self.target == "ema":
            self.target_encoder.update(self.encoder)


class PixelWorld(_WorldModel):
    """Predict the next image: the rival of `WorldJEPA`, with the same encoder and predictor.

    The loss is the mean squared error of the pixels that a decoder makes of predicted embeddings,
    plus that of the pixels that it makes of the frames from which the predictions start. It cannot
    collapse, and has to keep all that is seen.

    Parameters
    ----------
    encoder : WorldEncoder
        Frames to embeddings.
    predictor : ActionPredictor
        Embeddings and an action to the next embedding.
    decoder : WorldDecoder
        Embeddings to frames.
    steps : int, default 1
        Steps that each frame predicts; the error is their mean.
    learning_rate, schedule
        See `WorldJEPA`.

    Raises
    ------
    ValueError
        If a number is out of range, or encoder, predictor and decoder differ in dimensions.
    """

    def __init__(
        self,
        encoder: WorldEncoder,
        predictor: ActionPredictor,
        decoder: WorldDecoder,
        *,
        steps: int = 1,
        learning_rate: float = 1e-3,
        schedule: Schedule | None = None,
    ):
        super().__init__(encoder, predictor, steps, learning_rate, schedule)
        if decoder.dimensions != encoder.dimensions:
            raise ValueError(
                f"decoder must be of {encoder.dimensions} dimensions, as the encoder, got "
                f"{decoder.dimensions}"
            )
        self.decoder = decoder

    def losses(
        self, images: Tensor, actions: Tensor, group: BatchGroup | None = None
    ) -> dict[str, Tensor]:
        """The loss and its parts "prediction" and "reconstruction"; arguments as `WorldJEPA`'s."""
        group = group or BatchGroup(0, (len(images),))
        h = self.encoder(images)  # (B, T+1, D)
        predicted = self.decoder(self.predictions(h, actions))  # (B, N, steps, C, S, S)
        prediction = weighted(F.mse_loss(predicted, self._targets(images)), group)
        starts = slice(self.predictor.history - 1, images.shape[1] - self.steps)
        rebuilt = self.decoder(h[:, starts])
        reconstruction = weighted(F.mse_loss(rebuilt, images[:, starts]), group)
        return {
            "loss": prediction + reconstruction,
            "prediction": prediction.detach(),
            "reconstruction": reconstruction.detach(),
        }
