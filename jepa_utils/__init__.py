"""What the chapters of the Runnable JEPA Book share. Every name here is public and documented on the API page."""

from jepa_utils.data.backbones import cached_tokens, load_vjepa2
from jepa_utils.data.captions import CLASS_TEMPLATES, CaptionTokenizer, caption_table, class_captions
from jepa_utils.data.images import (
    augmented_view,
    color_jitter,
    decode_images,
    denormalize,
    image_tensor,
    normalize,
    random_flip,
    random_grayscale,
    random_resized_crop,
)
from jepa_utils.data.masking import PatchMasks, coverage, multiblock_masks, random_masks
from jepa_utils.data.samples import (
    sample_articles,
    sample_images,
    sample_photos,
    sample_reviews,
    sample_shakespeare,
)
from jepa_utils.data.scenes import Scenes, altered_captions, scene_caption, scene_contents, scene_questions, scenes
from jepa_utils.data.sources import load_data
from jepa_utils.data.spiral import Spiral, curve_neighbours, space_neighbours, spiral
from jepa_utils.data.streams import stream_data
from jepa_utils.data.text import SpanDataModule, span_mask, stream_chunks, token_chunks
from jepa_utils.data.tokenizers import load_tokenizer
from jepa_utils.data.words import (
    Vocabulary,
    adjacent_pairs,
    context_windows,
    speaker_names,
    tokenize,
    word_classes,
)
from jepa_utils.evaluation.captions import hidden_token_recall, photo_scores, true_caption_preferred
from jepa_utils.evaluation.collapse import collapse_report, effective_rank, isotropy
from jepa_utils.evaluation.neighbours import base_rate, nearest_neighbours, neighbour_purity
from jepa_utils.evaluation.probes import knn_probe, linear_probe
from jepa_utils.evaluation.retrieval import recall_at_k
from jepa_utils.evaluation.word_baselines import ppmi_svd, word2vec
from jepa_utils.models.backbones import VJEPA2
from jepa_utils.models.checkpoints import load_encoder, load_weights, read_card, save_encoder, save_weights
from jepa_utils.models.ema import EMA
from jepa_utils.models.mlp import MLP
from jepa_utils.models.predictors import PatchPredictor
from jepa_utils.models.text import TextDecoder, TextEncoder, WindowEncoder
from jepa_utils.models.vision_language import CrossPredictor, ImageHead, QueryPredictor
from jepa_utils.models.vit import ViT, patchify, position_grid
from jepa_utils.objectives.infonce import InfoNCE, alignment, info_nce, uniformity
from jepa_utils.objectives.sigreg import SIGReg, WeakSIGReg, epps_pulley, sigreg, weak_sigreg
from jepa_utils.objectives.vicreg import VICReg, covariance_penalty, variance_penalty, vicreg
from jepa_utils.player import show_player
from jepa_utils.plots import figure_style, plot_dots, plot_map, plot_runs, show_figure
from jepa_utils.publishing.caption_records import caption_record
from jepa_utils.publishing.claims import claims_table, glue, open_chapter, record
from jepa_utils.publishing.listing import show_source
from jepa_utils.publishing.records import pretrain_record, read_record
from jepa_utils.training.caption_recipes import CaptionRecipe
from jepa_utils.training.captions import (
    CaptionDataModule,
    CaptionTraining,
    TokenJEPA,
    embed,
    frozen_tokens,
    photo_tokens,
    train_pair,
)
from jepa_utils.training.fit import fit, neighbour_batches, tensor_batches
from jepa_utils.training.modules import JEPA, DecoderTraining, MaskedLM
from jepa_utils.training.recipes import VisionRecipe
from jepa_utils.training.vision import ClassTraining, ImageDataModule, MaskedJEPA, ViewJEPA, encode_images

__all__ = [
    "CLASS_TEMPLATES",
    "EMA",
    "JEPA",
    "MLP",
    "VJEPA2",
    "CaptionDataModule",
    "CaptionRecipe",
    "CaptionTokenizer",
    "CaptionTraining",
    "ClassTraining",
    "CrossPredictor",
    "DecoderTraining",
    "ImageDataModule",
    "ImageHead",
    "InfoNCE",
    "MaskedJEPA",
    "MaskedLM",
    "PatchMasks",
    "PatchPredictor",
    "QueryPredictor",
    "SIGReg",
    "Scenes",
    "SpanDataModule",
    "Spiral",
    "TextDecoder",
    "TextEncoder",
    "TokenJEPA",
    "VICReg",
    "ViT",
    "ViewJEPA",
    "VisionRecipe",
    "Vocabulary",
    "WeakSIGReg",
    "WindowEncoder",
    "adjacent_pairs",
    "alignment",
    "altered_captions",
    "augmented_view",
    "base_rate",
    "cached_tokens",
    "caption_record",
    "caption_table",
    "claims_table",
    "class_captions",
    "collapse_report",
    "color_jitter",
    "context_windows",
    "covariance_penalty",
    "coverage",
    "curve_neighbours",
    "decode_images",
    "denormalize",
    "effective_rank",
    "embed",
    "encode_images",
    "epps_pulley",
    "figure_style",
    "fit",
    "frozen_tokens",
    "glue",
    "hidden_token_recall",
    "image_tensor",
    "info_nce",
    "isotropy",
    "knn_probe",
    "linear_probe",
    "load_data",
    "load_encoder",
    "load_tokenizer",
    "load_vjepa2",
    "load_weights",
    "multiblock_masks",
    "nearest_neighbours",
    "neighbour_batches",
    "neighbour_purity",
    "normalize",
    "open_chapter",
    "patchify",
    "photo_scores",
    "photo_tokens",
    "plot_dots",
    "plot_map",
    "plot_runs",
    "position_grid",
    "ppmi_svd",
    "pretrain_record",
    "random_flip",
    "random_grayscale",
    "random_masks",
    "random_resized_crop",
    "read_card",
    "read_record",
    "recall_at_k",
    "record",
    "sample_articles",
    "sample_images",
    "sample_photos",
    "sample_reviews",
    "sample_shakespeare",
    "save_encoder",
    "save_weights",
    "scene_caption",
    "scene_contents",
    "scene_questions",
    "scenes",
    "show_figure",
    "show_player",
    "show_source",
    "sigreg",
    "space_neighbours",
    "span_mask",
    "speaker_names",
    "spiral",
    "stream_chunks",
    "stream_data",
    "tensor_batches",
    "token_chunks",
    "tokenize",
    "train_pair",
    "true_caption_preferred",
    "uniformity",
    "variance_penalty",
    "vicreg",
    "weak_sigreg",
    "word2vec",
    "word_classes",
]
