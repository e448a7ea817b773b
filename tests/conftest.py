"""Fixtures for every test."""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tests.devices import binaries, compiled_once, device, operations, simulated  # noqa: F401  (fixtures)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def models_made_here(tmp_path_factory):
    """What a test saves with `onnx.save` counts as made on this machine, so it opens without a process of its own.

    The list of known models is the tests' own, in a folder that child processes are told, too.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGE_SSD_CACHE", str(tmp_path_factory.mktemp("cache")))
        if find_spec("onnx"):
            import onnx

            from edge_ssd.model_files.known_models import remember_made

            def save(proto, file, *arguments, **options):
                onnx.save_model(proto, file, *arguments, **options)
                if isinstance(file, str | os.PathLike):
                    remember_made(file)

            patch.setattr(onnx, "save", save)
        yield


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
