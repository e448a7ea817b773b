"""Fixtures for every test."""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from tests.devices import binaries, compiled_once, device, operations, simulated  # noqa: F401  (fixtures)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def rng():
    return np.random.default_rng(20260101)


@pytest.fixture(params=["edge_ssd.reference", "edge_ssd.backends.cpu_steps"])
def steps(request):
    """A module with the steps around the network on the CPU: the definition, then the fast path."""
    return import_module(request.param)


@pytest.fixture(scope="session")
def shared_folder():
    """Where photos, models and data sets lie: the parent of EDGE_SSD_DATA, beside the checkout by default."""
    data = Path(os.environ.get("EDGE_SSD_DATA", ROOT.parent / "shared" / "data"))
    if not data.is_dir():
        pytest.skip(f"no data at {data}; set EDGE_SSD_DATA")
    return data.parent


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu"):
        reason = _no_gpu()
        if reason:
            pytest.skip(reason)


@cache
def _no_gpu():
    """Why the tests marked gpu cannot run here; empty when they can."""
    try:
        from edge_ssd.kernels.device import Device

        Device()
    except (ImportError, OSError) as error:
        return f"no GPU: {error}"
    return ""
