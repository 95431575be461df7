"""What the chapters of the Runnable JEPA Book share. Every name here is public and documented on the API page."""

from jepa_utils.data.samples import sample_shakespeare
from jepa_utils.data.sources import load_data
from jepa_utils.data.words import (
    Vocabulary,
    adjacent_pairs,
    context_windows,
    speaker_names,
    tokenize,
    word_classes,
)
from jepa_utils.evaluation.collapse import collapse_report, effective_rank
from jepa_utils.evaluation.neighbours import base_rate, nearest_neighbours, neighbour_purity
from jepa_utils.evaluation.word_baselines import ppmi_svd, word2vec
from jepa_utils.models.text import WindowEncoder
from jepa_utils.objectives.sigreg import SIGReg, WeakSIGReg, epps_pulley, sigreg, weak_sigreg
from jepa_utils.plots import figure_style, plot_dots, plot_map, plot_runs, show_figure
from jepa_utils.publishing.claims import claims_table, glue, open_chapter, record
from jepa_utils.publishing.listing import show_source
from jepa_utils.training.fit import fit, tensor_batches
from jepa_utils.training.modules import JEPA

__all__ = [
    "JEPA",
    "SIGReg",
    "Vocabulary",
    "WeakSIGReg",
    "WindowEncoder",
    "adjacent_pairs",
    "base_rate",
    "claims_table",
    "collapse_report",
    "context_windows",
    "effective_rank",
    "epps_pulley",
    "figure_style",
    "fit",
    "glue",
    "load_data",
    "nearest_neighbours",
    "neighbour_purity",
    "open_chapter",
    "plot_dots",
    "plot_map",
    "plot_runs",
    "ppmi_svd",
    "record",
    "sample_shakespeare",
    "show_figure",
    "show_source",
    "sigreg",
    "speaker_names",
    "tensor_batches",
    "tokenize",
    "weak_sigreg",
    "word2vec",
    "word_classes",
]
