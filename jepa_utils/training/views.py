"""LeJEPA on photographs: views of a size of their own, for networks that see whole images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jepa_utils.arguments import whole
from jepa_utils.data.images import (
    color_jitter,
    normalize,
    random_flip,
    random_grayscale,
    random_resized_crop,
)
from jepa_utils.models.resnet import ResNet
from jepa_utils.objectives.sigreg import sigreg
from jepa_utils.training._numbers import number
from jepa_utils.training.optimizers import ImageTraining, at_least_float
from jepa_utils.training.parallel import BatchNorm, batch_group, weighted

__all__ = ["PhotoViewJEPA"]


class PhotoViewJEPA(ImageTraining):
    """As `ViewJEPA`, but views are small crops of larger images, and nothing of them is hidden.

    A crop of the encoder's size costs little, and shows the network things as large as it will
    later meet them in the whole photograph.

    Parameters
    ----------
    encoder : ResNet
        Encoder; views have the side that it is made for, its `image_size`.
    views : int, default 2
        Views per image.
    sigreg_weight : float, default 0.02
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
        encoder: ResNet,
        *,
        views: int = 2,
        sigreg_weight: float = 0.02,
        projection: int = 64,
        num_slices: int = 256,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.05,
        warmup: float = 0.1,
    ):
        super().__init__(learning_rate, weight_decay, warmup)
        self.encoder, self.views = encoder, whole("views", views, 2)
        self.sigreg_weight = number(
            "sigreg_weight", sigreg_weight, "between 0 and 1", lambda x: 0 <= x <= 1
        )
        self.num_slices = whole("num_slices", num_slices, 1)
        projection, hidden = whole("projection", projection, 1), 4 * encoder.dimensions
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
        images = batch[0] / 255
        views = torch.cat([self._view(images, part) for _ in range(self.views)])  # (V*B, 3, s, s)
        with self.autocast():
            z = self.projector(self.encoder(views).mean(dim=1))
        z = at_least_float(z).unflatten(0, (self.views, -1))  # (V, B, P)
        prediction = weighted((z - z.mean(dim=0)).square().mean(), group)
        regularizer = sigreg(z, num_slices=self.num_slices)
        loss = (1 - self.sigreg_weight) * prediction + self.sigreg_weight * regularizer
        return {
            "loss": loss,
            "prediction": prediction.detach(),
            "regularizer": regularizer.detach(),
        }

    def _view(self, images: Tensor, part: tuple[int, int]) -> Tensor:
        """The steps of `augmented_view`."""
        size = self.encoder.image_size
        crops = random_resized_crop(images, scale=(0.2, 1.0), size=size, part=part)
        views = color_jitter(random_flip(crops, part=part), part=part)
        return normalize(random_grayscale(views, part=part))
