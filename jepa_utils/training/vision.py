"""Training rules for images: I-JEPA on masked patches, a JEPA on augmented views, and labels for comparison."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset

from jepa_utils.data.images import augmented_view, normalize, random_flip, random_resized_crop
from jepa_utils.data.masking import PatchMasks
from jepa_utils.models.ema import EMA
from jepa_utils.models.predictors import PatchPredictor
from jepa_utils.models.vit import ViT, patchify
from jepa_utils.objectives.sigreg import sigreg

__all__ = ["ClassTraining", "ImageDataModule", "MaskedJEPA", "ViewJEPA", "encode_images"]


class EpochBatches(IterableDataset):
    """What a data module's ``batches(epoch)`` yields for its trainer's current epoch."""

    def __init__(self, data: L.LightningDataModule):
        self.data = data

    def __len__(self) -> int:
        return self.data.steps

    def __iter__(self):
        trainer = self.data.trainer
        yield from self.data.batches(0 if trainer is None else trainer.current_epoch)


class ImageDataModule(L.LightningDataModule):
    """Batches of images that lie in memory, in an order drawn anew for each epoch; an incomplete last batch is left out.

    The order depends on `seed` and the epoch's number alone: a resumed run continues with the same batches.

    Parameters
    ----------
    images : Tensor of uint8, shape (N, 3, H, W)
        Images.
    labels : Tensor of int64, shape (N,)
        Their classes.
    batch_size : int
        Images per batch B.
    seed : int, default 0
        Of the order.

    Raises
    ------
    ValueError
        If `batch_size` is not between 1 and N, or lengths differ.
    """

    def __init__(self, images: Tensor, labels: Tensor, *, batch_size: int, seed: int = 0):
        super().__init__()
        if len(images) != len(labels):
            raise ValueError(f"labels must be as many as images, got {len(labels)} and {len(images)}")
        if not 1 <= batch_size <= len(images):
            raise ValueError(f"batch_size must be between 1 and the number of images, {len(images)}, got {batch_size}")
        self.images, self.labels, self.batch_size, self.seed = images, labels, batch_size, seed
        self.steps = len(images) // batch_size  # per epoch

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch: images (B, 3, H, W) and labels (B,)."""
        draw = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        for rows in torch.randperm(len(self.images), generator=draw).split(self.batch_size)[: self.steps]:
            yield self.images[rows], self.labels[rows]

    def train_dataloader(self) -> DataLoader:
        """Batches of the trainer's current epoch."""
        # A loader draws a number whenever it begins; of torch's own generator that would shift the masks of a resumed run.
        return DataLoader(EpochBatches(self), batch_size=None, generator=torch.Generator())


@torch.no_grad()
def encode_images(encoder: Callable[[Tensor], Tensor], images: Tensor, *, batch_size: int = 500) -> Tensor:
    """Embeddings of many images, batch by batch, on the CPU.

    Parameters
    ----------
    encoder : nn.Module or callable
        Standardised images (B, 3, H, W) to embeddings (B, D), or to tokens (B, L, D), which are averaged. A module is asked on
        the device where its parameters lie, in evaluation mode.
    images : Tensor of uint8, shape (N, 3, H, W)
        Images.
    batch_size : int, default 500
        Images at a time.

    Returns
    -------
    Tensor, shape (N, D)
    """
    training = getattr(encoder, "training", False)
    device = images.device
    if isinstance(encoder, nn.Module):
        device = next(encoder.parameters()).device
        encoder.eval()
    outputs = []
    for part in images.split(batch_size):
        h = encoder(normalize(part.to(device)))
        outputs.append((h.mean(dim=1) if h.dim() == 3 else h).float().cpu())
    if training:
        encoder.train()
    return torch.cat(outputs)


class _ImageTraining(L.LightningModule):
    """AdamW with warm-up and cosine decay, clipped gradients, and bfloat16 on GPUs, which have fast units for it."""

    def __init__(self, learning_rate: float, weight_decay: float, warmup: float):
        super().__init__()
        if not 0 < learning_rate < math.inf:
            raise ValueError(f"learning_rate must be positive and finite, got {learning_rate}")
        if not 0 <= weight_decay < math.inf:
            raise ValueError(f"weight_decay must be 0 or positive, and finite, got {weight_decay}")
        if not 0 <= warmup < 1:
            raise ValueError(f"warmup must be a share of the training, from 0 to below 1, got {warmup}")
        self.learning_rate, self.weight_decay, self.warmup = learning_rate, weight_decay, warmup

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")

    @property
    def progress(self) -> float:
        """Share of the training that is done, from 0 to 1."""
        return self.trainer.global_step / self.trainer.estimated_stepping_batches

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        nn.utils.clip_grad_norm_(self.parameters(), 3.0)

    def configure_optimizers(self) -> dict:
        learning = [p for p in self.parameters() if p.requires_grad]
        groups = [  # biases, norms and the mask token are not decayed
            {"params": [p for p in learning if p.dim() > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in learning if p.dim() <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.learning_rate, betas=(0.9, 0.95), fused=True)
        rate = partial(_rate, total=self.trainer.estimated_stepping_batches, warmup=self.warmup)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _rate(step: int, total: int, warmup: float) -> float:
    """Share of the full learning rate: a line up, then half a cosine down to 0."""
    done = step / total
    return (step + 1) / (warmup * total + 1) if done < warmup else (1 + math.cos(math.pi * (done - warmup) / (1 - warmup))) / 2


class MaskedJEPA(_ImageTraining):
    """I-JEPA: predict the embeddings of hidden patches from the patches that are seen.

    The loss is the distance between ``predictor(encoder(x, seen), seen, hidden)`` and the target's tokens of the *whole* image
    at the hidden places, which are standardised one by one unless the encoder makes them itself. What keeps the target from
    collapsing depends on who makes it:

    - ``target="ema"``: it is a moving average of the encoder, without gradient (I-JEPA);
    - ``target="encoder"`` with ``sigreg_weight > 0``: it is the encoder itself, with gradient, and SIGReg (LeJEPA's way);
    - ``target="frozen"``: it is the encoder as it was at first, and never moves;
    - ``target="pixels"``: nobody; it is the patch itself, which cannot collapse. No JEPA, but its rival: the target of masked
      autoencoders, with I-JEPA's masks and predictor;
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
        Factor of SIGReg on the target's tokens; only for ``target="encoder"``. With it, and without any, the loss is the mean
        squared error of the tokens as they are: standardised ones hide a collapse from it.
    num_slices : int, default 256
        SIGReg's directions.
    crop : tuple of float, default (0.5, 1.0)
        Least and largest share of the image's area in a random crop, beside which the image is flipped half of the time.
    learning_rate, weight_decay : float, default 1e-3, 0.05
        Of AdamW.
    warmup : float, default 0.1
        Share of the training in which the learning rate rises; then it falls to 0 as a cosine.

    Raises
    ------
    ValueError
        If a number is out of range, `target` is none of the four, the predictor's outputs are not as wide as the target, or
        `sigreg_weight` is given where no gradient arrives.

    Source
    ------
    Assran et al., arXiv 2301.08243; for SIGReg, Balestriero and LeCun, arXiv 2511.08544; for pixels, He et al., arXiv
    2111.06377, whose patches are standardised, too. Theirs has the mean squared error; here the loss is that of
    the other standardised targets.
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
            raise ValueError(f"target must be 'ema', 'encoder', 'frozen' or 'pixels', got {target!r}")
        if sigreg_weight < 0 or (sigreg_weight > 0 and target != "encoder"):
            raise ValueError(f"sigreg_weight must be 0, or positive with target='encoder', got {sigreg_weight} with {target!r}")
        numbers = encoder.embed.in_features if target == "pixels" else encoder.dimensions
        if predictor.outputs != numbers:
            raise ValueError(f"predictor must give {numbers} outputs for target={target!r}, got {predictor.outputs}")
        self.encoder, self.predictor, self.masks = encoder, predictor, masks
        if target in ("ema", "frozen"):
            self.target_encoder = EMA(encoder, ema_decay if target == "ema" else 1.0)
        else:
            self.target_encoder = encoder if target == "encoder" else None
        self.ema_decay, self.sigreg_weight, self.num_slices, self.crop = ema_decay, sigreg_weight, num_slices, crop
        self.target = target

    @property
    def trained(self) -> ViT:
        """What the training was for: the moving average where there is one, as in the paper; else the encoder."""
        return self.target_encoder.average if self.target == "ema" else self.encoder

    def losses(self, images: Tensor, masks: PatchMasks) -> dict[str, Tensor]:
        """The loss and its parts, for standardised images (B, 3, S, S) and their masks."""
        seen, hidden = masks.context, masks.targets.flatten(1)  # (B, K), (B, T)
        predicted = self.predictor(self.encoder(images, seen), seen, hidden)  # (B, T, D)
        targets = patchify(images, self.encoder.patch) if self.target == "pixels" else self.target_encoder(images)  # (B, L, D)
        wanted = targets.gather(1, hidden.unsqueeze(-1).expand(-1, -1, targets.shape[-1]))  # (B, T, D)
        if self.target != "encoder":
            prediction = F.smooth_l1_loss(predicted, F.layer_norm(wanted, wanted.shape[-1:]))
            return {"loss": prediction, "prediction": prediction.detach()}
        prediction = F.mse_loss(predicted, wanted)
        if self.sigreg_weight == 0:
            return {"loss": prediction, "prediction": prediction.detach()}
        # Each place of the grid is a cloud of its own: one cloud of all tokens could be round by the places alone.
        regularizer = sigreg(targets.float().transpose(0, 1), num_slices=self.num_slices)
        loss = prediction + self.sigreg_weight * regularizer
        return {"loss": loss, "prediction": prediction.detach(), "regularizer": regularizer.detach()}

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """The losses of one batch of images (B, 3, S, S); its labels are not looked at."""
        images = normalize(random_flip(random_resized_crop(batch[0] / 255, scale=self.crop)))
        masks = self.masks(len(images), self.encoder.grid)
        masks = PatchMasks(masks.context.to(self.device), masks.targets.to(self.device))
        with self.autocast():
            return self.losses(images, masks)

    def on_train_batch_end(self, outputs: dict[str, Tensor], batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Let the moving average follow."""
        if self.target == "ema":
            self.target_encoder.update(self.encoder, self.ema_decay + (1 - self.ema_decay) * min(self.progress, 1.0))


class ViewJEPA(_ImageTraining):
    """LeJEPA on images: augmented views of an image predict their common mean, and SIGReg keeps the cloud round.

    Views are embedded as the mean of the encoder's tokens; the losses act on those embeddings after a small network, the
    projector, which is thrown away after the training.

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

    Source
    ------
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
        if views < 2:
            raise ValueError(f"views must be at least 2, got {views}")
        if not 0 <= sigreg_weight <= 1:
            raise ValueError(f"sigreg_weight must lie between 0 and 1, got {sigreg_weight}")
        patches = math.prod(encoder.grid)
        if not 1 <= round(keep * patches) <= patches:
            raise ValueError(f"keep must be a share of the {patches} patches that leaves one at least, got {keep}")
        self.encoder, self.views, self.kept = encoder, views, round(keep * patches)
        self.sigreg_weight, self.num_slices = sigreg_weight, num_slices
        hidden = 4 * encoder.dimensions
        self.projector = nn.Sequential(
            nn.Linear(encoder.dimensions, hidden), nn.BatchNorm1d(hidden), nn.GELU(), nn.Linear(hidden, projection)
        )

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """The losses of one batch of images (B, 3, S, S); its labels are not looked at."""
        images = torch.cat([augmented_view(batch[0]) for _ in range(self.views)])  # (V*B, 3, S, S)
        places = torch.rand(len(images), math.prod(self.encoder.grid), device=self.device)
        seen = places.topk(self.kept, dim=1).indices  # (V*B, K)
        with self.autocast():
            z = self.projector(self.encoder(images, seen).mean(dim=1)).unflatten(0, (self.views, -1))  # (V, B, P)
        z = z.float()
        prediction = (z - z.mean(dim=0)).square().mean()
        regularizer = sigreg(z, num_slices=self.num_slices)
        loss = (1 - self.sigreg_weight) * prediction + self.sigreg_weight * regularizer
        return {"loss": loss, "prediction": prediction.detach(), "regularizer": regularizer.detach()}


class ClassTraining(_ImageTraining):
    """The same encoder trained with labels: what the architecture can do when it is told the answers.

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
        if classes < 2:
            raise ValueError(f"classes must be at least 2, got {classes}")
        self.encoder, self.crop = encoder, crop
        self.head = nn.Linear(encoder.dimensions, classes)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Mean cross-entropy, in nats, of one batch of images (B, 3, S, S) and their classes (B,)."""
        images = normalize(random_flip(random_resized_crop(batch[0] / 255, scale=self.crop)))
        with self.autocast():
            logits = self.head(self.encoder(images).mean(dim=1))
        return {"loss": F.cross_entropy(logits.float(), batch[1])}
