"""Probes of frozen embeddings, for regression and classes: a line, or the nearest neighbours."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from jepa_utils.arguments import check_count
from jepa_utils.evaluation._arrays import as_numbers
from jepa_utils.evaluation.neighbours import CHUNK, shared_places

__all__ = ["Probe", "knn_probe", "linear_probe"]

STRENGTHS = tuple(
    10.0 ** np.arange(-4, 4)
)  # of the ridge penalty, or the inverse one of logistic regression
NEIGHBOURS = (1, 5, 20, 50)
# unknowns of a logistic regression (dimensions times classes) for which Newton's method is quick
SMALL = 4000


@dataclass(frozen=True)
class Probe:
    """What a probe found.

    Attributes
    ----------
    score : float
        On the test data: R² for real targets, accuracy for classes.
    predictions : array, shape (M,)
        For the test data.
    setting : float
        Strength of the penalty, or number of neighbours, that the validation part chose.
    """

    score: float
    predictions: np.ndarray
    setting: float


def linear_probe(
    features: Tensor,
    targets: Tensor,
    test_features: Tensor,
    test_targets: Tensor,
    *,
    strengths: Sequence[float] = STRENGTHS,
    validation: float = 0.2,
    seed: int = 0,
) -> Probe:
    """Read a target from frozen embeddings with a linear model.

    Features are standardised with the training data's mean and standard deviation. The penalty is
    the one that does best on a part of the training data; the model is then fitted to all of it and
    scored on the test data, once.

    Parameters
    ----------
    features : Tensor, shape (N, D)
        Embeddings to fit on.
    targets : Tensor, shape (N,)
        Real numbers (ridge regression, R²) or integers (logistic regression, accuracy), of two
        classes at least.
    test_features, test_targets : Tensor, shapes (M, D) and (M,)
        Data that nothing was trained or chosen on.
    strengths : sequence of float
        Penalties to choose from: of ridge regression on N samples, or 1 / C of logistic regression.
    validation : float, default 0.2
        Share of the training data that chooses.
    seed : int, default 0
        Of that split.

    Returns
    -------
    Probe

    Raises
    ------
    ValueError
        If shapes do not fit, a number is NaN or infinite, there are too few samples to split or to
        score, all samples to fit on are of one class, or `strengths` is empty.

    Notes
    -----
    Standardising makes the probe blind to scale: a cloud as small as rounding allows is read as
    well as a large one.
    """
    if len(strengths) == 0 or not all(0 < strength < np.inf for strength in strengths):
        raise ValueError(f"strengths must hold positive numbers, got {strengths}")
    data = _check(features, targets, test_features, test_targets)
    # Standardising undoes it, and a power of two rounds nothing: squares stay in range.
    down = -np.frexp(np.abs(data.x).max(axis=0))[1]
    data = replace(data, x=np.ldexp(data.x, down), test_x=np.ldexp(data.test_x, down))

    # Where embeddings are correlated and the penalty is weak, lbfgs gives up after its thousand
    # steps, far from the optimum.
    small = data.x.shape[1] * len(np.unique(data.y)) <= SMALL
    solver = "newton-cholesky" if small else "lbfgs"

    def model(strength: float) -> BaseEstimator:
        head = (
            LogisticRegression(C=1 / strength, max_iter=1000, solver=solver)
            if data.classes
            else Ridge(alpha=strength)
        )
        return make_pipeline(StandardScaler(), head)

    return _probe(model, strengths, data, validation, seed, fewest=2)


def knn_probe(
    features: Tensor,
    targets: Tensor,
    test_features: Tensor,
    test_targets: Tensor,
    *,
    neighbours: Sequence[int] = NEIGHBOURS,
    validation: float = 0.2,
    seed: int = 0,
) -> Probe:
    """Read a target from the nearest embeddings: their mean, or their most frequent class.

    Distances are Euclidean between features as they are. Samples equally near share the places that
    they are tied for, and the lowest of equally frequent classes is taken. The number of neighbours
    is the one that does best on a part of the training data.

    Parameters
    ----------
    features, targets, test_features, test_targets, validation, seed
        See `linear_probe`.
    neighbours : sequence of int
        Numbers to choose from.

    Returns
    -------
    Probe

    Raises
    ------
    ValueError
        As `linear_probe`, but one class is enough; also if a number of neighbours is no integer
        from 1 to the number of samples to fit on.
    """
    if len(neighbours) == 0:
        raise ValueError(f"neighbours must hold numbers of at least 1, got {neighbours}")
    data = _check(features, targets, test_features, test_targets)
    count = len(data.x)
    if len(neighbours) > 1:
        _check_validation(validation, count)
        count -= math.ceil(validation * count)  # as train_test_split does
    neighbours = [
        check_count("neighbours", k, count, "the number of samples to fit on") for k in neighbours
    ]
    return _probe(partial(_Neighbours, classes=data.classes), neighbours, data, validation, seed)


class _Neighbours:
    """scikit-learn's nearest neighbours; ties for the last place do not hang on the rows' order."""

    def __init__(self, count: int, classes: bool):
        self.model = (KNeighborsClassifier if classes else KNeighborsRegressor)(n_neighbors=count)
        self.count, self.classes = count, classes

    def fit(self, x: np.ndarray, y: np.ndarray) -> _Neighbours:
        # divided by a power of two, which rounds nothing: squares stay in range
        self.exponent = int(np.frexp(np.abs(x).max())[1])
        self.x, self.y = np.ldexp(x, -self.exponent), y
        self.model.fit(self.x, y)
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        x = np.ldexp(x, -self.exponent)
        found = self.model.predict(x)
        if self.count == len(self.x):
            return found
        near = self.model.kneighbors(x, self.count + 1)[0][:, -2:] ** 2
        lengths = np.linalg.norm(x, axis=1)
        # As these distances come from products, what may be a tie is looked at more closely.
        maybe = near[:, 1] - near[:, 0] <= 1e-12 * (near[:, 1] + lengths**2)
        labels = np.unique(self.y)
        values = self.y[:, None] == labels if self.classes else self.y[:, None]  # (N, C) or (N, 1)
        rows = np.flatnonzero(maybe)
        for part in np.array_split(rows, 1 + len(rows) * len(self.x) // CHUNK):
            places = shared_places(cdist(x[part], self.x), lengths[part], self.count)
            total = places @ values.astype(np.float64)
            # shares of places are rounded, and must not decide between equally frequent classes
            best = labels[total.round(9).argmax(axis=1)]
            found[part] = best if self.classes else total[:, 0] / self.count
        return found


@dataclass(frozen=True)
class _Data:
    x: np.ndarray
    y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray

    @property
    def classes(self) -> bool:
        return self.y.dtype.kind != "f"


def _probe(
    model: Callable, settings: Sequence, data: _Data, validation: float, seed: int, fewest: int = 1
) -> Probe:
    x, y = data.x, data.y
    _check_validation(validation, len(x))
    score = accuracy_score if data.classes else r2_score

    def fit(setting: float, x: np.ndarray, y: np.ndarray) -> BaseEstimator:
        if data.classes and len(np.unique(y)) < fewest:
            raise ValueError(
                f"targets must be of at least {fewest} classes among the {len(y)} samples to fit "
                f"on, got only {y[0]}"
            )
        return model(setting).fit(x, y)

    best = settings[0]
    if len(settings) > 1:
        fit_x, val_x, fit_y, val_y = train_test_split(x, y, test_size=validation, random_state=seed)
        best = max(
            settings, key=lambda setting: score(val_y, fit(setting, fit_x, fit_y).predict(val_x))
        )
    predictions = fit(best, x, y).predict(data.test_x)
    return Probe(
        score=float(score(data.test_y, predictions)), predictions=predictions, setting=float(best)
    )


def _check_validation(validation: float, count: int) -> None:
    if not 0 < validation < 1 or not 2 <= round(validation * count) <= count - 2:
        raise ValueError(
            f"validation must leave 2 samples on either side, got {validation} of {count}"
        )


def _check(features: Tensor, targets: Tensor, test_features: Tensor, test_targets: Tensor) -> _Data:
    x, y = _check_pair("features", features, "targets", targets)
    test_x, test_y = _check_pair("test_features", test_features, "test_targets", test_targets)
    if min(x.shape) == 0:
        raise ValueError(f"features must hold a sample and a column at least, got {x.shape}")
    if x.shape[1] != test_x.shape[1]:
        raise ValueError(
            f"features and test_features must have equally many columns, "
            f"got {x.shape} and {test_x.shape}"
        )
    data = _Data(x, y, test_x, test_y)
    if data.classes and (test_y != np.rint(test_y)).any():
        raise ValueError("test_targets must be integers, as targets are, got real numbers")
    if len(test_y) < 2 - data.classes:
        raise ValueError(
            f"test_targets must hold {2 - data.classes} or more, got {len(test_y)}: "
            f"{'accuracy' if data.classes else 'R²'} needs as many"
        )
    return data


def _check_pair(
    name: str, features: Tensor, target_name: str, targets: Tensor
) -> tuple[np.ndarray, np.ndarray]:
    x, y = as_numbers(name, features).astype(np.float64), as_numbers(target_name, targets)
    if x.ndim != 2 or y.ndim != 1 or len(x) != len(y):
        raise ValueError(
            f"{name} must have shape (N, D) and {target_name} (N,), got {x.shape} and {y.shape}"
        )
    for label, numbers in ((name, x), (target_name, y)):
        if not np.isfinite(numbers).all():
            raise ValueError(f"{label} must be finite, got NaN or infinity")
    return x, y
