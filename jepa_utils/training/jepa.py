"""The rules that join encoder, predictor and objective: every JEPA, as LightningModules."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jepa_utils.arguments import whole
from jepa_utils.data.batches import CaptionDataModule, Words
from jepa_utils.data.images import augmented_view
from jepa_utils.data.masking import PatchMasks
from jepa_utils.models.ema import EMA
from jepa_utils.models.predictors import PatchPredictor
from jepa_utils.models.vision_language import CrossPredictor
from jepa_utils.models.vit import ViT, patchify
from jepa_utils.objectives._distributed import BatchGroup
from jepa_utils.objectives.infonce import InfoNCE
from jepa_utils.objectives.sigreg import sigreg
from jepa_utils.training._numbers import number, rate, shares_of
from jepa_utils.training.fit import History, fit
from jepa_utils.training.optimizers import (
    ImageTraining,
    Schedule,
    adam,
    at_least_float,
    optimizer_of,
)
from jepa_utils.training.parallel import (
    BatchNorm,
    batch_group,
    batch_value,
    own_rows,
    weighted,
    whole_batch,
)

__all__ = ["JEPA", "MaskedJEPA", "TokenJEPA", "ViewJEPA", "train_pair"]


def train_pair(
    head: nn.Module,
    text: nn.Module,
    data: CaptionDataModule,
    *,
    epochs: int,
    seed: int,
    objective: Callable[[Tensor, Tensor], Tensor] | None = None,
    learning_rate: float = 1e-3,
    checkpoint: Path | str | None = None,
    devices: int = 1,
    nodes: int = 1,
    **rule,
) -> tuple[JEPA, History]:
    """Bring images and their texts together.

    The image is the context, its text the target of a `JEPA` without a predictor.

    Parameters
    ----------
    head : nn.Module
        Visual tokens (B, K, D), and a question's ids and visible where there are any, to embeddings
        (B, E).
    text : nn.Module
        Ids and visible (B, L) to embeddings (B, E), such as `TextEncoder`.
    data : CaptionDataModule
        Batches.
    epochs : int
        Passes.
    seed : int
        Of what is random in training; the networks' weights are drawn before.
    objective : callable, optional
        Embeddings of images and texts to a scalar; `InfoNCE` with a temperature that learns, by
        default.
    learning_rate : float, default 1e-3
        Of Adam.
    checkpoint, devices, nodes
        As for `fit`.
    **rule
        Further arguments of `JEPA`, such as `regularizer`.

    Returns
    -------
    module : JEPA
        In evaluation mode, on the CPU; `head` is its context encoder, `text` its target encoder.
    history : History
    """
    objective = InfoNCE(learn_temperature=True) if objective is None else objective
    module = JEPA(
        head,
        nn.Identity(),
        target_encoder=text,
        objective=objective,
        learning_rate=learning_rate,
        **rule,
    )
    how = dict(checkpoint=checkpoint, devices=devices, nodes=nodes, progress=False)
    history = fit(module.train(), data, epochs=epochs, seed=seed, **how)
    return module.cpu().eval(), history


class TokenJEPA(L.LightningModule):
    """Predict hidden visual tokens of a frozen encoder from the visible ones and a caption.

    Predictions are compared with the true tokens by an objective, such as `InfoNCE`, in which each
    hidden token has to be told from all others of the batch.

    Parameters
    ----------
    predictor : CrossPredictor
        From visible tokens and words to hidden tokens.
    words : nn.Embedding
        Word vectors (V, E), which learn with it.
    masks : callable
        A batch size and a grid to `PatchMasks`, such as `random_masks`. Targets that overlap give a
        contrastive objective the same token twice.
    objective : callable
        Predictions and true tokens, (B * T, D) each, to a scalar.
    text : {"own", "shuffled", "none"}, default "own"
        Each image's own caption, that of another image of the batch, or none.
    learning_rate : float, default 1e-3
        Of Adam.

    Raises
    ------
    ValueError
        If `text` is none of the three, or `learning_rate` is not positive.

    References
    ----------
    "JEPA: Joint Embedding Predictive Architecture" (notes on VL-JEPA, 2026), section "Training
    Objective".
    """

    def __init__(
        self,
        predictor: CrossPredictor,
        words: nn.Embedding,
        *,
        masks: Callable[[int, tuple[int, int]], PatchMasks],
        objective: Callable[[Tensor, Tensor], Tensor],
        text: str = "own",
        learning_rate: float = 1e-3,
    ):
        super().__init__()
        if text not in ("own", "shuffled", "none"):
            raise ValueError(f"text must be 'own', 'shuffled' or 'none', got {text!r}")
        self.predictor, self.words, self.masks = predictor, words, masks
        self.objective, self.text, self.learning_rate = objective, text, rate(learning_rate)

    def predict(self, tokens: Tensor, caption: Words, masks: PatchMasks) -> tuple[Tensor, Tensor]:
        """Predicted and true tokens at the hidden places, (B, T, D) each."""
        seen, hidden = masks.context, masks.targets.flatten(1)
        ids, visible = caption
        if self.text == "shuffled":
            group = batch_group(len(ids), ids.device)  # the next image may be another process's
            ids, visible = (
                own_rows(whole_batch(x, group).roll(1, dims=0), group) for x in (ids, visible)
            )
        text = () if self.text == "none" else (self.words(ids), visible)
        predicted = self.predictor(_at(tokens, seen), seen, hidden, *text)
        return predicted, _at(tokens, hidden)

    def training_step(self, batch: tuple, batch_idx: int) -> dict[str, Tensor]:
        """Loss of one batch of a `CaptionDataModule`."""
        (tokens, *_), caption, *_ = batch
        group = batch_group(len(tokens), tokens.device)
        masks = _own_masks(self.masks(group.total, self.predictor.grid), group)
        predicted, true = self.predict(tokens, caption, masks)
        rows = predicted.flatten(0, 1), true.flatten(0, 1)
        return {"loss": batch_value(self.objective, *rows, group=group)}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over all parameters that learn."""
        return adam(self)


def _own_masks(masks: PatchMasks, group: BatchGroup) -> PatchMasks:
    return PatchMasks(own_rows(masks.context, group), own_rows(masks.targets, group))


def _at(tokens: Tensor, places: Tensor) -> Tensor:
    return tokens.gather(1, places.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


class MaskedJEPA(ImageTraining):
    """I-JEPA: predict the embeddings of hidden patches from the patches that are seen.

    The loss is the distance between ``predictor(encoder(x, seen), seen, hidden)`` and the target's
    tokens of the *whole* image at the hidden places, which are standardised one by one unless the
    encoder makes them itself. What keeps the target from collapsing depends on who makes it:

    - ``target="ema"``: it is a moving average of the encoder, without gradient (I-JEPA);
    - ``target="encoder"`` with ``sigreg_weight > 0``: it is the encoder itself, with gradient, and
      SIGReg (LeJEPA's way);
    - ``target="frozen"``: it is the encoder as it was at first, and never moves;
    - ``target="pixels"``: nobody; it is the patch itself, which cannot collapse. No JEPA, but its
      rival: the target of masked autoencoders, with I-JEPA's masks and predictor;
    - ``target="encoder"`` and no SIGReg: nothing. It collapses; that is what it is for.

    Parameters
    ----------
    encoder : ViT
        Encoder of the context, and of whatever comes after the training.
    predictor : PatchPredictor
        Predictor; for pixels its `outputs` are 3 * patch**2.
    masks : callable
        Number of images and grid to `PatchMasks`, such as `multiblock_masks`.
    target : {"ema", "encoder", "frozen", "pixels"}, default "ema"
        Who encodes the targets.
    ema_decay : float, default 0.996
        Of the moving average at the start; it rises in a line to 1 at the end.
    sigreg_weight : float, default 0.0
        Factor of SIGReg on the target's tokens; only for ``target="encoder"``. With it, and without
        any, the loss is the mean squared error of the tokens as they are: standardised ones hide a
        collapse from it.
    num_slices : int, default 256
        SIGReg's directions.
    crop : tuple of float, default (0.5, 1.0)
        Least and largest share of the image's area in a random crop, beside which the image is
        flipped half of the time.
    learning_rate, weight_decay : float, default 1e-3, 0.05
        Of AdamW.
    warmup : float, default 0.1
        Share of the training in which the learning rate rises; then it falls to 0 as a cosine.

    Raises
    ------
    ValueError
        If a number is out of range, `target` is none of the four, the predictor's outputs are not
        as wide as the target, or `sigreg_weight` is given where no gradient arrives.

    References
    ----------
    Assran et al., arXiv 2301.08243; for SIGReg, Balestriero and LeCun, arXiv 2511.08544; for
    pixels, He et al., arXiv 2111.06377, whose patches are standardised, too. Theirs has the mean
    squared error; here the loss is that of the other standardised targets.
    """

    def __init__(
        self,
        encoder: ViT,
        predictor: PatchPredictor,
        *,
        masks: Callable[[int, tuple[int, int]], PatchMasks],
        target: str = "ema",
        ema_decay: float = 0.996,
        sigreg_weight: float = 0.0,
        num_slices: int = 256,
        crop: tuple[float, float] = (0.5, 1.0),
        learning_rate: float = 1e-3,
        weight_decay: float = 0.05,
        warmup: float = 0.1,
    ):
        super().__init__(learning_rate, weight_decay, warmup)
        if target not in ("ema", "encoder", "frozen", "pixels"):
            raise ValueError(
                f"target must be 'ema', 'encoder', 'frozen' or 'pixels', got {target!r}"
            )
        sigreg_weight = number(
            "sigreg_weight",
            sigreg_weight,
            f"0, or positive with target='encoder' (here {target!r})",
            lambda x: x == 0 or (x > 0 and target == "encoder"),
        )
        num_slices = whole("num_slices", num_slices, 1)
        numbers = encoder.embed.in_features if target == "pixels" else encoder.dimensions
        if predictor.outputs != numbers:
            raise ValueError(
                f"predictor must give {numbers} outputs for target={target!r}, got "
                f"{predictor.outputs}"
            )
        self.encoder, self.predictor, self.masks = encoder, predictor, masks
        if target in ("ema", "frozen"):
            self.target_encoder = EMA(encoder, ema_decay if target == "ema" else 1.0)
        else:
            self.target_encoder = encoder if target == "encoder" else None
        self.ema_decay, self.sigreg_weight, self.num_slices, self.crop = (
            ema_decay,
            sigreg_weight,
            num_slices,
            shares_of(crop),
        )
        self.target = target

    @property
    def trained(self) -> ViT:
        """What the training was for: the moving average where there is one, else the encoder."""
        return self.target_encoder.average if self.target == "ema" else self.encoder

    def losses(
        self, images: Tensor, masks: PatchMasks, group: BatchGroup | None = None
    ) -> dict[str, Tensor]:
        """The loss and its parts, for standardised images (B, 3, S, S) and their masks.

        `group` says which processes share the batch; by default this one has all of it.
        """
        group = group or BatchGroup(0, (len(images),))
        seen, hidden = masks.context, masks.targets.flatten(1)  # (B, K), (B, T)
        predicted = self.predictor(self.encoder(images, seen), seen, hidden)  # (B, T, D)
        targets = (
            patchify(images, self.encoder.patch)
            if self.target == "pixels"
            else self.target_encoder(images)
        )  # (B, L, D)
        wanted = _at(targets, hidden)  # (B, T, D)
        if self.target != "encoder":
            wanted = F.layer_norm(wanted, wanted.shape[-1:])
            prediction = weighted(F.smooth_l1_loss(predicted, wanted), group)
            return {"loss": prediction, "prediction": prediction.detach()}
        prediction = weighted(F.mse_loss(predicted, wanted), group)
        if self.sigreg_weight == 0:
            return {"loss": prediction, "prediction": prediction.detach()}
        # Each place of the grid is a cloud of its own: one cloud of all tokens could be round by
        # the places alone.
        regularizer = sigreg(at_least_float(targets).transpose(0, 1), num_slices=self.num_slices)
        loss = prediction + self.sigreg_weight * regularizer
        return {
            "loss": loss,
            "prediction": prediction.detach(),
            "regularizer": regularizer.detach(),
        }

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """The losses of one batch of images (B, 3, S, S); its labels are not looked at."""
        images, group = self.crops(batch[0])
        masks = _own_masks(self.masks(group.total, self.encoder.grid), group)
        masks = PatchMasks(masks.context.to(self.device), masks.targets.to(self.device))
        with self.autocast():
            return self.losses(images, masks, group)

    def on_train_batch_end(
        self, outputs: dict[str, Tensor], batch: tuple[Tensor, Tensor], batch_idx: int
    ) -> None:
        """Let the moving average follow."""
        if self.target == "ema":
            self.target_encoder.update(
                self.encoder, self.ema_decay + (1 - self.ema_decay) * self.progress
            )


class ViewJEPA(ImageTraining):
    """LeJEPA on images: augmented views of an image predict their common mean, under SIGReg.

    Views are embedded as the mean of the encoder's tokens; the losses act on those embeddings after
    a small network, the projector, which is thrown away after the training.

    Parameters
    ----------
    encoder : ViT
        Encoder.
    views : int, default 2
        Views per image.
    keep : float, default 1.0
        Share of its patches that is seen of each view, drawn at random; a half takes half the time.
    sigreg_weight : float, default 0.05
        Share of SIGReg in the loss, between 0 and 1; the prediction has the rest.
    projection : int, default 64
        Width of the projected embeddings.
    num_slices : int, default 256
        SIGReg's directions.
    learning_rate, weight_decay, warmup : float
        See `MaskedJEPA`.

    Raises
    ------
    ValueError
        If a number is out of range.

    References
    ----------
    Balestriero and LeCun, arXiv 2511.08544.
    """

    def __init__(
        self,
        encoder: ViT,
        *,
        views: int = 2,
        keep: float = 1.0,
        sigreg_weight: float = 0.05,
        projection: int = 64,
        num_slices: int = 256,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.05,
        warmup: float = 0.1,
    ):
        super().__init__(learning_rate, weight_decay, warmup)
        patches = math.prod(encoder.grid)
        wants = f"a share of the {patches} patches that leaves one at least"
        keep = number("keep", keep, wants, lambda x: 1 <= round(x * patches) <= patches)
        self.encoder, self.views = encoder, whole("views", views, 2)
        self.kept = round(keep * patches)
        self.sigreg_weight = number(
            "sigreg_weight", sigreg_weight, "between 0 and 1", lambda x: 0 <= x <= 1
        )
        self.num_slices = whole("num_slices", num_slices, 1)
        projection = whole("projection", projection, 1)
        hidden = 4 * encoder.dimensions
        self.projector = nn.Sequential(
            nn.Linear(encoder.dimensions, hidden),
            BatchNorm(hidden),
            nn.GELU(),
            nn.Linear(hidden, projection),
        )

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """The losses of one batch of images (B, 3, S, S); its labels are not looked at."""
        group = batch_group(len(batch[0]), self.device)
        part = group.first, group.total
        images = torch.cat(
            [augmented_view(batch[0], part=part) for _ in range(self.views)]
        )  # (V*B, 3, S, S)
        patches = math.prod(self.encoder.grid)
        places = torch.rand(self.views * group.total, patches, device=self.device)
        places = places.unflatten(0, (self.views, -1)).transpose(0, 1)
        places = own_rows(places, group).transpose(0, 1).flatten(0, 1)
        seen = places.topk(self.kept, dim=1).indices  # (V*B, K)
        with self.autocast():
            z = self.projector(self.encoder(images, seen).mean(dim=1)).unflatten(
                0, (self.views, -1)
            )  # (V, B, P)
        z = at_least_float(z)
        prediction = weighted((z - z.mean(dim=0)).square().mean(), group)
        regularizer = sigreg(z, num_slices=self.num_slices)
        loss = (1 - self.sigreg_weight) * prediction + self.sigreg_weight * regularizer
        return {
            "loss": loss,
            "prediction": prediction.detach(),
            "regularizer": regularizer.detach(),
        }


class JEPA(L.LightningModule):
    """Predict the embedding of the target from the embedding of the context, under a regulariser.

    The loss is ``objective(predictor(h_x), h_y) + weight * regularizer(h)`` with ``h_x =
    context_encoder(x)``, ``h_y = target_encoder(y)`` and ``h`` one of the two, or both; gradients
    flow through both, unless told otherwise. Contexts and targets that are tuples, such as tokens
    with their mask, are passed to the encoder as several arguments.

    Parameters
    ----------
    context_encoder : nn.Module
        Contexts x to embeddings (B, D).
    predictor : nn.Module
        Embeddings (B, D) to predicted target embeddings (B, D).
    target_encoder : nn.Module, optional
        Targets y to embeddings (B, D); the context encoder itself by default. An `EMA` gets no
        gradient and follows the context encoder after every step.
    objective : callable, optional
        Predictions and target embeddings, (B, D) each, to a scalar, such as `InfoNCE`; the mean
        squared error by default. Where batches have groups it also gets ``positives``, of bool (B,
        B): which rows share a group. Where several processes share a batch, one that is not marked
        ``distributed = True`` (as this package's are) must be a mean over rows.
    regularizer : callable, optional
        Embeddings (B, D) to a scalar, such as `SIGReg`; none by default.
    weight : float, default 0.0
        Its factor, lambda.
    regularize : {"context", "target", "both"}, default "context"
        Which embeddings it sees; "both" is the mean of its two values. Where the encoder can tell
        targets from contexts, or there are two encoders, the other side is free to collapse.
    stop_gradient : bool, default False
        Let no gradient through the target embeddings.
    learning_rate : float, default 1e-3
        Of Adam.
    schedule : Schedule, optional
        Warm-up, decay and a rate of their own for transformer layers; by default the rate is one
        and stays.

    Raises
    ------
    ValueError
        If `weight` is negative, or is given without a regulariser; if `regularize` is none of the
        three; if `learning_rate` is not positive; if a target is to be regularised that no gradient
        reaches.
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
        schedule: Schedule | None = None,
    ):
        super().__init__()
        wants = "0 or positive, and 0 without a regularizer"
        weight = number(
            "weight", weight, wants, lambda x: x == 0 or (x > 0 and regularizer is not None)
        )
        if regularize not in ("context", "target", "both"):
            raise ValueError(
                f"regularize must be 'context', 'target' or 'both', got {regularize!r}"
            )
        stopped = stop_gradient or isinstance(target_encoder, EMA)
        if weight > 0 and regularize != "context" and stopped:
            raise ValueError(
                f"regularize must be 'context' where no gradient reaches the target, got "
                f"{regularize!r}"
            )
        self.context_encoder = context_encoder
        self.target_encoder = context_encoder if target_encoder is None else target_encoder
        self.predictor = predictor
        self.objective = objective
        self.regularizer = regularizer
        self.weight = weight
        self.regularize = regularize
        self.stop_gradient = stop_gradient
        self.learning_rate, self.schedule = rate(learning_rate), schedule

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> dict[str, Tensor]:
        """Losses "loss", "prediction" and "regularizer" of one batch.

        It is (contexts, targets) or (contexts, targets, groups).
        """
        context, target, *groups = batch
        h_x = _encode(self.context_encoder, context)  # (B, D)
        h_y = _encode(self.target_encoder, target)  # (B, D)
        if self.stop_gradient:
            h_y = h_y.detach()
        batch_of = batch_group(len(h_x), h_x.device)
        pairs = {}
        for kind in groups:  # one at most
            pairs["positives"] = kind.unsqueeze(1) == whole_batch(kind, batch_of)
        prediction = batch_value(self.objective, self.predictor(h_x), h_y, group=batch_of, **pairs)
        if self.weight == 0:  # the regulariser would cost time and change nothing
            return {"loss": prediction, "prediction": prediction.detach()}
        sides = {"context": [h_x], "target": [h_y], "both": [h_x, h_y]}[self.regularize]
        values = [batch_value(self.regularizer, h, group=batch_of) for h in sides]
        regularizer = sum(values) / len(sides)
        loss = prediction + self.weight * regularizer
        return {
            "loss": loss,
            "prediction": prediction.detach(),
            "regularizer": regularizer.detach(),
        }

    def on_train_batch_end(
        self, outputs: dict[str, Tensor], batch: tuple[Tensor, Tensor], batch_idx: int
    ) -> None:
        """Let a moving average follow."""
        if isinstance(self.target_encoder, EMA):
            self.target_encoder.update(self.context_encoder)

    def configure_optimizers(self) -> torch.optim.Optimizer | dict[str, Any]:
        """Adam over all parameters that learn, or what `schedule` says."""
        return optimizer_of(self)


def _encode(encoder: nn.Module, inputs: Tensor | tuple[Tensor, ...]) -> Tensor:
    return encoder(*inputs) if isinstance(inputs, (tuple, list)) else encoder(inputs)
