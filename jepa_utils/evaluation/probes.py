"""Probes of frozen embeddings, for regression and classes: a line, or the nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

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
        Real numbers (ridge regression, R²) or integers (logistic regression, accuracy).
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
        If shapes do not fit, features hold NaN or infinity, there are too few samples to split, or
        `strengths` is empty.

    Notes
    -----
    Standardising makes the probe blind to scale: a cloud as small as rounding allows is read as
    well as a large one.
    """
    if len(strengths) == 0 or min(strengths) <= 0:
        raise ValueError(f"strengths must hold positive numbers, got {strengths}")

    # Where embeddings are correlated and the penalty is weak, lbfgs gives up after its thousand
    # steps, far from the optimum.
    small = features.shape[-1] * len(set(targets.flatten().tolist())) <= SMALL
    solver = "newton-cholesky" if small else "lbfgs"

    def model(strength: float, classes: bool) -> BaseEstimator:
        head = (
            LogisticRegression(C=1 / strength, max_iter=1000, solver=solver)
            if classes
            else Ridge(alpha=strength)
        )
        return make_pipeline(StandardScaler(), head)

    return _probe(
        model, strengths, features, targets, test_features, test_targets, validation, seed
    )


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

    Distances are Euclidean between features as they are. The number of neighbours is the one that
    does best on a part of the training data.

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
        As `linear_probe`; also if a number of neighbours is below 1 or more than there are samples
        to fit on.
    """
    if len(neighbours) == 0 or min(neighbours) < 1:
        raise ValueError(f"neighbours must hold numbers of at least 1, got {neighbours}")

    def model(count: int, classes: bool) -> BaseEstimator:
        return (KNeighborsClassifier if classes else KNeighborsRegressor)(n_neighbors=count)

    return _probe(
        model, neighbours, features, targets, test_features, test_targets, validation, seed
    )


def _probe(
    model, settings, features, targets, test_features, test_targets, validation, seed
) -> Probe:
    x, y = _check("features", features, "targets", targets)
    test_x, test_y = _check("test_features", test_features, "test_targets", test_targets)
    if x.shape[1] != test_x.shape[1]:
        raise ValueError(
            f"features and test_features must have equally many columns, "
            f"got {x.shape} and {test_x.shape}"
        )
    if not 0 < validation < 1 or not 2 <= round(validation * len(x)) <= len(x) - 2:
        raise ValueError(
            f"validation must leave 2 samples on either side, got {validation} of {len(x)}"
        )
    classes = not np.issubdtype(y.dtype, np.floating)
    best = settings[0]
    if len(settings) > 1:
        fit_x, val_x, fit_y, val_y = train_test_split(x, y, test_size=validation, random_state=seed)
        best = max(
            settings,
            key=lambda setting: model(setting, classes).fit(fit_x, fit_y).score(val_x, val_y),
        )
    fitted = model(best, classes).fit(x, y)
    return Probe(
        score=float(fitted.score(test_x, test_y)),
        predictions=fitted.predict(test_x),
        setting=float(best),
    )


def _check(
    name: str, features: Tensor, target_name: str, targets: Tensor
) -> tuple[np.ndarray, np.ndarray]:
    x = features.detach().cpu().double().numpy()
    y = targets.detach().cpu().numpy()
    if x.ndim != 2 or y.ndim != 1 or len(x) != len(y):
        raise ValueError(
            f"{name} must have shape (N, D) and {target_name} (N,), "
            f"got {tuple(features.shape)} and {tuple(targets.shape)}"
        )
    if not np.isfinite(x).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return x, y
