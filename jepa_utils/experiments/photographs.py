"""Chapter 5's photographs: which eye, rival, objective, temperature and batch find them best.

Every setting is chosen on the validation split; the parts after "search" take what it found. A
training is measured at the passes named by its row, on the test split unless it is a search.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jepa_utils.data.batches import CaptionDataModule, Words
from jepa_utils.data.images import caption_table, image_tensor
from jepa_utils.data.load import LoadedData
from jepa_utils.data.samples import class_captions
from jepa_utils.data.tokens import CaptionTokenizer
from jepa_utils.evaluation.caption_tests import photo_scores
from jepa_utils.evaluation.encode import embed, encode_images, photo_tokens
from jepa_utils.evaluation.photo_rivals import (
    fit_cca,
    gradients_and_colours,
    patch_codes,
    word_counts,
)
from jepa_utils.experiments.eyes import load_eye, resized
from jepa_utils.experiments.store import Outcome, Run, complete_record, measured, read_record
from jepa_utils.models.checkpoints import load_encoder, save_weights
from jepa_utils.models.text import TextEncoder
from jepa_utils.models.vision_language import ImageHead
from jepa_utils.objectives.infonce import InfoNCE, alignment, uniformity
from jepa_utils.objectives.sigreg import SIGReg
from jepa_utils.objectives.vicreg import VICReg
from jepa_utils.objectives.visreg import VISReg
from jepa_utils.training.fit import fit
from jepa_utils.training.jepa import JEPA
