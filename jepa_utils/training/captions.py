"""Images with captions: frozen tokens and batches of them, and rules to train on these.

An image and its caption as a pair of embeddings (`train_pair`), hidden visual tokens from a text (`TokenJEPA`), and captions
word by word (`CaptionTraining`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from jepa_utils.data.masking import PatchMasks
from jepa_utils.models.text import TextDecoder
from jepa_utils.models.vision_language import CrossPredictor
from jepa_utils.models.vit import ViT
from jepa_utils.objectives.infonce import InfoNCE
from jepa_utils.training.fit import History, fit
from jepa_utils.training.modules import JEPA, _adam
from jepa_utils.training.vision import EpochBatches, encode_images

__all__ = ["CaptionDataModule", "CaptionTraining", "TokenJEPA", "embed", "frozen_tokens", "photo_tokens", "train_pair"]

_TOGETHER = 4  # images that look alike in a row
Words = tuple[Tensor, Tensor]  # ids of int64 and visible of bool, both (..., L)


def frozen_tokens(encoder: ViT, images: Tensor) -> Tensor:
    """All tokens of many images, once, in half precision: what is trained on them reads them again and again.

    Parameters
    ----------
    encoder : ViT
        Standardised images (B, 3, H, W) to tokens (B, K, D).
    images : Tensor of uint8, shape (N, 3, H, W)
        Images.

    Returns
    -------
    Tensor of float16, shape (N, K, D)
    """
    return torch.cat([_tokens(encoder, part).half() for part in images.split(500)])


def photo_tokens(encoder: ViT, photographs: Tensor) -> Tensor:
    """Sixteen tokens of each photograph, for an encoder of 32x32 images.

    A photograph is cut into four quarters, which are made smaller to 32x32 pixels; of each quarter's tokens, neighbours are
    averaged until 2x2 are left.

    Parameters
    ----------
    encoder : ViT
        Standardised images (B, 3, 32, 32) to tokens (B, K, D) on a square grid.
    photographs : Tensor of uint8, shape (N, 3, S, S)
        Square, S even.

    Returns
    -------
    Tensor of float16, shape (N, 16, D)
        Row by row of the 4x4 grid.

    Raises
    ------
    ValueError
        If photographs are not square, or their side is odd.
    """
    side = photographs.shape[-1]
    if photographs.dim() != 4 or photographs.shape[-2] != side or side % 2:
        raise ValueError(f"photographs must have shape (N, 3, S, S), S even, got {tuple(photographs.shape)}")
    results = []
    for part in photographs.split(500):
        quarters = part.unfold(2, side // 2, side // 2).unfold(3, side // 2, side // 2).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
        tokens = _tokens(encoder, F.interpolate(quarters.float(), 32, mode="area").round().byte())  # (4 B, K, D)
        few = F.adaptive_avg_pool2d(tokens.mT.unflatten(2, encoder.grid), 2)  # (4 B, D, 2, 2)
        results.append(few.unflatten(0, (-1, 2, 2)).permute(0, 1, 4, 2, 5, 3).flatten(1, 4).half())
    return torch.cat(results)


def _tokens(encoder: ViT, images: Tensor) -> Tensor:
    flat = encode_images(nn.Sequential(encoder, nn.Flatten()).train(encoder.training), images)  # which it leaves as it was
    return flat.unflatten(1, (-1, encoder.dimensions))


@torch.no_grad()
def embed(network: nn.Module, *inputs: Tensor, batch_size: int = 500) -> Tensor:
    """What a network on the CPU makes of its inputs, some rows at a time.

    Parameters
    ----------
    network : nn.Module
        Of one argument or several, such as visual tokens, or ids and visible of texts.
    *inputs : Tensor, shape (N, ...)
        Equally long; half precision becomes float32.
    batch_size : int, default 500
        Rows at a time.

    Returns
    -------
    Tensor, shape (N, ...)
    """
    inputs = [x.float() if x.is_floating_point() else x for x in inputs]
    return torch.cat([network(*rows) for rows in zip(*(x.split(batch_size) for x in inputs), strict=True)])


def train_pair(
    head: nn.Module,
    text: nn.Module,
    data: CaptionDataModule,
    *,
    epochs: int,
    seed: int,
    objective: Callable[[Tensor, Tensor], Tensor] | None = None,
    learning_rate: float = 1e-3,
    checkpoint: Path | str | None = None,
    **rule,
) -> tuple[JEPA, History]:
    """Bring images and their texts together: the image is the context, its text the target of a `JEPA` without a predictor.

    Parameters
    ----------
    head : nn.Module
        Visual tokens (B, K, D), and a question's ids and visible where there are any, to embeddings (B, E).
    text : nn.Module
        Ids and visible (B, L) to embeddings (B, E), such as `TextEncoder`.
    data : CaptionDataModule
        Batches.
    epochs : int
        Passes.
    seed : int
        Of what is random in training; the networks' weights are drawn before.
    objective : callable, optional
        Embeddings of images and texts to a scalar; `InfoNCE` with a temperature that learns, by default.
    learning_rate : float, default 1e-3
        Of Adam.
    checkpoint : path, optional
        As for `fit`.
    **rule
        Further arguments of `JEPA`, such as `regularizer`.

    Returns
    -------
    module : JEPA
        In evaluation mode, on the CPU; `head` is its context encoder, `text` its target encoder.
    history : History
    """
    objective = InfoNCE(learn_temperature=True) if objective is None else objective
    module = JEPA(head, nn.Identity(), target_encoder=text, objective=objective, learning_rate=learning_rate, **rule)
    history = fit(module.train(), data, epochs=epochs, seed=seed, checkpoint=checkpoint, progress=False)
    return module.cpu().eval(), history


class CaptionDataModule(L.LightningDataModule):
    """Batches of visual tokens, each image with one of its captions, drawn anew for each epoch; an incomplete batch is left out.

    What is drawn depends on `seed` and the epoch's number alone: a resumed run continues with the same batches.

    Parameters
    ----------
    tokens : Tensor, shape (N, K, D)
        Visual tokens of a frozen encoder, or anything else with a row for each image. Half precision saves memory; batches
        are of float32, unless they are bytes.
    captions : tuple of Tensors
        Token ids (N, C, L) and which of them are there, of bool (N, C, L): C captions for each image.
    questions : tuple of Tensors, optional
        The same for the question that each caption answers, (N, C, Q).
    groups : Tensor of int64, shape (N,), optional
        Images with one number are described by each other's captions, such as those of one class.
    look_alikes : Tensor of int64, shape (N,), optional
        Images with one number come into a batch four at a time, so that what is hard to tell apart competes (hard negatives).
    batch_size : int, default 256
        Images per batch B.
    seed : int, default 0
        Of order and captions.

    Raises
    ------
    ValueError
        If lengths differ, or `batch_size` is not between 1 and N.
    """

    def __init__(
        self,
        tokens: Tensor,
        captions: Words,
        *,
        questions: Words | None = None,
        groups: Tensor | None = None,
        look_alikes: Tensor | None = None,
        batch_size: int = 256,
        seed: int = 0,
    ):
        super().__init__()
        for name, words in (("captions", captions), ("questions", questions)):
            if words is not None and not (words[0].dim() == 3 and words[0].shape == words[1].shape and len(words[0]) == len(tokens)):
                raise ValueError(
                    f"{name} must be ids and visible of one shape ({len(tokens)}, C, L), got {tuple(words[0].shape)} and "
                    f"{tuple(words[1].shape)}"
                )
        if questions is not None and questions[0].shape[1] != captions[0].shape[1]:
            raise ValueError(f"questions must be {captions[0].shape[1]} for each image, got {questions[0].shape[1]}")
        for name, numbers in (("groups", groups), ("look_alikes", look_alikes)):
            if numbers is not None and numbers.shape != (len(tokens),):
                raise ValueError(f"{name} must have shape ({len(tokens)},), got {tuple(numbers.shape)}")
        if not 1 <= batch_size <= len(tokens):
            raise ValueError(f"batch_size must be between 1 and the number of images, {len(tokens)}, got {batch_size}")
        self.tokens, self.captions, self.questions = tokens, captions, questions
        self.groups, self.look_alikes = groups, look_alikes
        self.batch_size, self.seed = batch_size, seed
        self.steps = len(tokens) // batch_size  # per epoch

    def batches(self, epoch: int) -> Iterator[tuple]:
        """The batches of an epoch, as `JEPA` takes them.

        Each is (context, target) or (context, target, groups): context is (tokens (B, K, D),) with the question's ids and
        visible (B, Q), if there are any; target the caption's ids and visible (B, L); groups (B,).
        """
        draw = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        count = self.captions[0].shape[1]
        for rows in self._order(draw).split(self.batch_size)[: self.steps]:
            which = torch.randint(count, (len(rows),), generator=draw)
            tokens = self.tokens[rows]
            context = (tokens.float() if tokens.is_floating_point() else tokens,)
            if self.questions is not None:
                context += tuple(part[rows, which] for part in self.questions)
            target = tuple(part[rows, which] for part in self.captions)
            yield (context, target) if self.groups is None else (context, target, self.groups[rows])

    def _order(self, draw: torch.Generator) -> Tensor:
        order = torch.randperm(len(self.tokens), generator=draw)
        if self.look_alikes is None:
            return order
        order = order[self.look_alikes[order].argsort(stable=True)]  # each number's images side by side, in random order
        numbers, counts = self.look_alikes[order].unique_consecutive(return_counts=True)
        place = torch.arange(len(order)) - (counts.cumsum(0) - counts).repeat_interleave(counts)  # within its number
        run = torch.stack([numbers.repeat_interleave(counts), place // _TOGETHER]).unique_consecutive(dim=1, return_inverse=True)[1]
        shuffled = torch.randperm(int(run[-1]) + 1, generator=draw)
        return order[shuffled[run].argsort(stable=True)]

    def train_dataloader(self) -> DataLoader:
        """Batches of the trainer's current epoch."""
        return DataLoader(EpochBatches(self), batch_size=None, generator=torch.Generator())  # torch's own would be moved on


class TokenJEPA(L.LightningModule):
    """Predict hidden visual tokens of a frozen encoder from the visible ones and a caption.

    Predictions are compared with the true tokens by an objective, such as `InfoNCE`, in which each hidden token has to be
    told from all others of the batch.

    Parameters
    ----------
    predictor : CrossPredictor
        From visible tokens and words to hidden tokens.
    words : nn.Embedding
        Word vectors (V, E), which learn with it.
    masks : callable
        A batch size and a grid to `PatchMasks`, such as `random_masks`. Targets that overlap give a contrastive objective the
        same token twice.
    objective : callable
        Predictions and true tokens, (B * T, D) each, to a scalar.
    text : {"own", "shuffled", "none"}, default "own"
        Each image's own caption, that of another image of the batch, or none.
    learning_rate : float, default 1e-3
        Of Adam.

    Raises
    ------
    ValueError
        If `text` is none of the three, or `learning_rate` is not positive.

    Source
    ------
    "JEPA: Joint Embedding Predictive Architecture" (notes on VL-JEPA, 2026), section "Training Objective".
    """

    def __init__(
        self,
        predictor: CrossPredictor,
        words: nn.Embedding,
        *,
        masks: Callable[[int, tuple[int, int]], PatchMasks],
        objective: Callable[[Tensor, Tensor], Tensor],
        text: str = "own",
        learning_rate: float = 1e-3,
    ):
        super().__init__()
        if text not in ("own", "shuffled", "none"):
            raise ValueError(f"text must be 'own', 'shuffled' or 'none', got {text!r}")
        if learning_rate <= 0:
            raise ValueError(f"learning_rate must be positive, got {learning_rate}")
        self.predictor, self.words, self.masks = predictor, words, masks
        self.objective, self.text, self.learning_rate = objective, text, learning_rate

    def predict(self, tokens: Tensor, caption: Words, masks: PatchMasks) -> tuple[Tensor, Tensor]:
        """Predicted and true tokens at the hidden places, (B, T, D) each."""
        seen, hidden = masks.context, masks.targets.flatten(1)
        ids, visible = caption
        if self.text == "shuffled":
            ids, visible = ids.roll(1, dims=0), visible.roll(1, dims=0)
        text = () if self.text == "none" else (self.words(ids), visible)
        predicted = self.predictor(_at(tokens, seen), seen, hidden, *text)
        return predicted, _at(tokens, hidden)

    def training_step(self, batch: tuple, batch_idx: int) -> dict[str, Tensor]:
        """Loss of one batch of a `CaptionDataModule`."""
        (tokens, *_), caption, *_ = batch
        masks = self.masks(len(tokens), self.predictor.grid)
        predicted, true = self.predict(tokens, caption, masks)
        return {"loss": self.objective(predicted.flatten(0, 1), true.flatten(0, 1))}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over all parameters that learn."""
        return _adam(self)


def _at(tokens: Tensor, places: Tensor) -> Tensor:
    return tokens.gather(1, places.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


class CaptionTraining(L.LightningModule):
    """Predict an image's caption word by word: the generative rival of predicting its embedding.

    Parameters
    ----------
    reader : nn.Module
        Visual tokens (B, K, D), and a question's ids and visible where there are any, to embeddings (B, E).
    decoder : TextDecoder
        Embeddings (B, E) and tokens (B, L) to logits (B, L, V).
    learning_rate : float, default 1e-3
        Of Adam.

    Raises
    ------
    ValueError
        If `learning_rate` is not positive.
    """

    def __init__(self, reader: nn.Module, decoder: TextDecoder, *, learning_rate: float = 1e-3):
        super().__init__()
        if learning_rate <= 0:
            raise ValueError(f"learning_rate must be positive, got {learning_rate}")
        self.reader, self.decoder, self.learning_rate = reader, decoder, learning_rate

    def log_likelihood(self, embeddings: Tensor, ids: Tensor, visible: Tensor) -> Tensor:
        """Log-probability of each caption given its embedding, in nats: (B,)."""
        losses = F.cross_entropy(self.decoder(embeddings, ids).transpose(1, 2), ids, reduction="none")  # (B, L)
        return -(losses * visible).sum(dim=1)

    def training_step(self, batch: tuple, batch_idx: int) -> dict[str, Tensor]:
        """Mean cross-entropy per word of one batch of a `CaptionDataModule`, in nats."""
        context, (ids, visible), *_ = batch
        return {"loss": -self.log_likelihood(self.reader(*context), ids, visible).sum() / visible.sum()}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over all parameters that learn."""
        return _adam(self)
