"""What a model knows of captions: searches, captions wrong in one thing, hidden tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jepa_utils.data.batches import Words
from jepa_utils.data.scenes import ATTRIBUTES, Scenes, altered_captions
from jepa_utils.evaluation.collapse import effective_rank
from jepa_utils.evaluation.encode import embed
from jepa_utils.evaluation.retrieval import recall_at_k
from jepa_utils.objectives.infonce import alignment, uniformity

__all__ = ["hidden_token_recall", "photo_scores", "true_caption_preferred"]


def photo_scores(module: nn.Module, tokens: Tensor, sentences: Words) -> dict[str, float]:
    """How well sentences find their photographs and the other way, and how the embeddings lie.

    Parameters
    ----------
    module : nn.Module
        A `JEPA` with an image head as context encoder and a text encoder as target encoder, as
        `train_pair` returns it.
    tokens : Tensor, shape (N, K, D)
        Visual tokens of the photographs.
    sentences : tuple of Tensors
        Ids and visible of C sentences for each, (N, C, L).

    Returns
    -------
    dict of str to float
        Recall among N photographs and N C sentences at 1, 5 and 10; `alignment` of photographs and
        first sentences; `uniformity` and `effective_rank` of the first sentences' directions.
    """
    pictures = embed(module.context_encoder, tokens)
    lines = embed(module.target_encoder, *(part.flatten(0, 1) for part in sentences))
    count = sentences[0].shape[1]
    own = torch.arange(len(tokens)).unsqueeze(1) == torch.arange(len(lines)) // count  # (N, N C)
    firsts = F.normalize(lines[::count], dim=1)
    searches = {
        "text to image": recall_at_k(lines, pictures, positives=own.T),
        "image to text": recall_at_k(pictures, lines, positives=own),
    }
    scores = {
        f"{way} @{k}": share for way, shares in searches.items() for k, share in shares.items()
    }
    lie = {
        "alignment": alignment(pictures, firsts),
        "uniformity": uniformity(firsts),
        "effective rank": effective_rank(firsts),
    }
    return scores | {name: float(value) for name, value in lie.items()}


def true_caption_preferred(
    score: Callable[[Sequence[str]], Tensor],
    world: Scenes,
    attributes: Sequence[str] = (*ATTRIBUTES, "word order"),
    *,
    seed: int = 0,
) -> dict[str, float]:
    """How often a scene's true caption scores higher than one with a single thing wrong.

    Parameters
    ----------
    score : callable
        N captions, one for each scene, to N numbers: how well each fits to its scene.
    world : Scenes
        Scenes N.
    attributes : sequence of str
        What is made wrong, one after another, as in `altered_captions`.
    seed : int, default 0
        Of what it is replaced with.

    Returns
    -------
    dict of str to float
        The share for each attribute; chance is one half, and a tie counts as a half.
    """
    true = score(world.captions)
    shares = {}
    for attribute in attributes:
        wrong = score(altered_captions(world, attribute, seed=seed))
        shares[attribute] = ((true > wrong).double() + (true == wrong).double() / 2).mean().item()
    return shares


@torch.no_grad()
def hidden_token_recall(
    module: nn.Module, tokens: Tensor, caption: Words, *, batch_size: int = 20
) -> float:
    """How often the true token is nearest to the prediction, among all that a batch hides.

    The masks are the same at every call; those of the module decide how much is hidden.

    Parameters
    ----------
    module : nn.Module
        A trained `TokenJEPA`, in evaluation mode.
    tokens : Tensor, shape (N, K, D)
        Visual tokens of new scenes.
    caption : tuple of Tensors
        Ids and visible (N, L) of their captions.
    batch_size : int, default 20
        Scenes among whose hidden tokens is chosen; an incomplete batch would be easier, and is left
        out.

    Returns
    -------
    float
        Share between 0 and 1.

    Raises
    ------
    ValueError
        If `batch_size` is not between 1 and N.
    """
    if not 1 <= batch_size <= len(tokens):
        raise ValueError(
            f"batch_size must be between 1 and the number of scenes, {len(tokens)}, got "
            f"{batch_size}"
        )
    shares = []
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)  # the masks'; a GPU's numbers are left alone
        for start in range(0, len(tokens) - batch_size + 1, batch_size):
            rows = slice(start, start + batch_size)
            masks = module.masks(batch_size, module.predictor.grid)
            guess, true = module.predict(
                tokens[rows].float(), tuple(part[rows] for part in caption), masks
            )
            shares.append(recall_at_k(guess.flatten(0, 1), true.flatten(0, 1), ks=(1,))[1])
    return sum(shares) / len(shares)
