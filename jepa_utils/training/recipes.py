"""Chapter 4's settings, one set per machine, and the trainings that they make."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from jepa_utils.data.masking import multiblock_masks, random_masks
from jepa_utils.models.predictors import PatchPredictor
from jepa_utils.models.vit import ViT
from jepa_utils.training.vision import ClassTraining, MaskedJEPA, ViewJEPA

__all__ = ["METHODS", "RECIPES", "VisionRecipe"]

RECIPES = ("smoke", "laptop", "long", "twenty", "gpu")  # constructors of VisionRecipe

METHODS = {
    "I-JEPA": "moving average as target, multi-block masks",
    "random masks": "moving average as target, a random quarter of the patches hidden",
    "pixels": "standardised pixels of the hidden patches as target, multi-block masks",
    "SIGReg": "SIGReg in place of the moving average, multi-block masks",
    "patch 8": "as I-JEPA, with patches of 8 pixels: 16 instead of 64",
    "printed": "the source's settings: patches of 16 pixels, a random quarter hidden, its batches, learning rate and averaging",
    "student": "as printed, with patches of 8 pixels and batches of 64: the source's exercise for students",
    "views": "SIGReg on augmented views of whole images",
    "labels": "the same encoder trained with labels",
    "untrained": "the encoder as it is drawn",
    "nothing": "one encoder for both sides, no moving average, no stop-gradient, no SIGReg",
}

_PRINTED = dict(patch=16, batch_size=128, learning_rate=2e-4, weight_decay=0.01, ema_decay=0.999)
_CHANGES = {"patch 8": dict(patch=8), "printed": _PRINTED, "student": {**_PRINTED, "patch": 8, "batch_size": 64}}
_QUARTER = ("random masks", "printed", "student")  # methods that hide a random quarter; a grid of 2x2 has no blocks


@dataclass(frozen=True)
class VisionRecipe:
    """Settings of a training on CIFAR-10: sizes of the networks, length, optimiser, masks."""

    patch: int = 4  # side of a patch, in pixels: 64 patches per image
    dimensions: int = 96  # D, width of the encoder's tokens
    layers: int = 3  # transformer layers of the encoder
    heads: int = 3  # attention heads of encoder and predictor
    predictor_width: int = 48  # width of the predictor's tokens
    predictor_layers: int = 2  # its transformer layers
    batch_size: int = 32  # B, images per step
    learning_rate: float = 1e-3  # of AdamW at its highest
    weight_decay: float = 0.05  # of AdamW
    warmup: float = 0.1  # share of the training in which the learning rate rises
    ema_decay: float = 0.996  # of the moving average at the start; it ends at 1
    crop: float = 0.5  # smallest share of the image's area in a random crop
    hidden_share: float = 0.25  # of the random masks, as in the source
    sigreg_weight: float = 0.05  # lambda, on the tokens
    view_weight: float = 0.05  # lambda, on the views
    view_keep: float = 0.5  # share of its patches that is seen of each view
    num_slices: int = 256  # SIGReg's directions
    epochs: int = 1  # passes over the training images
    num_seeds: int = 3  # runs of each method

    @classmethod
    def smoke(cls) -> VisionRecipe:
        """For tests: built-in sample, seconds."""
        sizes = dict(dimensions=32, layers=2, heads=2, predictor_width=16, predictor_layers=1)
        return cls(**sizes, num_slices=64, num_seeds=1)

    @classmethod
    def laptop(cls) -> VisionRecipe:
        """For a few minutes a run, on two CPU cores."""
        return cls()

    @classmethod
    def long(cls) -> VisionRecipe:
        """The laptop's networks for five passes; about ten minutes a run on two CPU cores."""
        return cls(epochs=5)

    @classmethod
    def twenty(cls) -> VisionRecipe:
        """The laptop's networks for the source's twenty passes; half an hour to an hour a run on two CPU cores."""
        return cls(epochs=20)

    @classmethod
    def gpu(cls) -> VisionRecipe:
        """For one large GPU: the largest encoder whose weights stay below 12 MB; never run so far."""
        sizes = dict(dimensions=192, layers=6, heads=3, predictor_width=96, predictor_layers=4)
        return cls(**sizes, batch_size=512, num_slices=1024, epochs=300)

    def encoder(self, patch: int | None = None) -> ViT:
        """An untrained encoder of 32x32 images; `patch` in place of the recipe's own."""
        return ViT(patch=patch or self.patch, dimensions=self.dimensions, layers=self.layers, heads=self.heads)

    def changed_for(self, method: str) -> VisionRecipe:
        """The settings of one method: these, but for what makes the method another one, such as its patches."""
        return replace(self, **_CHANGES.get(method, {}))

    def training(self, method: str) -> MaskedJEPA | ViewJEPA | ClassTraining:
        """A new training with new weights; that of "untrained" is I-JEPA's, not to be run.

        Parameters
        ----------
        method : str
            One of `METHODS`.

        Raises
        ------
        ValueError
            If the method is unknown.
        """
        if method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
        recipe = self.changed_for(method)
        encoder = recipe.encoder()
        optimiser = dict(learning_rate=recipe.learning_rate, weight_decay=recipe.weight_decay, warmup=recipe.warmup)
        if method == "views":
            return ViewJEPA(encoder, keep=recipe.view_keep, sigreg_weight=recipe.view_weight, num_slices=recipe.num_slices, **optimiser)
        crop = (recipe.crop, 1.0)
        if method == "labels":
            return ClassTraining(encoder, classes=10, crop=crop, **optimiser)
        targets = {"SIGReg": "encoder", "nothing": "encoder", "pixels": "pixels"}
        outputs = encoder.embed.in_features if method == "pixels" else None
        sizes = dict(width=recipe.predictor_width, layers=recipe.predictor_layers, heads=recipe.heads)
        return MaskedJEPA(
            encoder,
            PatchPredictor(recipe.dimensions, encoder.grid, outputs=outputs, **sizes),
            masks=partial(random_masks, share=recipe.hidden_share) if method in _QUARTER else multiblock_masks,
            target=targets.get(method, "ema"),
            ema_decay=recipe.ema_decay,
            sigreg_weight=recipe.sigreg_weight if method == "SIGReg" else 0.0,
            num_slices=recipe.num_slices,
            crop=crop,
            **optimiser,
        )
