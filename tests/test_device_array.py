"""Images of other libraries: what is taken, and how it is described."""

from __future__ import annotations

import numpy as np
import pytest

from edge_ssd import Detector, Frame
from edge_ssd.device_array import DeviceArray, as_image, contiguous_strides
from edge_ssd.models import DEMO_MODEL


class _Shown:
    """An object that has nothing but the CUDA array interface."""

    def __init__(self, **interface):
        self.__cuda_array_interface__ = {
            "shape": (48, 64, 3),
            "typestr": "|u1",
            "data": (4096, False),
            "version": 3,
            **interface,
        }


def test_an_array_on_a_gpu_becomes_a_frame():
    frame = Frame(_Shown(stream=5))
    assert frame.is_on_device
    assert frame.image_size == (48, 64)
    (plane,) = frame.planes
    assert (plane.address, plane.strides, plane.stream) == (4096, (192, 3, 1), 5)


def test_its_pitch_is_taken():
    assert Frame(_Shown(strides=(256, 3, 1))).planes[0].strides == (256, 3, 1)


def test_a_gpu_array_is_never_copied_behind_the_users_back():
    with pytest.raises(ValueError, match="must be contiguous"):
        Frame(_Shown(strides=(256, 4, 1)))
    with pytest.raises(TypeError, match="lies on the GPU; copy it to the host first"):
        np.asarray(Frame(_Shown()).planes[0])


def test_planes_of_nv12_and_i420_are_found():
    luma, chroma = Frame(_Shown(shape=(72, 64)), "nv12").planes
    assert (luma.shape, chroma.shape, chroma.address) == ((48, 64), (24, 32, 2), 4096 + 48 * 64)
    _, u, v = Frame(_Shown(shape=(72, 64)), "i420").planes
    assert (u.shape, v.shape, v.address - u.address) == ((24, 32), (24, 32), 24 * 32)


@pytest.mark.parametrize(
    ("interface", "message"),
    [
        ({"typestr": "<f4"}, "image: expected uint8, got float32"),
        ({"shape": (48, 64)}, r"expected \(H, W, 3\) for bgr8"),
        ({"shape": (0, 64, 3)}, "at least one pixel"),
    ],
)
def test_what_does_not_fit_is_refused(interface, message):
    with pytest.raises(ValueError, match=message):
        Frame(_Shown(**interface))


def test_a_gpu_array_equals_itself_alone_whatever_its_owner_compares():
    owner = np.zeros(3)
    first, second = (
        DeviceArray(4096, (48, 64, 3), (192, 3, 1), np.dtype(np.uint8), 0, owner + i) for i in (0, 1)
    )
    assert first != second
    assert len({first, second, first}) == 2
    assert Frame(first) != Frame(second)


def test_rows_are_sliced_without_a_step():
    array = as_image(_Shown())
    assert array[2:10].address == 4096 + 2 * 192
    assert array[2:10].shape == (8, 64, 3)
    with pytest.raises(ValueError, match="a step of 2"):
        array[::2]


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (4, 5, 6)])
def test_contiguous_strides_are_numpys(shape):
    assert contiguous_strides(shape, 4) == np.empty(shape, np.float32).strides


class _Dlpack:
    """An object that has nothing but DLPack, as NumPy's arrays make it, on a device of our choice."""

    def __init__(self, array, device_type):
        self._array, self._device_type = array, device_type

    def __dlpack_device__(self):
        return self._device_type, 0

    def __dlpack__(self, *, stream=None, **_):
        assert stream in (None, 1)
        return self._array.__dlpack__()


def test_dlpack_on_the_host_is_an_ordinary_array():
    image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    taken = as_image(_Dlpack(image, 1))
    assert isinstance(taken, np.ndarray)
    assert np.array_equal(taken, image)


@pytest.mark.parametrize("view", [np.s_[:], np.s_[1:, 2:]])
def test_dlpack_on_a_gpu_is_described(view):
    image = np.zeros((4, 6, 3), np.uint8)[view]
    taken = as_image(_Dlpack(image, 2))
    assert isinstance(taken, DeviceArray)
    assert (taken.address, taken.shape, taken.strides) == (image.ctypes.data, image.shape, image.strides)
    assert taken.stream == 1


def test_dlpack_of_another_type_or_device_is_refused():
    with pytest.raises(ValueError, match="expected uint8, got DLPack type code 2 of 32 bits"):
        as_image(_Dlpack(np.zeros((4, 6, 3), np.float32), 2))
    with pytest.raises(ValueError, match="device of DLPack type 10"):
        as_image(_Dlpack(np.zeros((4, 6, 3), np.uint8), 10))


@pytest.mark.torch
def test_a_torch_tensor_on_the_host_is_taken_like_an_array():
    torch = pytest.importorskip("torch")
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    with Detector.load(DEMO_MODEL, score_threshold=0.01) as detector:
        expected, detections = detector.detect(image), detector.detect(torch.from_numpy(image))
    assert np.array_equal(detections.boxes, expected.boxes)
