"""What all rows of chapter 2's experiment are measured by, whatever made their vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from jepa_utils.data.load import LoadedData
from jepa_utils.data.tokens import article_of_chunks, span_mask, token_chunks
from jepa_utils.evaluation.collapse import effective_rank
from jepa_utils.evaluation.counted_texts import Vectors, tfidf_accuracy
from jepa_utils.evaluation.encode import embed
from jepa_utils.evaluation.probes import linear_probe
from jepa_utils.evaluation.retrieval import label_precision, recall_at_k
from jepa_utils.models.modes import modes_kept
from jepa_utils.training.baselines import HybridTraining, MaskedLM
from jepa_utils.training.jepa import JEPA

__all__ = [
    "TextData",
    "held_out_nats",
    "look",
    "share_of_the_cut",
    "text_scores",
    "tfidf_scores",
    "vectors_of",
]

_RECALLS = (1, 5, 10)
_CAPTIONS = ["caption_0", "caption_1"]


@dataclass(frozen=True)
class TextData:
    """Everything that is read: passages of WikiText, two captions of each photograph, reviews."""

    train: Tensor  # (P, L)
    sides: dict[str, tuple[Tensor, Tensor]]  # of validation and test chunks, (G, L / 2) each
    articles: dict[str, Tensor]  # (G,)
    captions: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]  # ids and visible, twice
    reviews: dict[str, tuple[Tensor, Tensor]]  # ids and visible
    labels: dict[str, Tensor]
    tokenizer: Any
    mask_id: int

    @property
    def vocabulary(self) -> int:
        """Number of token ids V."""
        return len(self.tokenizer)

    @classmethod
    def read(
        cls,
        wiki: LoadedData,
        photographs: LoadedData,
        reviews: LoadedData,
        tokenizer: Any,
        *,
        length: int,
        gallery: int,
    ) -> TextData:
        """Cut and tokenise; `gallery` is how many chunks of validation and test are kept."""
        half = length // 2
        mask_id = tokenizer.convert_tokens_to_ids("<|endoftext|>")  # occurs in no text
        lines = {split: wiki.data[split]["text"] for split in ("train", "validation", "test")}
        chunks = {
            split: token_chunks(text, tokenizer, length=length, progress=False)
            for split, text in lines.items()
        }
        held = {split: chunks[split][:gallery] for split in ("validation", "test")}
        photos = photographs.data["test"].select_columns(_CAPTIONS)
        captions = [[row[column] for row in photos] for column in _CAPTIONS]
        return cls(
            train=chunks["train"],
            sides={split: (part[:, :half], part[:, half:]) for split, part in held.items()},
            articles={
                split: article_of_chunks(lines[split], tokenizer, length)[: len(part)]
                for split, part in held.items()
            },
            captions=tuple(_padded(texts, tokenizer, mask_id) for texts in captions),
            reviews={
                split: _padded(reviews.data[split]["text"], tokenizer, mask_id)
                for split in ("train", "test")
            },
            labels={
                split: torch.tensor(reviews.data[split]["label"]) for split in ("train", "test")
            },
            tokenizer=tokenizer,
            mask_id=mask_id,
        )


def _padded(texts: Iterable[str], tokenizer: Any, mask_id: int) -> tuple[Tensor, Tensor]:
    """Texts as ids and visible, (P, L) both; one without tokens gets the one that means nothing."""
    rows = [
        torch.tensor(row or [mask_id])
        for row in tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    ]
    ids = pad_sequence(rows, batch_first=True, padding_value=mask_id)
    lengths = torch.tensor([len(row) for row in rows]).unsqueeze(1)
    return ids, torch.arange(ids.shape[1]) < lengths


def _all(ids: Tensor) -> tuple[Tensor, Tensor]:
    return ids, torch.ones_like(ids, dtype=torch.bool)


def vectors_of(encoder: nn.Module) -> Vectors:
    """What an encoder of ids and visible makes of many texts."""
    return lambda ids, visible: embed(encoder, ids, visible, batch_size=200)


@dataclass(frozen=True)
class _Standard:
    """The one rule for all dense vectors: standardised by those of a part of the training text."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, vectors: Vectors, train: Tensor) -> _Standard:
        h = vectors(*_all(train[:1000].view(-1, train.shape[1] // 2)))
        return cls(h.mean(dim=0), h.std(dim=0).clamp(min=1e-12))

    def __call__(self, h: Tensor) -> Tensor:
        return (h - self.mean) / self.std


def _found(
    data: TextData, split: str, vectors: Vectors, rule: Callable[[Tensor], Tensor]
) -> tuple[dict[int, float], Tensor, Tensor]:
    """Recall of each chunk's second half by its first."""
    first, second = (rule(vectors(*_all(side))) for side in data.sides[split])
    return recall_at_k(first, second, ks=_RECALLS), first, second


# During a training


def look(
    data: TextData, vectors: Vectors, module: JEPA | MaskedLM | HybridTraining
) -> dict[str, float]:
    """What is measured during a training."""
    rule = _Standard.of(vectors, data.train[:250])
    halves = {
        split: tuple(vectors(*_all(side)) for side in data.sides[split])
        for split in ("validation", "test")
    }
    seen = {split: recall_at_k(*map(rule, pair), ks=(10,))[10] for split, pair in halves.items()}
    seen["effective rank"] = float(effective_rank(halves["validation"][0]))
    # At their own places in the chunk, by which an encoder could tell targets from contexts.
    chunks = torch.cat(data.sides["validation"], dim=1)[:300]
    earlier = (torch.arange(chunks.shape[1]) < chunks.shape[1] // 2).expand(chunks.shape)
    for name, side in (("std", earlier), ("target std", ~earlier)):
        seen[name] = float(vectors(chunks, side).std(dim=0).mean())
    return seen | _held_out_loss(data, module, halves["validation"])


def _held_out_loss(
    data: TextData, module: JEPA | MaskedLM | HybridTraining, halves: tuple[Tensor, Tensor]
) -> dict[str, float]:
    """The loss on validation passages, in a JEPA's units or in nats a hidden token."""
    if isinstance(module, HybridTraining):
        parts = (module.jepa, module.masked)
        return {k: v for each in parts for k, v in _held_out_loss(data, each, halves).items()}
    if isinstance(module, MaskedLM):
        return _nats(module, data.sides["validation"][0][:200])
    first, second = halves
    if module.target_encoder is not module.context_encoder:
        second = vectors_of(module.target_encoder)(*_all(data.sides["validation"][1]))
    with torch.no_grad():
        return {"validation loss": float(module.objective(module.predictor(first), second))}


def _nats(module: MaskedLM, ids: Tensor) -> dict[str, float]:
    """Cross-entropy of hidden tokens that the training text has, in nats a token."""
    known = torch.isin(ids, module.candidates)
    draws = torch.rand(ids.shape, generator=torch.Generator().manual_seed(0))
    hidden = (draws < module.share) & known
    shown = ids.masked_fill(hidden, module.mask_id)
    sums = 0.0
    with torch.no_grad(), modes_kept(module):
        module.eval()
        table = module.encoder.tokens.weight[module.candidates]
        for part, where, true in zip(shown.split(50), hidden.split(50), ids.split(50)):
            h = module.encoder.encode_tokens(*_all(part))[where]
            wanted = torch.searchsorted(module.candidates, true[where])
            logits = nn.functional.linear(h, table, module.bias)
            sums += float(nn.functional.cross_entropy(logits, wanted, reduction="sum"))
    return {"nats": sums / int(hidden.sum())}


# At the end


def text_scores(
    data: TextData, vectors: Vectors, *, labels: Sequence[int], seed: int
) -> dict[str, float]:
    """The scores of dense vectors: search among passages and captions, and a line on reviews.

    `labels` are numbers of labelled reviews beside all of them; `seed` chooses which.
    """
    h = {split: vectors(*data.reviews[split]) for split in ("train", "test")}

    def line(rows: Tensor) -> float:
        return linear_probe(
            h["train"][rows],
            data.labels["train"][rows],
            h["test"],
            data.labels["test"],
            strengths=(1.0, 10.0, 100.0),
        ).score

    rule = _Standard.of(vectors, data.train)
    return _search(data, vectors, rule) | _on_reviews(data, line, labels, seed)


def tfidf_scores(
    data: TextData, vectors: Vectors, *, labels: Sequence[int], seed: int
) -> dict[str, float]:
    """The same of TF-IDF, whose vectors have a number for each token and are not standardised.

    Reviews are the only text that it needs for a line on reviews: the frequencies are theirs.
    """
    ids, visible = data.reviews["train"]

    def line(rows: Tensor) -> float:
        texts = ids[rows], visible[rows]
        tests = data.reviews["test"], data.labels["test"]
        return tfidf_accuracy(texts, data.labels["train"][rows], *tests)

    return _search(data, vectors, None) | _on_reviews(data, line, labels, seed)


def _search(data: TextData, vectors: Vectors, standard: _Standard | None) -> dict[str, float]:
    """Without a standard vectors are taken as they are, and have too many numbers for a rank."""
    rule = standard or (lambda h: h)
    chosen, _, _ = _found(data, "validation", vectors, rule)
    found, first, second = _found(data, "test", vectors, rule)
    pair = [rule(vectors(*caption)) for caption in data.captions]
    return {
        **{f"recall@{k}": value for k, value in found.items()},
        "validation": chosen[10],
        "article": label_precision(first, second, data.articles["test"], k=10),
        **({"effective rank": float(effective_rank(first))} if standard else {}),
        "captions": recall_at_k(*pair, ks=(10,))[10],
    }


def _on_reviews(
    data: TextData, line: Callable[[Tensor], float], labels: Sequence[int], seed: int
) -> dict[str, float]:
    """Accuracy on test reviews of a line fitted to some and to all training reviews."""
    total = len(data.labels["train"])
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    return {
        f"reviews, {'all' if number == total else number}": line(order[:number])
        for number in (*labels, total)
    }


def held_out_nats(data: TextData, module: MaskedLM, text: Tensor) -> dict[str, float]:
    """The same on test passages, and what the tokens' frequencies alone are worth there."""
    first = data.sides["test"][0]
    known = first[torch.isin(first, module.candidates)]
    counts = torch.bincount(text.flatten(), minlength=data.vocabulary)
    unigram = -(counts[known] / counts.sum()).log().mean()
    return _nats(module, first) | {"unigram nats": float(unigram)}


def share_of_the_cut(encoder: nn.Module, chunks: Tensor, least: int) -> float:
    """Share of the variance of contexts that the place of the cut explains."""
    order = torch.randperm(len(chunks), generator=torch.Generator().manual_seed(0))
    chunks = chunks[order]  # neighbours share a topic
    length = chunks.shape[1]
    cuts = torch.linspace(least, length - least, len(chunks)).long()
    h = embed(encoder, chunks, ~span_mask(cuts, length), batch_size=100)
    gaps = h - h.mean(dim=0)
    means = torch.cat([part.mean(dim=0).expand(len(part), -1) for part in gaps.chunk(20)])
    return float(means.square().sum() / gaps.square().sum())
