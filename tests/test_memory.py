"""Page-locked frame buffers: how they are shared out, come back, and are found again."""

from __future__ import annotations

import gc
import sys
import threading
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from edge_ssd.memory import FrameMemory, mapped_buffer


@pytest.fixture
def memory(simulated):
    return FrameMemory(simulated, most_bytes=3 * 72)


def test_a_buffer_has_the_shape_asked_for_and_an_address(memory):
    image = memory.allocate((4, 6, 3))
    assert image.shape == (4, 6, 3)
    assert image.dtype == np.uint8
    image[:] = 7
    assert memory.address(image) == image.ctypes.data
    assert memory.address(image[2:, 1:]) == image.ctypes.data + 2 * 18 + 3


def test_other_memory_has_no_address(memory):
    memory.allocate((4, 6, 3))
    assert memory.address(np.zeros((4, 6, 3), np.uint8)) is None


def test_a_buffer_comes_back_with_the_last_array_over_it(memory):
    image = memory.allocate((4, 6, 3))
    place, row = image.ctypes.data, image[1]
    del image
    gc.collect()
    assert memory.allocate((4, 6, 3)).ctypes.data != place
    del row
    gc.collect()
    assert memory.allocate((4, 6, 3)).ctypes.data == place


def test_there_is_room_for_so_many_and_no_more(memory):
    kept = [memory.allocate((4, 6, 3)) for _ in range(3)]
    assert memory.allocate((4, 6, 3)) is None
    kept.pop()
    gc.collect()
    assert memory.allocate((4, 6, 3)) is not None


def test_a_camera_that_changes_its_size_gets_buffers_of_the_new_one(memory):
    images = [memory.allocate((4, 6, 3)) for _ in range(3)]
    assert memory.allocate((8, 6, 3)) is None
    images.clear()
    gc.collect()
    larger = memory.allocate((8, 6, 3))
    assert larger is not None
    assert memory.allocate((8, 6, 3)) is None


def test_threads_never_share_a_buffer(simulated):
    memory = FrameMemory(simulated)
    clashes = []

    def work(number):
        for _ in range(300):
            image = memory.allocate((8, 8))
            if image is None:
                continue
            image[:] = number
            if not (image == number).all():
                clashes.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clashes == []


def test_pycuda_is_taken_where_it_is_installed(simulated, monkeypatch):
    """Its primary context is pushed while it allocates, and no longer."""
    events = []
    block = np.zeros(64, np.uint8)

    class Owned(np.ndarray):
        base = SimpleNamespace(get_device_pointer=lambda: 4096)

    def pagelocked_empty(shape, dtype, mem_flags):
        events.append(("allocate", shape, mem_flags))
        return block.view(Owned)

    context = SimpleNamespace(push=lambda: events.append("push"), pop=lambda: events.append("pop"))
    driver = ModuleType("pycuda.driver")
    driver.init = lambda: events.append("init")
    driver.Device = lambda index: SimpleNamespace(retain_primary_context=lambda: context)
    driver.pagelocked_empty, driver.MemoryError = pagelocked_empty, MemoryError
    driver.host_alloc_flags = SimpleNamespace(DEVICEMAP=2, PORTABLE=1)
    package = ModuleType("pycuda")
    package.driver = driver
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
    host, address = mapped_buffer(simulated, 64)
    assert address == 4096
    assert host.nbytes == 64
    assert events == ["init", "push", ("allocate", (64,), 3), "pop"]
