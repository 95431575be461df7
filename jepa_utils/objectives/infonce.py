"""InfoNCE, and the two things that it asks for: alignment and uniformity.

InfoNCE tells the right partner from the wrong ones.

With unit vectors q_i and k_j, temperature tau and partners on the diagonal::

    loss = -mean_i log( exp(q_i . k_i / tau) / sum_j exp(q_i . k_j / tau) )
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jepa_utils.objectives._checks import (
    check_differentiated_once,
    check_pair,
    check_positive,
    check_positives,
    check_rows,
)
from jepa_utils.objectives._distributed import gather, join, total

__all__ = ["InfoNCE", "alignment", "info_nce", "uniformity"]

# Logits formed at once: the memory bound, and small enough to stay near the cores of a CPU.
_CHUNK = 2**20


def _normalised(name: str, x: Tensor) -> Tensor:
    # out first: squares of very long or short vectors leave the range
    size = x.detach().abs().amax(dim=1, keepdim=True)
    least = torch.finfo(x.dtype).tiny  # the gradient of a shorter one overflows
    if (size < least).any():
        zeros = int((size < least).sum())
        raise ValueError(
            f"{name} must have no zero vector, nor one with all numbers below {least:.2g}, "
            f"got {zeros} of {len(x)}"
        )
    x = x / size
    return x / torch.linalg.vector_norm(x, dim=1, keepdim=True)


def _normalised_pair(
    first: Tensor, second: Tensor, names: tuple[str, str], **checks
) -> dict[str, Tensor]:
    pair = check_pair(first, second, names, **checks)
    with torch.autocast(pair[0].device.type, enabled=False):
        return {name: _normalised(name, x) for name, x in zip(names, pair, strict=True)}


def _check_temperature(temperature: float | Tensor) -> float:
    number = (
        temperature.item()
        if isinstance(temperature, Tensor) and temperature.numel() == 1
        else temperature
    )
    check_positive("temperature", number)
    least = torch.finfo(torch.float32).tiny  # to divide by less overflows
    if number < least:
        raise ValueError(f"temperature must be at least {least:.2g}, got {number!r}")
    return float(number)


def _one_partner_(logits: Tensor, partners: Tensor, gradient: bool) -> Tensor:
    """Loss (n,) of each row of logits (n, M), where row i's partner is column partners[i].

    The logits come back as the gradient of the summed losses where `gradient`, and as scratch
    otherwise."""
    rows = torch.arange(len(logits), device=logits.device)
    largest = logits.amax(dim=1, keepdim=True)
    own = logits[rows, partners] - largest.squeeze(1)
    total = logits.sub_(largest).exp_().sum(dim=1, keepdim=True)
    if gradient:
        logits.div_(total)
        logits[rows, partners] -= 1
    return total.squeeze(1).log() - own


def _several_partners_(logits: Tensor, positives: Tensor, gradient: bool) -> Tensor:
    """The same where row i has the partners positives[i].

    Each is told from the negatives alone, and a row's loss is their mean."""
    count = positives.sum(dim=1, keepdim=True)
    negatives = logits.masked_fill(positives, -math.inf)
    # -inf without any negative: loss and gradient are then 0
    total = negatives.logsumexp(dim=1, keepdim=True)
    losses = -F.logsigmoid(logits - total).masked_fill(~positives, 0) / count
    if gradient:
        pull = torch.sigmoid(total - logits).masked_fill(~positives, 0) / count
        push = (negatives - total).exp() * pull.sum(dim=1, keepdim=True)
        logits.copy_(torch.where(positives, -pull, push))
    return losses.sum(dim=1)


class _CrossEntropy(torch.autograd.Function):
    """Loss of the rows of ``queries @ keys.T``, summed and divided by `count`.

    They are formed some at a time, and only the gradients kept, (N, D) and (M, D). Row i's partner
    is column first + i, or those in positives (N, M).
    """

    @staticmethod
    def forward(
        ctx, queries: Tensor, keys: Tensor, positives: Tensor | None, first: int, count: int
    ) -> Tensor:
        n, gradient = len(queries), any(ctx.needs_input_grad)
        losses = queries.new_empty(n)
        to_queries, to_keys = (
            torch.zeros_like(x) if need else None
            for x, need in zip((queries, keys), ctx.needs_input_grad)
        )
        rows = max(1, _CHUNK // len(keys))
        for start in range(0, n, rows):
            chunk = slice(start, min(start + rows, n))
            logits = queries[chunk] @ keys.T
            if positives is None:
                partners = torch.arange(
                    first + chunk.start, first + chunk.stop, device=logits.device
                )
                losses[chunk] = _one_partner_(logits, partners, gradient)
            else:
                losses[chunk] = _several_partners_(logits, positives[chunk], gradient)
            if to_queries is not None:
                torch.mm(logits, keys, out=to_queries[chunk])
            if to_keys is not None:
                to_keys.addmm_(logits.T, queries[chunk])
        ctx.save_for_backward(to_queries, to_keys)
        ctx.count = count
        return losses.mean() if n == count else losses.sum() / count

    @staticmethod
    def backward(ctx, grad_output: Tensor):
        check_differentiated_once("info_nce")
        share = grad_output / ctx.count
        return (
            *(None if gradient is None else gradient * share for gradient in ctx.saved_tensors),
            None,
            None,
            None,
        )


def info_nce(
    queries: Tensor,
    keys: Tensor,
    *,
    temperature: float | Tensor = 0.07,
    symmetric: bool = True,
    positives: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of finding each query's partner among all keys, by cosine similarity.

    Parameters
    ----------
    queries : Tensor, shape (N, D)
        Of any length but 0: they are normalised here.
    keys : Tensor, shape (N, D)
        Row i is the partner of query i. With `positives` there may be another number of them, (M,
        D).
    temperature : float or scalar Tensor, default 0.07
        Divides the cosines; a tensor may be learned.
    symmetric : bool, default True
        Average with the loss of finding each key's query.
    positives : Tensor of bool, shape (N, M), optional
        Which keys are partners of which query, where there are several. Each partner then competes
        with the non-partners alone, and a query's loss is the mean over its partners.

    Returns
    -------
    Tensor, scalar
        In nats: 0 at best; log N for a query whose keys are all equal.

    Raises
    ------
    TypeError
        If queries or keys are no floating-point tensors.
    ValueError
        If shapes do not fit, a vector is 0, NaN or infinite, `temperature` is not positive, or
        `positives` leaves a query (or key, where `symmetric`) without a partner.

    Notes
    -----
    Distributed runs follow the convention of `sigreg`: the queries and keys of all processes
    compete. `positives` then has a row for each query of this process and a column for each key of
    all of them, in the order of their ranks.

    No N x M array of numbers is formed: logits live for some rows at a time. It can be
    differentiated once: ``create_graph=True`` is a RuntimeError.

    References
    ----------
    van den Oord, Li and Vinyals, "Representation Learning with Contrastive Predictive Coding",
    arXiv 1807.03748, equation 4; several positives: each against the negatives alone, a choice of
    this book.
    """

    def check(at_least: int):
        pair = _normalised_pair(
            queries, keys, ("queries", "keys"), at_least=at_least, same_length=positives is None
        )
        settings = {"temperature": _check_temperature(temperature), "symmetric": symmetric}
        if positives is not None:
            n, m = (len(x) for x in pair.values())
            check_positives(positives, n, m if at_least else None, pair["queries"].device)
            settings["columns of positives"] = positives.shape[1]
        return pair, settings

    (q, k), groups = join(check)
    backward = None if positives is None else _read_backward(positives, groups, len(k), symmetric)
    if isinstance(temperature, Tensor):
        temperature = temperature.reshape(()).to(q.device)  # without axes it promotes no dtype
    with torch.autocast(q.device.type, enabled=False):
        loss = _one_way(q, k, groups, temperature, positives)
        if symmetric:
            loss = (loss + _one_way(k, q, groups[::-1], temperature, backward)) / 2
        return total(loss, groups[0])


info_nce.distributed = True


def _one_way(queries, keys, groups, temperature, positives) -> Tensor:
    """This rank's share of the loss of finding the partners of queries among the keys of all."""
    ours, theirs = groups
    if ours is None:
        return _CrossEntropy.apply(queries, keys / temperature, positives, 0, len(queries))
    keys = gather(keys, theirs)
    return _CrossEntropy.apply(queries / temperature, keys, positives, ours.first, ours.total)


def _read_backward(positives: Tensor, groups, keys: int, symmetric: bool) -> Tensor | None:
    """The relation from this rank's keys to the queries of all ranks, where `symmetric`."""
    ours, theirs = groups
    if theirs is not None and positives.shape[1] != theirs.total:  # the same number on all ranks
        raise ValueError(
            f"positives must have a column for each key of all ranks, {theirs.total}, "
            f"got {positives.shape[1]}"
        )
    if not symmetric:
        return None
    if ours is not None:
        positives = gather(positives.to(torch.uint8), ours).bool()
    if not positives.any(dim=0).all():
        raise ValueError("positives must name a partner of every query and key, got one without")
    first = 0 if theirs is None else theirs.first
    return positives[:, first : first + keys].T


class InfoNCE(nn.Module):
    """`info_nce` as a module, with a fixed or a learned temperature.

    Parameters
    ----------
    temperature : float, default 0.07
        Where it starts, or stays.
    learn_temperature : bool, default False
        Make its logarithm a parameter.
    symmetric : bool, default True
        See `info_nce`.
    """

    distributed = True

    def __init__(
        self, temperature: float = 0.07, *, learn_temperature: bool = False, symmetric: bool = True
    ):
        super().__init__()
        _check_temperature(temperature)
        log = torch.tensor(math.log(temperature))
        if learn_temperature:
            self.log_temperature = nn.Parameter(log)
        else:
            self.register_buffer("log_temperature", log)
        self.symmetric = symmetric

    def forward(self, queries: Tensor, keys: Tensor, *, positives: Tensor | None = None) -> Tensor:
        """Two batches (N, D) to a scalar; arguments and errors as for `info_nce`."""
        temperature = self.log_temperature.exp()
        return info_nce(
            queries, keys, temperature=temperature, symmetric=self.symmetric, positives=positives
        )

    def extra_repr(self) -> str:
        return f"temperature={self.log_temperature.exp().item():.4g}, symmetric={self.symmetric}"


def alignment(first: Tensor, second: Tensor, *, power: float = 2.0) -> Tensor:
    """How far partners lie apart on the unit sphere: the mean of ``|first_i - second_i| ** power``.

    Parameters
    ----------
    first, second : Tensor, shape (N, D)
        Partners, row by row; normalised here.
    power : float, default 2.0
        Exponent. Below 2 the gradient is undefined where partners coincide.

    Returns
    -------
    Tensor, scalar
        0 where all partners coincide; with power 2, 2 for unrelated and 4 for opposite directions.

    Raises
    ------
    TypeError, ValueError
        As `info_nce`; also if `power` is not positive.

    References
    ----------
    Wang and Isola, "Understanding Contrastive Representation Learning through Alignment and
    Uniformity on the Hypersphere", ICML 2020, arXiv 2005.10242.
    """

    def check(at_least: int):
        check_positive("power", power)
        pair = _normalised_pair(first, second, ("first", "second"), at_least=at_least)
        return pair, {"power": power}

    (x, y), (group, _) = join(check)
    distances = (x - y).square().sum(dim=1).pow(float(power) / 2)
    return distances.mean() if group is None else total(distances.sum(), group) / group.total


alignment.distributed = True


def uniformity(embeddings: Tensor, *, t: float = 2.0) -> Tensor:
    """How evenly directions cover the sphere: ``log mean_{i<j} exp(-t |x_i - x_j|**2)``.

    Parameters
    ----------
    embeddings : Tensor, shape (N, D)
        Normalised here.
    t : float, default 2.0
        Sharpness of the kernel.

    Returns
    -------
    Tensor, scalar
        0 where all directions are equal, more negative the more evenly they are spread.

    Raises
    ------
    TypeError
        If `embeddings` is no floating-point tensor.
    ValueError
        If it is not (N, D) with N >= 2, holds a zero vector, NaN or infinity, or if `t` is not
        positive.

    References
    ----------
    Wang and Isola, arXiv 2005.10242.
    """

    def check(at_least: int):
        check_positive("t", t)
        x = check_rows("embeddings", embeddings, at_least=at_least)
        return {"embeddings": _normalised("embeddings", x)}, {"t": t}

    (x,), (group,) = join(check)
    distances = torch.pdist(gather(x, group)).square()  # (N (N - 1) / 2,)
    return (-float(t) * distances).logsumexp(dim=0) - math.log(len(distances))


uniformity.distributed = True
