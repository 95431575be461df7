"""Optimisers and schedules."""

import pytest
from trainings import small

from jepa_utils.data.batches import ImageDataModule
from jepa_utils.training.fit import fit


def test_learning_rate_rises_and_falls(pictures):
    rates = []
    module = small(learning_rate=0.02, warmup=0.25)
    module.on_train_batch_start = lambda batch, index: rates.append(
        module.optimizers().param_groups[0]["lr"]
    )
    fit(module, ImageDataModule(*pictures, batch_size=12), epochs=2, seed=0, progress=False)
    assert (
        len(rates) == 16
        and rates[0] == pytest.approx(0.02 / 5)
        and max(rates) == pytest.approx(0.02)
    )
    assert rates[4:] == sorted(rates[4:], reverse=True) and rates[-1] < 0.001
