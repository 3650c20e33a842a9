"""What all tests share: fixed seeds, few threads, and a visible skip for tests that need a CUDA device."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]

# Examples take as long as the machine is busy; in CI they are the same each time.
settings.register_profile("book", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("book")


def pytest_configure():
    # Two threads; one where test processes run side by side, since they would wait for each other at every operation.
    alone = "PYTEST_XDIST_WORKER" not in os.environ
    torch.set_num_threads(min(2, os.cpu_count() or 1) if alone else 1)


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - seeds what other libraries draw from the global generator


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's top folder."""
    return ROOT
