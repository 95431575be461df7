"""VICReg's two penalties on one cloud."""

import numpy as np
import pytest
import torch

from jepa_utils.objectives.vcreg import VCReg, vcreg
from jepa_utils.objectives.vicreg import covariance_penalty, variance_penalty, vicreg


def clouds(dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    return torch.randn(3, 20, 4, generator=g).to(dtype) * torch.linspace(0.2, 1.5, 4).to(dtype)


def test_it_is_the_weighted_sum_of_the_two_penalties():
    x = clouds()
    spread, correlation = variance_penalty(x).item(), covariance_penalty(x).item()
    assert vcreg(x).item() == pytest.approx(25 * spread + correlation, rel=1e-12)
    wide = variance_penalty(x, target_std=2.0, eps=0.1).item()
    value = vcreg(x, variance=2.0, covariance=3.0, target_std=2.0, eps=0.1).item()
    assert value == pytest.approx(2 * wide + 3 * correlation, rel=1e-12)


def test_it_is_half_of_vicreg_between_equal_views():
    x = clouds()[0]
    halved = vicreg(x, x, variance=7.0, covariance=1.5).item()
    assert vcreg(x, variance=7.0, covariance=3.0).item() == pytest.approx(halved, rel=1e-12)


def test_module_equals_function_and_says_its_settings():
    x, settings = clouds(), dict(variance=1.0, covariance=2.0, target_std=0.7, eps=0.01)
    assert VCReg()(x) == vcreg(x)
    assert VCReg(**settings)(x) == vcreg(x, **settings) != vcreg(x)
    assert all(f"{name}={value}" in repr(VCReg(**settings)) for name, value in settings.items())


def test_factors_may_be_numpy_numbers_and_not_negative():
    x = clouds(torch.float32).requires_grad_()
    value = vcreg(x, variance=np.float64(25), covariance=np.int64(1))
    assert value.dtype == torch.float32 and value == vcreg(x)
    for name in ("variance", "covariance", "target_std", "eps"):
        with pytest.raises(
            ValueError, match=f"{name} must be a finite number of at least 0, got -1"
        ):
            vcreg(x, **{name: -1})
        with pytest.raises(ValueError, match=name):
            VCReg(**{name: -1})
