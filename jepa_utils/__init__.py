"""What the chapters of the Runnable JEPA Book share, imported when it is first used.

`PUBLIC` says in which module each public name lies. Importing this package, or one loss of it,
imports nothing else.
"""

from importlib import import_module

# Public names by module: the only list of them.
PUBLIC = {
    "claims.notebook": ("claims_table", "glue", "open_chapter", "record"),
    "data.batches": (
        "CaptionDataModule",
        "ImageDataModule",
        "SpanDataModule",
        "TrajectoryDataModule",
        "neighbour_batches",
        "tensor_batches",
    ),
    "data.images": (
        "augmented_view",
        "caption_table",
        "color_jitter",
        "decode_images",
        "denormalize",
        "image_tensor",
        "normalize",
        "random_flip",
        "random_grayscale",
        "random_resized_crop",
    ),
    "data.load": ("load_data",),
    "data.masking": ("PatchMasks", "coverage", "multiblock_masks", "random_masks"),
    "data.pendulum": ("Pendulum",),
    "data.rooms": ("Rooms", "Walks"),
    "data.rooms_env": ("RoomsEnv",),
    "data.samples": (
        "sample_articles",
        "sample_images",
        "sample_photos",
        "sample_reviews",
        "sample_shakespeare",
    ),
    "data.scene_films": ("SceneFilm", "scene_film"),
    "data.scenes": (
        "Scenes",
        "altered_captions",
        "every_caption",
        "scene_caption",
        "scene_contents",
        "scene_questions",
        "scenes",
    ),
    "data.spiral": ("Spiral", "curve_neighbours", "space_neighbours", "spiral"),
    "data.tokens": (
        "CLASS_TEMPLATES",
        "CaptionTokenizer",
        "article_of_chunks",
        "class_captions",
        "load_tokenizer",
        "span_mask",
        "stream_chunks",
        "stream_data",
        "token_chunks",
    ),
    "data.triples": ("Questions", "Triples", "object_questions", "relation_questions", "triples"),
    "data.words": (
        "Vocabulary",
        "adjacent_pairs",
        "context_windows",
        "speaker_names",
        "tokenize",
        "word_classes",
    ),
    "evaluation.caption_tests": ("hidden_token_recall", "photo_scores", "true_caption_preferred"),
    "evaluation.collapse": ("collapse_report", "effective_rank", "isotropy"),
    "evaluation.counted_texts": (
        "document_frequencies",
        "inverse_document_frequencies",
        "lsa_vectors",
        "mean_of_tokens",
        "ppmi_vectors",
        "random_vectors",
        "tfidf_accuracy",
        "tfidf_vectors",
    ),
    "evaluation.drift": (
        "Corrected",
        "Drift",
        "drift",
        "hindsight_correction",
        "nearest_correction",
    ),
    "evaluation.encode": (
        "cached_tokens",
        "embed",
        "encode_images",
        "frozen_tokens",
        "photo_tokens",
    ),
    "evaluation.neighbours": ("base_rate", "nearest_neighbours", "neighbour_purity"),
    "evaluation.photo_rivals": (
        "fit_cca",
        "gradients_and_colours",
        "gradients_and_colours_of_places",
        "patch_codes",
        "word_counts",
    ),
    "evaluation.planning": (
        "Episodes",
        "goal_cost",
        "plan_cem",
        "plan_gradient",
        "plan_mppi",
        "run_episodes",
        "wilson_interval",
    ),
    "evaluation.probes": ("knn_probe", "linear_probe"),
    "evaluation.retrieval": ("label_precision", "recall_at_k"),
    "evaluation.selective": (
        "decodings_needed",
        "latest_decoding",
        "moved_moments",
        "random_moments",
        "uniform_moments",
    ),
    "evaluation.word_vectors": ("cca_vectors", "ppmi_svd", "word2vec"),
    "evaluation.written_captions": ("attributes_right", "read_captions", "written_captions"),
    "experiments.captions": ("CaptionRecipe", "caption_record"),
    "experiments.cifar10": ("VisionRecipe", "pretrain_record"),
    "experiments.eyes": ("EyeRecipe", "EyeRow", "eye_record", "load_eye", "resized"),
    "experiments.photographs": ("PhotoRecipe", "PhotoRow", "eye_tokens", "photo_record"),
    "experiments.questions": (
        "QuestionRecipe",
        "QuestionRow",
        "folded",
        "question_record",
        "question_scores",
    ),
    "experiments.spirals": ("SpiralRecipe", "spiral_record"),
    "experiments.store": ("read_record",),
    "experiments.texts": ("TextRecipe", "TextRow", "text_batches", "text_record", "text_training"),
    "experiments.word_tables": ("WordRecipe", "word_record"),
    "experiments.writers": ("Blur", "WriterRecipe", "writer_record"),
    "figures.film": ("show_player",),
    "figures.passages": ("passage_data", "passage_still"),
    "figures.photo_search": ("photo_search_data", "photo_search_still", "search_photographs"),
    "figures.play": ("show_play",),
    "figures.source": ("show_source",),
    "figures.style": ("figure_style", "plot_dots", "plot_map", "plot_runs", "show_figure"),
    "models.checkpoints": (
        "load_encoder",
        "load_weights",
        "read_card",
        "save_encoder",
        "save_weights",
    ),
    "models.ema": ("EMA",),
    "models.mlp": ("MLP",),
    "models.predictors": ("PatchPredictor",),
    "models.resnet": ("ResNet",),
    "models.text": ("TextDecoder", "TextEncoder", "WindowEncoder"),
    "models.query_order": ("CausalQueryPredictor", "OrderedQueryPredictor"),
    "models.vision_language": ("CrossPredictor", "ImageHead", "QueryPredictor"),
    "models.vit": ("ViT", "patchify", "position_grid"),
    "models.world": (
        "ActionPredictor",
        "InverseDynamics",
        "WorldDecoder",
        "WorldEncoder",
        "rollout",
    ),
    "evaluation.vjepa2": ("VJEPA2", "load_vjepa2"),
    "objectives.dynamics": ("inverse_dynamics_loss", "next_embedding_loss", "smoothness_penalty"),
    "objectives.infonce": ("InfoNCE", "alignment", "info_nce", "uniformity"),
    "objectives.sigreg": ("SIGReg", "WeakSIGReg", "epps_pulley", "sigreg", "weak_sigreg"),
    "objectives.vcreg": ("VCReg", "vcreg"),
    "objectives.vicreg": ("VICReg", "covariance_penalty", "variance_penalty", "vicreg"),
    "objectives.visreg": ("VISReg", "visreg"),
    "training.baselines": (
        "CaptionTraining",
        "ClassTraining",
        "DecoderTraining",
        "HybridTraining",
        "MaskedLM",
    ),
    "training.fit": ("fit",),
    "training.optimizers": ("Schedule",),
    "training.jepa": ("JEPA", "MaskedJEPA", "TokenJEPA", "ViewJEPA", "train_pair"),
    "training.views": ("PhotoViewJEPA",),
    "training.world_models": ("PixelWorld", "WorldJEPA"),
}

_MODULE_OF = {name: module for module, names in PUBLIC.items() for name in names}
__all__ = list(_MODULE_OF)


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
