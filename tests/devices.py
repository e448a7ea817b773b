"""Fixtures: devices for the tests of kernels and what is built on them, a GPU where there is one."""

from __future__ import annotations

import pytest

from tests.kernels.operations import Operations
from tests.kernels.simulated import SimulatedDevice, has_compiler


@pytest.fixture(scope="session")
def binaries(tmp_path_factory):
    if not has_compiler():
        pytest.skip("no g++ to compile the kernels for the CPU")
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture(scope="session")
def compiled_once(binaries):
    """Keeps what is compiled: each kernel once for all tests."""
    return SimulatedDevice(binaries)


@pytest.fixture
def simulated(compiled_once, binaries):
    """A SimulatedDevice with nothing on it."""
    device = SimulatedDevice(binaries)
    device.share_kernels(compiled_once)
    return device


@pytest.fixture(params=["simulated", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request):
    """A device: the simulated one, and the GPU where there is one."""
    if request.param == "simulated":
        return request.getfixturevalue("simulated")
    from edge_ssd.kernels.device import Device

    return Device()


@pytest.fixture
def operations(device):
    return Operations(device)
