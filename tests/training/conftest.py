"""What all trainings of the tests share."""

import pytest
import trainings


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """On a busy machine each small operation waits for the second one: minutes instead of seconds."""
    monkeypatch.setattr("jepa_utils.training.fit.THREADS", 1)


@pytest.fixture(scope="session")
def pictures():
    return trainings.pictures()
