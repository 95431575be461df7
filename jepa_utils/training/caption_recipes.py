"""Chapter 5's settings for trainings that a page cannot wait for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from jepa_utils.models.text import TextEncoder
from jepa_utils.models.vision_language import ImageHead
from jepa_utils.objectives.infonce import InfoNCE, alignment, uniformity
from jepa_utils.objectives.sigreg import SIGReg
from jepa_utils.objectives.vicreg import VICReg

__all__ = ["CAPTION_RECIPES", "OBJECTIVES", "CaptionRecipe"]

CAPTION_RECIPES = ("smoke", "long")  # constructors of CaptionRecipe


def _spread(a: Tensor, b: Tensor) -> Tensor:
    return (uniformity(a) + uniformity(b)) / 2


#: Objectives for pairs of photograph and sentence. Only those with InfoNCE or uniformity push single strangers apart.
OBJECTIVES: dict[str, dict[str, Any]] = {
    "InfoNCE": dict(objective=InfoNCE(0.07)),
    "cosine": dict(objective=lambda a, b: 1 - F.cosine_similarity(a, b).mean()),  # alignment alone, halved
    "uniformity": dict(objective=_spread),
    "alignment and uniformity": dict(objective=lambda a, b: alignment(a, b) + _spread(a, b)),
    "L1": dict(objective=F.l1_loss),
    "L2": dict(objective=F.mse_loss),
    "VICReg": dict(objective=VICReg()),
    "L2 and SIGReg": dict(objective=F.mse_loss, regularizer=SIGReg(), weight=0.05, regularize="both"),
}

Stage = tuple[int, float, int]  # passes, learning rate, batch size


@dataclass(frozen=True)
class CaptionRecipe:
    """Settings of chapter 5's runs of record: how much data, how many passes, what is compared."""

    scenes: int = 60_000  # generated scenes to train on
    gallery: int = 1000  # scenes to search in
    scene_width: int = 24  # numbers that the image head leaves of each token
    scene_hidden: int = 512  # width of its hidden layer
    scene_stages: tuple[Stage, ...] = ((6, 2e-3, 256), (4, 4e-4, 512))  # of pairs of scene and caption
    answer_scenes: int = 24_000  # scenes that questions are asked about
    answer_stages: tuple[Stage, ...] = ((4, 2e-3, 128), (2, 4e-4, 256))
    token_scenes: int = 12_000  # scenes whose tokens are hidden
    token_epochs: int = 4  # passes over them
    token_hidden: float = 0.75  # share that is hidden
    photo_epochs: int = 8  # passes over photographs
    photo_dropout: float = 0.1  # of image head and word vectors
    temperatures: tuple[float, ...] = (0.01, 0.03, 0.07, 0.2, 1.0)
    batch_sizes: tuple[int, ...] = (32, 128, 512)
    objectives: tuple[str, ...] = tuple(OBJECTIVES)  # of photograph and sentence
    num_seeds: int = 3  # runs of each setting

    @classmethod
    def smoke(cls) -> CaptionRecipe:
        """For tests: few scenes, one pass."""
        stages = dict(scene_stages=((1, 2e-3, 64), (1, 4e-4, 64)), answer_stages=((1, 2e-3, 64),))
        sizes = dict(scenes=256, gallery=40, answer_scenes=128, token_scenes=64, token_epochs=1, photo_epochs=1)
        compared = dict(temperatures=(0.01, 0.07, 1.0), batch_sizes=(32, 512), objectives=("InfoNCE", "cosine", "uniformity"))
        return cls(**stages, **sizes, **compared, num_seeds=1)

    @classmethod
    def long(cls) -> CaptionRecipe:
        """About an hour on two CPU cores."""
        return cls()

    def scene_networks(self, vocabulary: int, *, places: int = 64, dimensions: int = 96) -> tuple[ImageHead, TextEncoder]:
        """New networks for scenes and their captions.

        Parameters
        ----------
        vocabulary : int
            Number of token ids.
        places, dimensions : int
            Number and width of the visual tokens; by default those of chapter 4's encoders.
        """
        head = ImageHead(places, dimensions, width=self.scene_width, hidden=self.scene_hidden)
        return head, TextEncoder(vocabulary, dimensions=128, heads=4, layers=1, max_length=32, dropout=0.0, token_std=0.1)
