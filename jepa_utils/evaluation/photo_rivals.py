"""Ways to find a photograph by a sentence without training a network on the pairs.

Photographs as gradients and colours, or as codes of patches; sentences as counts of words; and
canonical correlations between the two.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from jepa_utils.evaluation.retrieval import recall_at_k

__all__ = [
    "CCA",
    "fit_cca",
    "gradients_and_colours",
    "gradients_and_colours_of_places",
    "patch_codes",
    "word_counts",
]

ORIENTATIONS = 9


@dataclass(frozen=True)
class CCA:
    """Two linear maps into one space, in which partners correlate most.

    Attributes
    ----------
    pictures, sentences : tuple of Tensor
        Mean (D,) and map (D, E) of each side.
    setting : dict
        What the pictures held out chose.
    """

    pictures: tuple[Tensor, Tensor]
    sentences: tuple[Tensor, Tensor]
    setting: dict[str, object]

    def embed_pictures(self, features: Tensor) -> Tensor:
        """Features (N, D) to embeddings (N, E)."""
        mean, weights = self.pictures
        return (features - mean) @ weights

    def embed_sentences(self, counts: Tensor) -> Tensor:
        """Counts (M, V) to embeddings (M, E)."""
        mean, weights = self.sentences
        return (counts - mean) @ weights

    def recalls(self, features: Tensor, counts: Tensor) -> dict[str, float]:
        """Recall at 1, 5 and 10 of C sentences for each of N photographs, both ways.

        Parameters
        ----------
        features : Tensor, shape (N, D)
        counts : Tensor, shape (N, C, V)
            Of the sentences of each photograph.
        """
        pictures = self.embed_pictures(features)
        lines = self.embed_sentences(counts.flatten(0, 1))
        rows = torch.arange(len(counts))
        own = rows.unsqueeze(1) == rows.repeat_interleave(counts.shape[1])  # (N, N C)
        ways = {
            "text to image": recall_at_k(lines, pictures, positives=own.T),
            "image to text": recall_at_k(pictures, lines, positives=own),
        }
        return {f"{way} @{k}": share for way, found in ways.items() for k, share in found.items()}


def fit_cca(
    features: Tensor,
    counts: Tensor,
    held_out: tuple[Tensor, Tensor],
    *,
    ridges: Sequence[float] = (0.03, 0.3, 3.0),
    dimensions: Sequence[int] = (64, 128),
    powers: Sequence[float] = (1.0, 2.0),
    components: int = 500,
    seed: int = 0,
) -> CCA:
    """Ridge-regularised canonical correlation analysis of pictures and their texts.

    Each side is first reduced to its leading principal components. Directions are weighted by
    a power of their correlation, which serves search better than equal weights. Of all settings
    the one is taken by which the sentences held out find most of their pictures (recall@10).

    Parameters
    ----------
    features : Tensor, shape (N, D)
        Of pictures.
    counts : Tensor, shape (N, V)
        Of all words said of each.
    held_out : tuple of Tensor, shapes (M, D) and (M, C, V)
        Other pictures, and the counts of each of their C sentences.
    ridges : sequence of float
        Positive; of each side, in units of its mean variance, added to its covariance.
    dimensions : sequence of int
        Canonical directions kept; fewer where a side has fewer.
    powers : sequence of float
        Of the correlations as weights.
    components : int, default 500
        Principal components of each side, at most.
    seed : int, default 0
        Of their randomised computation.

    Returns
    -------
    CCA

    Raises
    ------
    ValueError
        If shapes do not fit, a ridge is not positive, or there is nothing to choose from.

    References
    ----------
    Hardoon et al., "Canonical correlation analysis: an overview with application to learning
    methods" (2004); for the power, Gong et al., arXiv 1212.4522.
    """
    if features.dim() != 2 or counts.dim() != 2 or len(features) != len(counts):
        raise ValueError(
            f"features must be (N, D) and counts (N, V), got {tuple(features.shape)} and "
            f"{tuple(counts.shape)}"
        )
    if not ridges or min(ridges) <= 0:
        raise ValueError(f"ridges must be positive, one at least, got {ridges}")
    others, new = held_out
    if others.dim() != 2 or new.dim() != 3 or len(others) != len(new):
        raise ValueError(
            f"held_out must be (M, D) and (M, C, V), got {tuple(others.shape)} and "
            f"{tuple(new.shape)}"
        )
    if others.shape[1] != features.shape[1] or new.shape[2] != counts.shape[1]:
        raise ValueError(
            f"held_out must be as wide as features and counts, {features.shape[1]} and "
            f"{counts.shape[1]}, got {others.shape[1]} and {new.shape[2]}"
        )
    if not dimensions or not powers:
        raise ValueError(
            f"dimensions and powers must be one at least, got {dimensions} and {powers}"
        )
    pictures, sentences = (_Side(x, components, seed) for x in (features, counts))
    best, most = None, -1.0
    for ridge, other in itertools.product(ridges, ridges):
        left, right = pictures.whitening(ridge), sentences.whitening(other)
        shared = left.T @ (pictures.narrow.T @ sentences.narrow / len(features)) @ right
        u, correlations, v = torch.linalg.svd(shared, full_matrices=False)
        for count, power in itertools.product(dimensions, powers):
            weights = correlations[:count].clamp(max=1) ** power
            fitted = CCA(
                pictures.map(left @ (u[:, :count] * weights)),
                sentences.map(right @ (v.T[:, :count] * weights)),
                {"ridges": (ridge, other), "dimensions": count, "power": power},
            )
            found = fitted.recalls(*held_out)["text to image @10"]
            if found > most:
                best, most = fitted, found
    return best


class _Side:
    """Principal components of one side."""

    def __init__(self, x: Tensor, components: int, seed: int):
        self.mean = x.mean(dim=0)
        centred = x - self.mean
        count = min(components, *x.shape)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            _, _, basis = torch.svd_lowrank(centred, min(count + 20, *x.shape), niter=3)
        self.basis = basis[:, :count]  # (D, P)
        self.narrow = (centred @ self.basis).double()  # (N, P)
        self.covariance = self.narrow.T @ self.narrow / len(x)

    def whitening(self, ridge: float) -> Tensor:
        added = ridge * self.covariance.diagonal().mean()
        values, vectors = torch.linalg.eigh(self.covariance)
        return vectors * (values.clamp(min=0) + added).rsqrt() @ vectors.T

    def map(self, directions: Tensor) -> tuple[Tensor, Tensor]:
        return self.mean, self.basis @ directions.to(self.basis)


def word_counts(
    sentences: Sequence[Sequence[str]], others: Sequence[Sequence[str]], *, min_count: int = 3
) -> tuple[Tensor, Tensor]:
    """TF-IDF vectors of sentences, and of others by the same words and frequencies.

    Parameters
    ----------
    sentences, others : sequence of sequences of str
        C sentences of each photograph; the first argument's make vocabulary and frequencies.
    min_count : int, default 3
        Sentences in which a word must occur.

    Returns
    -------
    tuple of Tensor, shapes (N, C, V) and (M, C, V)
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    counter = TfidfVectorizer(min_df=min_count, sublinear_tf=True)
    counter.fit([line for row in sentences for line in row])
    both = []
    for rows in (sentences, others):
        table = counter.transform([line for row in rows for line in row])
        both.append(torch.from_numpy(table.toarray()).float().unflatten(0, (len(rows), -1)))
    return both[0], both[1]


def gradients_and_colours(photographs: Tensor, *, cells: int = 12) -> Tensor:
    """Histograms of oriented gradients, and means and deviations of colour, without any learning.

    Both kinds are scaled by their spread over the photographs given: give those together that are
    to be compared.

    Parameters
    ----------
    photographs : Tensor of uint8, shape (N, 3, S, S)
        Two or more; square; S divisible by `cells`.
    cells : int, default 12
        Cells in a row, even. Of each, 9 orientations; blocks of 2 x 2 cells are normalised
        together.

    Returns
    -------
    Tensor, shape (N, D)
        D = 36 (cells - 1)^2 + 6 (cells / 2)^2; colours count twice.

    Raises
    ------
    ValueError
        If photographs are fewer than two, or no square images of uint8 whose side is divisible by
        `cells`, or `cells` is odd.

    References
    ----------
    Dalal and Triggs, "Histograms of oriented gradients for human detection" (2005).
    """
    if cells < 2 or cells % 2:
        raise ValueError(f"cells must be even, got {cells}")
    _check_photographs(photographs, cells)
    if len(photographs) < 2:
        raise ValueError(f"photographs must be two at least, got {len(photographs)}")
    parts = [_described(part / 255, cells) for part in photographs.split(500)]
    shapes, colours = (torch.cat(part) for part in zip(*parts, strict=True))
    blocks = F.unfold(shapes, 2)  # (N, 4 * 9, (cells - 1)^2)
    shapes = F.normalize(blocks, dim=1).clamp(max=0.2).flatten(1)
    colours = colours.flatten(1)
    spread = [x.var(dim=0).sum().sqrt().clamp(min=1e-6) for x in (shapes, colours)]
    return torch.cat([shapes / spread[0], 2 * colours / spread[1]], dim=1)


def gradients_and_colours_of_places(photographs: Tensor, *, grid: int = 4) -> Tensor:
    """The same for each place of a grid by itself, to stand beside a network's tokens.

    Parameters
    ----------
    photographs : Tensor of uint8, shape (N, 3, S, S)
        Square; S divisible by three times the grid.
    grid : int, default 4
        Places in a row.

    Returns
    -------
    Tensor, shape (N, grid^2, 87)
        81 numbers of gradients, of 3 x 3 cells, and means and deviations of three colours.

    Raises
    ------
    ValueError
        If photographs are no square images of uint8 whose side three times the grid divides.
    """
    _check_photographs(photographs, 3 * grid)
    results = []
    for part in photographs.split(500):
        shapes, _ = _described(part / 255, 3 * grid)
        cells = F.unfold(shapes, 3, stride=3)  # (N, 9 * 9, grid^2)
        means = F.adaptive_avg_pool2d(part / 255, grid)
        squares = F.adaptive_avg_pool2d((part / 255).square(), grid)
        colours = torch.cat([means - 0.5, (squares - means.square()).clamp(min=0).sqrt()], dim=1)
        results.append(torch.cat([F.normalize(cells, dim=1), colours.flatten(2)], dim=1).mT)
    return torch.cat(results)


def _check_photographs(photographs: Tensor, cells: int) -> None:
    side = photographs.shape[-1] if photographs.dim() == 4 else 0
    if photographs.shape[1:] != (3, side, side) or photographs.dtype != torch.uint8 or not side:
        raise ValueError(
            f"photographs must be uint8 of shape (N, 3, S, S), got {tuple(photographs.shape)} of "
            f"{photographs.dtype}"
        )
    if side % cells:
        raise ValueError(f"photographs must have a side that {cells} cells divide, got {side}")


def _described(images: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """Gradients (N, 9, cells, cells), and colours (N, 6, cells / 2, cells / 2)."""
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    across = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    down = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    size = across.square() + down.square()
    strongest = size.argmax(dim=1, keepdim=True)  # of the three colours
    across, down = (x.gather(1, strongest).squeeze(1) for x in (across, down))
    angle = torch.atan2(down, across).remainder(torch.pi) / torch.pi * ORIENTATIONS
    low = angle.floor()
    share, low = angle - low, low.long() % ORIENTATIONS  # (N, S, S)
    strength = torch.hypot(across, down)
    bins = images.new_zeros(len(images), ORIENTATIONS, *strength.shape[1:])
    bins.scatter_(1, low.unsqueeze(1), (strength * (1 - share)).unsqueeze(1))
    bins.scatter_add_(1, ((low + 1) % ORIENTATIONS).unsqueeze(1), (strength * share).unsqueeze(1))
    means = F.adaptive_avg_pool2d(images, cells // 2)
    squares = F.adaptive_avg_pool2d(images.square(), cells // 2)
    deviations = (squares - means.square()).clamp(min=0).sqrt()
    return F.adaptive_avg_pool2d(bins, cells), torch.cat([means, deviations], dim=1)


@torch.no_grad()
def patch_codes(
    photographs: Tensor,
    others: Sequence[Tensor],
    *,
    centres: int = 800,
    patch: int = 6,
    grid: int = 4,
    seed: int = 0,
) -> list[Tensor]:
    """Which of many typical patches lie where: k-means on whitened patches, no network.

    Each patch is contrast-normalised and whitened; a photograph's code says how near its patches
    come to each centre, beyond the mean of all centres ("triangle"), averaged over a grid.

    Parameters
    ----------
    photographs : Tensor of uint8, shape (N, 3, S, S)
        On these the centres are found.
    others : sequence of Tensor of uint8, shape (M, 3, S, S)
        To be coded; the first argument is not, unless it is among them.
    centres : int, default 800
        K.
    patch : int, default 6
        Side of a patch in pixels.
    grid : int, default 4
        Rows and columns over which codes are averaged.
    seed : int, default 0
        Of the patches drawn and of k-means.

    Returns
    -------
    list of Tensor, shape (M, K * grid^2)

    References
    ----------
    Coates, Lee and Ng, "An analysis of single-layer networks in unsupervised feature learning"
    (2011).
    """
    from sklearn.cluster import MiniBatchKMeans

    draw = torch.Generator().manual_seed(seed)
    count = min(len(photographs), 4000)
    chosen = photographs[torch.randperm(len(photographs), generator=draw)[:count]]
    places = F.unfold(chosen[:, :, ::1, ::1].float(), patch, stride=patch)  # (N, C, P)
    patches = places.transpose(1, 2).flatten(0, 1)
    patches = patches[torch.randperm(len(patches), generator=draw)[:100_000]]
    patches = _contrast(patches)
    mean = patches.mean(dim=0)
    values, vectors = torch.linalg.eigh(torch.cov(patches.T))
    whiten = vectors * (values + 0.1).rsqrt() @ vectors.T
    words = MiniBatchKMeans(centres, batch_size=4096, n_init=1, max_iter=30, random_state=seed)
    words.fit(((patches - mean) @ whiten).numpy())
    known = torch.from_numpy(words.cluster_centers_).float()
    return [
        torch.cat([_coded(part, known, mean, whiten, patch, grid) for part in images.split(20)])
        for images in others
    ]


def _contrast(patches: Tensor) -> Tensor:
    centred = patches - patches.mean(dim=1, keepdim=True)
    return centred / (patches.var(dim=1, keepdim=True) + 10).sqrt()


def _coded(
    images: Tensor, known: Tensor, mean: Tensor, whiten: Tensor, patch: int, grid: int
) -> Tensor:
    places = F.unfold(images.float(), patch, stride=2)  # (B, C, P)
    side = round(places.shape[2] ** 0.5)
    rows = (_contrast(places.transpose(1, 2).flatten(0, 1)) - mean) @ whiten
    distances = torch.cdist(rows, known)
    near = (distances.mean(dim=1, keepdim=True) - distances).clamp(min=0)
    maps = near.view(len(images), side, side, -1).permute(0, 3, 1, 2)
    return F.adaptive_avg_pool2d(maps, grid).flatten(1)
