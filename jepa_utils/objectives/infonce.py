"""InfoNCE: tell the right partner from the wrong ones; and the two things it asks for, alignment and uniformity.

With unit vectors q_i and k_j, temperature tau and partners on the diagonal::

    loss = -mean_i log( exp(q_i . k_i / tau) / sum_j exp(q_i . k_j / tau) )
"""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather
from torch.nn import functional as F

from jepa_utils.objectives._checks import check_pair, check_points, check_positives
from jepa_utils.objectives._distributed import BatchGroup

__all__ = ["InfoNCE", "alignment", "info_nce", "uniformity"]

# Logits formed at once: the memory bound, and small enough to stay near the cores of a CPU.
_CHUNK = 2**20


def _normalised(name: str, x: Tensor) -> Tensor:
    size = (
        x.detach().abs().amax(dim=1, keepdim=True)
    )  # out first: squares of very long or short vectors leave the range
    if (size == 0).any():
        raise ValueError(
            f"{name} must have no zero vector, which has no direction, got {int((size == 0).sum())} of {len(x)}"
        )
    x = x / size
    return x / torch.linalg.vector_norm(x, dim=1, keepdim=True)


def _check_temperature(temperature: float | Tensor) -> None:
    number = (
        temperature.item()
        if isinstance(temperature, Tensor) and temperature.numel() == 1
        else temperature
    )
    if (
        isinstance(number, bool)
        or not isinstance(number, (int, float))
        or not 0 < number < math.inf
    ):
        raise ValueError(f"temperature must be a positive finite number, got {temperature!r}")


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
    """The same where row i has the partners positives[i], each against the negatives alone; a row's loss is their mean."""
    count = positives.sum(dim=1, keepdim=True)
    negatives = logits.masked_fill(positives, -math.inf)
    total = negatives.logsumexp(
        dim=1, keepdim=True
    )  # -inf without any negative: loss and gradient are then 0
    losses = -F.logsigmoid(logits - total).masked_fill(~positives, 0) / count
    if gradient:
        pull = torch.sigmoid(total - logits).masked_fill(~positives, 0) / count
        push = (negatives - total).exp() * pull.sum(dim=1, keepdim=True)
        logits.copy_(torch.where(positives, -pull, push))
    return losses.sum(dim=1)


class _CrossEntropy(torch.autograd.Function):
    """Mean loss of the rows of ``queries @ keys.T``, formed some at a time; keeps only the gradients, (N, D) and (M, D).

    Row i's partner is column first + i, or those in positives (N, M).
    """

    @staticmethod
    def forward(ctx, queries: Tensor, keys: Tensor, positives: Tensor | None, first: int) -> Tensor:
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
        ctx.n = n
        return losses.mean()

    @staticmethod
    def backward(ctx, grad_output: Tensor):
        # torch's once_differentiable would let this pass, and the second gradient be wrong:
        # grad_output is a constant here
        if torch.is_grad_enabled():
            raise RuntimeError(
                "info_nce can be differentiated once, not twice: create_graph must be False, got True"
            )
        share = grad_output / ctx.n
        return (
            *(None if gradient is None else gradient * share for gradient in ctx.saved_tensors),
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
    ----- In a distributed run the keys (and queries) of all processes compete; every process must
    bring equally many, and `positives` is not available. Each process gets the loss of its own
    rows.

    No N x M array of numbers is formed: logits live for some rows at a time. It can be
    differentiated once: ``create_graph=True`` is a RuntimeError.

    References
    ---------- van den Oord, Li and Vinyals, "Representation Learning with Contrastive Predictive
    Coding", arXiv 1807.03748, equation 4; several positives: each against the negatives alone, a
    choice of this book."""
    queries, keys = check_pair(queries, keys, ("queries", "keys"), same_length=positives is None)
    _check_temperature(temperature)
    if isinstance(temperature, Tensor):
        temperature = temperature.reshape(())  # without axes it promotes no dtype
    if positives is not None:
        check_positives(positives, (len(queries), len(keys)), symmetric=symmetric)
    with torch.autocast(queries.device.type, enabled=False):
        queries, keys = _normalised("queries", queries), _normalised("keys", keys)
        group = BatchGroup.of(len(queries), queries.device)
        if group is None:
            loss = _CrossEntropy.apply(queries, keys / temperature, positives, 0)
            if symmetric:
                positives = None if positives is None else positives.T
                loss = (loss + _CrossEntropy.apply(keys, queries / temperature, positives, 0)) / 2
            return loss
        if positives is not None:
            raise ValueError("positives must be None in a distributed run, got a tensor")
        if group.largest * group.ranks != group.total:
            raise ValueError(
                f"queries must be equally many on every process, got {len(queries)} here of {group.total} on {group.ranks}"
            )
        first = dist.get_rank() * len(queries)
        all_keys = torch.cat(all_gather(keys))  # its backward sums over processes
        loss = _CrossEntropy.apply(queries / temperature, all_keys, None, first)
        if symmetric:
            all_queries = torch.cat(all_gather(queries))
            loss = (loss + _CrossEntropy.apply(keys / temperature, all_queries, None, first)) / 2
        return loss


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
    ---------- Wang and Isola, "Understanding Contrastive Representation Learning through Alignment
    and Uniformity on the Hypersphere", ICML 2020, arXiv 2005.10242."""
    first, second = check_pair(first, second, ("first", "second"))
    if isinstance(power, bool) or not 0 < power < math.inf:
        raise ValueError(f"power must be a positive finite number, got {power!r}")
    gap = _normalised("first", first) - _normalised("second", second)
    return gap.square().sum(dim=1).pow(power / 2).mean()


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
    x = check_points("embeddings", embeddings, wants="(N, D)", min_dim=2, count_axis=0)
    if x.dim() != 2:
        raise ValueError(f"embeddings must have shape (N, D), got {tuple(x.shape)}")
    if isinstance(t, bool) or not 0 < t < math.inf:
        raise ValueError(f"t must be a positive finite number, got {t!r}")
    distances = torch.pdist(_normalised("embeddings", x)).square()  # (N (N - 1) / 2,)
    return (-t * distances).logsumexp(dim=0) - math.log(len(distances))
