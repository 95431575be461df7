"""What a model knows of captions: searches, captions wrong in one thing, hidden tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from jepa_utils.arguments import check_count
from jepa_utils.data.batches import Words
from jepa_utils.data.scenes import ATTRIBUTES, Scenes, altered_captions
from jepa_utils.evaluation.collapse import effective_rank
from jepa_utils.evaluation.encode import embed, evaluating
from jepa_utils.evaluation.retrieval import directions, recall_at_k
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

    Raises
    ------
    ValueError
        If there are fewer than ten photographs, or `sentences` has other shapes.
    """
    ids, visible = sentences
    if len(tokens) < 10:
        raise ValueError(f"tokens must be of at least 10 photographs, got {len(tokens)}")
    if ids.dim() != 3 or len(ids) != len(tokens) or ids.numel() == 0 or visible.shape != ids.shape:
        raise ValueError(
            f"sentences must be ids and visible of one shape ({len(tokens)}, C, L), "
            f"got {tuple(ids.shape)} and {tuple(visible.shape)}"
        )
    pictures = embed(module.context_encoder, tokens)
    lines = embed(module.target_encoder, *(part.flatten(0, 1) for part in sentences))
    count = ids.shape[1]
    own = torch.arange(len(tokens)).unsqueeze(1) == torch.arange(len(lines)) // count  # (N, N C)
    firsts = directions(lines[::count])
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
        The share for each attribute; chance is one half, and a tie counts as a half. Scores that
        differ by rounding only, as of a sum in another order, are tied.

    Raises
    ------
    ValueError
        If there are no scenes, an attribute is unknown, or `score` does not give a number for each
        caption.
    """
    if not world.captions:
        raise ValueError("world must hold at least one scene, got none")

    def scores(captions: Sequence[str]) -> Tensor:
        found = score(captions)
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        if shape != (len(captions),) or found.isnan().any():
            raise ValueError(
                f"score must give a tensor of {len(captions)} numbers, one for each caption, "
                f"got {shape if shape != (len(captions),) else 'NaN among them'}"
            )
        return found.detach()

    true, shares = scores(world.captions), {}
    # that of single precision at most, for numbers of half precision are rounded once, at the end
    digits = torch.finfo(true.dtype).eps if true.is_floating_point() else 0.0
    digits = min(digits, torch.finfo(torch.float32).eps)
    for attribute in attributes:
        wrong = scores(altered_captions(world, attribute, seed=seed))
        tied = torch.isclose(true.double(), wrong.double(), rtol=8 * digits, atol=0)
        shares[attribute] = torch.where(tied, 0.5, (true > wrong).double()).mean().item()
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
        A trained `TokenJEPA`; it is asked in evaluation mode.
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
        If `batch_size` is no integer between 1 and N, or `caption` is of another number of scenes.
    """
    batch_size = check_count("batch_size", batch_size, len(tokens), "the number of scenes")
    if any(len(part) != len(tokens) for part in caption):
        raise ValueError(
            f"caption must be of as many scenes as tokens, {len(tokens)}, "
            f"got {[len(part) for part in caption]}"
        )
    shares = []
    with evaluating(module), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)  # the masks'; a GPU's numbers are left alone
        for start in range(0, len(tokens) - batch_size + 1, batch_size):
            rows = slice(start, start + batch_size)
            masks = module.masks(batch_size, module.predictor.grid)
            guess, true = module.predict(
                tokens[rows].float(), tuple(part[rows] for part in caption), masks
            )
            shares.append(recall_at_k(guess.flatten(0, 1), true.flatten(0, 1), ks=(1,))[1])
    return sum(shares) / len(shares)
