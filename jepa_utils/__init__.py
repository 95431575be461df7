"""What the chapters of the Runnable JEPA Book share. Every name here is public and documented on the API page."""

from jepa_utils.data.samples import sample_shakespeare
from jepa_utils.data.sources import load_data
from jepa_utils.data.spiral import Spiral, curve_neighbours, space_neighbours, spiral
from jepa_utils.data.words import (
    Vocabulary,
    adjacent_pairs,
    context_windows,
    speaker_names,
    tokenize,
    word_classes,
)
from jepa_utils.evaluation.collapse import collapse_report, effective_rank, isotropy
from jepa_utils.evaluation.neighbours import base_rate, nearest_neighbours, neighbour_purity
from jepa_utils.evaluation.probes import knn_probe, linear_probe
from jepa_utils.evaluation.word_baselines import ppmi_svd, word2vec
from jepa_utils.models.ema import EMA
from jepa_utils.models.mlp import MLP
from jepa_utils.models.text import WindowEncoder
from jepa_utils.objectives.infonce import InfoNCE, alignment, info_nce, uniformity
from jepa_utils.objectives.sigreg import SIGReg, WeakSIGReg, epps_pulley, sigreg, weak_sigreg
from jepa_utils.objectives.vicreg import VICReg, covariance_penalty, variance_penalty, vicreg
from jepa_utils.player import show_player
from jepa_utils.plots import figure_style, plot_dots, plot_map, plot_runs, show_figure
from jepa_utils.publishing.claims import claims_table, glue, open_chapter, record
from jepa_utils.publishing.listing import show_source
from jepa_utils.training.fit import fit, neighbour_batches, tensor_batches
from jepa_utils.training.modules import JEPA

__all__ = [
    "EMA",
    "JEPA",
    "MLP",
    "InfoNCE",
    "SIGReg",
    "Spiral",
    "VICReg",
    "Vocabulary",
    "WeakSIGReg",
    "WindowEncoder",
    "adjacent_pairs",
    "alignment",
    "base_rate",
    "claims_table",
    "collapse_report",
    "context_windows",
    "covariance_penalty",
    "curve_neighbours",
    "effective_rank",
    "epps_pulley",
    "figure_style",
    "fit",
    "glue",
    "info_nce",
    "isotropy",
    "knn_probe",
    "linear_probe",
    "load_data",
    "nearest_neighbours",
    "neighbour_batches",
    "neighbour_purity",
    "open_chapter",
    "plot_dots",
    "plot_map",
    "plot_runs",
    "ppmi_svd",
    "record",
    "sample_shakespeare",
    "show_figure",
    "show_player",
    "show_source",
    "sigreg",
    "space_neighbours",
    "speaker_names",
    "spiral",
    "tensor_batches",
    "tokenize",
    "uniformity",
    "variance_penalty",
    "vicreg",
    "weak_sigreg",
    "word2vec",
    "word_classes",
]
