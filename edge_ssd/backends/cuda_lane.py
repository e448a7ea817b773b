"""What one batch on the GPU needs: its buffers at fixed addresses, and the steps over them as one CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..engines import DeviceEngine, Graph
from ..frames import Frame
from ..kernels import FRAME_DESCRIPTOR, Postprocess, clock_ns, describe_frame, preprocess
from ..memory import FrameMemory, FrameSlot
from ..resize import ResizePlan, plan_resize
from ..spec import SsdSpec

if TYPE_CHECKING:
    from ..kernels import PostprocessSettings
    from ..kernels.device import Device


class Lane:
    """Buffers and graph of one batch in flight, from descriptors to results, at fixed addresses.

    free: nobody waits for what is in it.   ticket: weak reference to that of the batch in it.
    graph: of `steps`, None when they are launched one by one.
    """

    def __init__(
        self,
        device: Device,
        engine: DeviceEngine,
        spec: SsdSpec,
        priors: np.ndarray,
        settings: PostprocessSettings,
        constants: Any,
        size: int,
        memory: FrameMemory,
        mode: str,
        wait: str,
    ) -> None:
        self._device, self._engine, self._spec, self._constants = device, engine, spec, constants
        self._size, self._num_priors = size, len(priors)
        self._slots = [FrameSlot(device, memory, mode) for _ in range(size)]
        nbytes = size * FRAME_DESCRIPTOR.itemsize
        self._host_descriptors = device.page_locked(nbytes)[0].view(FRAME_DESCRIPTOR)
        self._descriptors = device.empty((nbytes,), np.uint8)
        # What the descriptor of each image says, but for addresses.
        self._described: list[tuple | None] = [None] * size
        self.batch = device.empty((size, 3, *spec.input.size), engine.input_dtype)
        # One block, so that one copy brings it back.
        row_bytes, count_bytes = _padded(size * settings.max_detections * 24), _padded(size * 8)
        self._result = device.empty((row_bytes + count_bytes + 32,), np.uint8)
        self._host_result = device.page_locked(self._result.nbytes)[0]
        places = (
            (0, (size, settings.max_detections, 6), np.float32),
            (row_bytes, (size, 2), np.int32),
            (row_bytes + count_bytes, (4,), np.uint64),
        )
        rows, counts, self._times = (device.view(self._result, *place) for place in places)
        self._host_views = [_host_view(self._host_result, *place) for place in places]
        self._postprocess = Postprocess(device, priors, settings, size, rows, counts)
        self._heads: tuple[Any, Any] | None = None
        self._end = device.event(wait)
        self.graph: Graph | None = None
        self.free = True
        self.ticket: Callable[[], Any] = lambda: None

    def fill(self, frames: Sequence[Frame]) -> tuple[list[ResizePlan], int, int]:
        """Puts frames where the kernel will find them. Returns their plans and the copies that took.

        A place beyond the last frame gets the last one again: the engine takes a fixed number.
        """
        spec, plans, cpu_copies, bus_copies = self._spec.input, [], 0, 0
        descriptors, count = self._host_descriptors, len(frames)
        for i, frame in enumerate(frames):
            plan = plan_resize(frame.image_size, spec.size, spec.resize)
            placed = self._slots[i].place(frame)
            described = (
                placed.pitches,
                frame.image_size,
                frame.pixel_format,
                frame.color_matrix,
                frame.color_range,
            )
            if self._described[i] == described:  # the next frame of the same camera
                descriptors["plane"][i, : len(placed.addresses)] = placed.addresses
            else:
                describe_frame(descriptors[i], placed.addresses, *described, plan)
                self._described[i] = described
            plans.append(plan)
            cpu_copies += placed.cpu_copies
            bus_copies += placed.bus_copies
        if count < len(descriptors):
            descriptors[count:] = descriptors[count - 1]
            self._described[count:] = [None] * (len(descriptors) - count)
        self.free = False
        return plans, cpu_copies, bus_copies

    def launch(self) -> None:
        """Enqueues the frame on the current stream, and its end event."""
        self.graph.launch() if self.graph else self.steps()
        self._end.record()

    def steps(self) -> None:
        """Pixels to rows and counts on the host: what is captured."""
        self._upload_descriptors()
        clock_ns(self._device, self._times, 0)
        self.preprocess(is_uploaded=True)
        clock_ns(self._device, self._times, 1)
        heads = self.infer()
        clock_ns(self._device, self._times, 2)
        self._postprocess(*heads)
        clock_ns(self._device, self._times, 3)
        block = self._host_result
        self._device.download(block.ctypes.data, self._device.address(self._result), block.nbytes)

    def _upload_descriptors(self):
        source = self._host_descriptors
        self._device.upload(self._device.address(self._descriptors), source.ctypes.data, source.nbytes)

    def preprocess(self, is_uploaded: bool = False) -> None:
        """Enqueues the frames' way into the batch.   is_uploaded: whether their descriptors are on the device."""
        if not is_uploaded:
            self._upload_descriptors()
        blue_first = self._spec.input.color == "bgr"
        preprocess(self._device, self._descriptors, self._constants, self.batch, blue_first)

    def infer(self) -> tuple[Any, Any]:
        """loc (B, P, 4), conf (B, P, C), as the engine keeps them: the same arrays every time."""
        outputs = self._engine.infer(self.batch)
        if self._heads is None:
            columns = (4, self._spec.num_columns)
            self._heads = tuple(
                self._device.as_array(output).reshape(self._size, self._num_priors, count)
                for output, count in zip(outputs, columns)
            )
        return self._heads

    def holds(self, batch: Any) -> bool:
        """Whether this is the lane's own batch array, or a part of it."""
        return self._device.address(batch) == self._device.address(self.batch)

    def result(self) -> list[np.ndarray]:
        """rows (B, D, 6), counts (B, 2), times (4,): waits for them; they are overwritten by the next launch."""
        self._end.synchronize()
        self.free = True
        return self._host_views

    def is_done(self) -> bool:
        """Whether `result` would not wait."""
        return self._end.is_done()

    def broken_output(self) -> str:
        """Name of the output that holds NaN or Inf; for an error message, so it may take its time."""
        loc = self._device.to_host(self.infer()[0] if self._heads is None else self._heads[0])
        outputs = self._spec.outputs
        return ", ".join(outputs.conf_names if np.isfinite(loc).all() else outputs.loc_names)


def _padded(nbytes):
    return -(-nbytes // 16) * 16


def _host_view(block, start, shape, dtype):
    nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return block[start : start + nbytes].view(dtype).reshape(shape)
