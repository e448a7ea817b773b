"""The GPU backend: from pixels to rows in one CUDA graph, two frames in flight.

A lane holds all that one batch needs from descriptors to results, at fixed addresses; two lanes alternate, so
that the host prepares one while the GPU works on the other. Nothing is allocated for a frame, and the host waits
once for it, at the end.
"""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..engines import DeviceEngine
from ..frames import Frame
from ..kernels import Postprocess
from ..memory import FrameMemory
from ..priors import make_priors
from ..resize import ResizePlan
from ..spec import SsdSpec
from .batch_result import BatchResult, ImageResult
from .cuda_lane import Lane
from .heads import check_heads
from .settings import input_constants, postprocess_settings

if TYPE_CHECKING:
    from ..kernels.device import Device

log = logging.getLogger("edge_ssd")

# Between two looks at a result that is waited for asleep, seconds.
_POLL_S = 2e-4

# Frames for the choice of a memory mode: enough to see a difference of a tenth, in about 50 ms.
_TRIAL_SIZE, _TRIAL_FRAMES = (720, 1280), 20


class CudaBackend:
    """Frames to rows on a GPU.

    engine: a DeviceEngine, see `edge_ssd.engines`.   spec: SsdSpec.   labels: (K,) foreground classes to
    look for, or None.   device: edge_ssd.kernels.device.Device.   memory: "mapped", "pinned" or "auto", see
    edge_ssd.memory.   wait: "spin" polls for the result, "block" sleeps; "auto" sleeps on a Jetson, whose cores
    have other work.

    in_flight: batches that keep the GPU busy.   max_batch: images in one call; 0 when any.

    Raises ValueError when the engine's outputs or the spec's limits do not fit, MemoryError when there is no room.
    """

    in_flight = 2
    on_gpu = True

    def __init__(
        self,
        engine: DeviceEngine,
        spec: SsdSpec,
        labels: np.ndarray | None,
        device: Device,
        memory: str = "auto",
        wait: str = "auto",
    ) -> None:
        self.engine, self.spec, self._device = engine, spec, device
        self._settings = postprocess_settings(spec, labels)
        self.priors = make_priors(spec)
        self._constants = device.array(input_constants(spec))
        self._wait = wait if wait != "auto" else ("block" if device.is_integrated else "spin")
        self._frame_memory = FrameMemory(device)
        self.memory = memory if memory != "auto" else "pinned"
        self._pairs: dict[int, list[Lane]] = {}  # by batch size: its two lanes, the one to use next first
        self._sizes: dict[int, int] = {}  # by number of images: the batch size they go in
        if memory == "auto":
            self.memory = self._faster_memory()
        self._reopen_lanes()

    @property
    def max_batch(self) -> int:
        """Images in one call; 0 when any."""
        return self.engine.max_batch

    @property
    def precision(self) -> str:
        """What the engine computes in."""
        return self.engine.precision

    @property
    def description(self) -> str:
        """Engine, device and how frames get there, for a report."""
        captured = (
            "CUDA graph" if all(s.graph for pair in self._pairs.values() for s in pair) else "plain launches"
        )
        return f"{self.engine.description}, {captured}, {self.memory} memory"

    @property
    def allocate(self) -> Callable[[tuple[int, ...]], np.ndarray | None]:
        """What `open_source` reads frames into: shape -> page-locked uint8 array, or None."""
        return self._frame_memory.allocate

    def submit(self, frames: Sequence[Frame]) -> _Ticket:
        """Starts a batch; returns a ticket for `collect`.

        frames: list of Frames of any sizes and formats. They are kept until the batch is done, and may not
        be changed before. Raises RuntimeError when `in_flight` batches of this size wait to be collected, OSError
        when the GPU fails.
        """
        start = time.perf_counter_ns()
        lane = self._lane_for(len(frames))
        with _failures_said():
            plans, cpu_copies, bus_copies = lane.fill(frames)
            with self._device.stream:
                lane.launch()
        host_ms = (time.perf_counter_ns() - start) / 1e6
        ticket = _Ticket(lane, list(frames), plans, cpu_copies, bus_copies, host_ms)
        lane.ticket = weakref.ref(ticket)
        return ticket

    def is_done(self, ticket: _Ticket) -> bool:
        """Whether `collect` would not wait."""
        return ticket.frames is None or ticket.lane.is_done()

    def pause(self) -> None:
        """Between two looks at `is_done`; one that spins lets other threads run."""
        time.sleep(_POLL_S if self._wait == "block" else 0)

    def collect(self, ticket: _Ticket) -> BatchResult:
        """The BatchResult of a ticket; waits for it. Raises ValueError when it was collected before."""
        if ticket.frames is None:
            raise ValueError("ticket: was collected before")
        with _failures_said():
            rows, counts, times = ticket.lane.result()
        images = [
            ImageResult(rows[i].copy(), int(counts[i, 0]), int(counts[i, 1]), plan)
            for i, plan in enumerate(ticket.plans)
        ]
        preprocess_ms, infer_ms, postprocess_ms = (np.diff(times.astype(np.int64)) / 1e6).tolist()
        broken = ""
        if any(image.dropped for image in images):
            broken = ticket.lane.broken_output()
        ticket.frames = None
        return BatchResult(
            images=images,
            timing_ms={
                "preprocess": preprocess_ms + ticket.host_ms,
                "infer": infer_ms,
                "postprocess": postprocess_ms,
            },
            broken_output=broken,
            cpu_copies=ticket.cpu_copies,
            bus_copies=ticket.bus_copies,
        )

    # ---- the three steps one by one, for comparisons: they wait, `submit` does not

    def preprocess(self, frame: Frame) -> tuple[Any, ResizePlan]:
        """Frame -> batch (1, 3, H, W) on the device, valid until the next call of anything; ResizePlan."""
        lane = self._lane_for(1)
        plans, _, _ = lane.fill([frame])
        with self._device.stream:
            lane.preprocess()
        self._device.stream.synchronize()
        lane.free = True
        return lane.batch[:1], plans[0]

    def infer(self, batch: Any) -> tuple[Any, Any]:
        """A batch of `preprocess` -> loc (1, P, 4), conf (1, P, C) on the device, valid until the next call."""
        lane = next(s for s in self._pairs[self._batch_size_for(1)] if s.holds(batch))
        with self._device.stream:
            heads = lane.infer()
        self._device.stream.synchronize()
        return heads

    def postprocess(self, loc: Any, conf: Any) -> tuple[np.ndarray, np.ndarray]:
        """loc (P, 4), conf (P, C) of one image of `infer` -> rows (max_detections, 6), counts (2,) on the host."""
        step = Postprocess(self._device, self.priors, self._settings, 1)
        with self._device.stream:
            rows, counts = step(loc[None], conf[None])
        self._device.stream.synchronize()
        return self._device.to_host(rows)[0], self._device.to_host(counts)[0]

    def to_host(self, array: Any) -> np.ndarray:
        """A NumPy copy of what a step gave."""
        return self._device.to_host(array)

    def close(self) -> None:
        """Waits for what is in flight and frees everything."""
        self._device.stream.synchronize()
        self._pairs.clear()
        self.engine.close()

    # ---- lanes

    def _lane_for(self, count):
        size = self._batch_size_for(count)
        if size not in self._pairs:
            self._open_lanes(size)
        pair = self._pairs[size]
        if not pair[0].free:
            if pair[0].ticket() is not None:
                raise RuntimeError(
                    f"{self.in_flight} batches are in flight: collect one before the next is submitted"
                )
            pair[0].result()  # nobody will ask for it any more
        pair.reverse()
        return pair[1]

    def _batch_size_for(self, count):
        """The batch size in which `count` images go: an engine may take fixed sizes alone."""
        if count not in self._sizes:
            self._sizes[count] = self._smallest_size(count)
        return self._sizes[count]

    def _smallest_size(self, count):
        size, most = count, max(count, self.engine.max_batch)
        while True:
            try:
                shapes = self.engine.output_shapes(size)
            except ValueError:
                if size == most:
                    raise
                size += 1
                continue
            check_heads(shapes, self.spec, len(self.priors))
            return size

    def _open_lanes(self, size):
        """Makes, runs and captures the two lanes of a batch size."""
        parts = (self._device, self.engine, self.spec, self.priors, self._settings, self._constants)
        lanes = [
            Lane(*parts, size, self._frame_memory, self.memory, self._wait) for _ in range(self.in_flight)
        ]
        for one in lanes:
            self._warm_up(one)
        if self.engine.capturable:
            self._capture(lanes)
        self._pairs[size] = lanes

    def _reopen_lanes(self):
        """The lanes of batch size 1 anew, in the memory mode of now."""
        self._pairs.clear()
        self._open_lanes(self._batch_size_for(1))

    def _warm_up(self, lane):
        """Two plain runs: what is compiled, chosen or allocated at first use must be there before a capture."""
        lane.fill([_black_frame()])
        for _ in range(2):
            with self._device.stream:
                lane.steps()
            self._device.stream.synchronize()
        lane.free = True

    def _capture(self, lanes):
        try:
            for one in lanes:
                with self._device.stream:
                    one.graph = self.engine.capture(one.steps)
        except RuntimeError as error:
            for one in lanes:
                one.graph = None
            log.warning("%s; running it by plain launches", error)

    def _faster_memory(self):
        """The mode of MEMORY_MODES in which frames of a camera get through faster here."""
        seconds = {}
        frame = Frame(self._trial_image())
        for mode in ("pinned", "mapped"):
            self.memory = mode
            self._reopen_lanes()
            self.collect(self.submit([frame]))
            start = time.perf_counter()
            for _ in range(_TRIAL_FRAMES):
                self.collect(self.submit([frame]))
            seconds[mode] = time.perf_counter() - start
        faster = min(seconds, key=seconds.__getitem__)
        shown = ", ".join(f"{mode} {s / _TRIAL_FRAMES * 1e3:.2f} ms a frame" for mode, s in seconds.items())
        log.info("memory: %s is the faster here (%s)", faster, shown)
        return faster

    def _trial_image(self):
        image = self._frame_memory.allocate((*_TRIAL_SIZE, 3))
        if image is None:
            return np.zeros((*_TRIAL_SIZE, 3), np.uint8)
        image[:] = 0
        return image


def _black_frame():
    return Frame(np.zeros((2, 2, 3), np.uint8))


@contextmanager
def _failures_said() -> Iterator[None]:
    """CuPy's, torch's and TensorRT's errors of a GPU that fails are RuntimeErrors of theirs; for callers, OSErrors."""
    try:
        yield
    except RuntimeError as error:
        raise OSError(
            f"the GPU failed ({error}); start the program again, and see edge-ssd doctor if it fails again"
        ) from error


@dataclass(eq=False)
class _Ticket:
    """A batch in flight. frames: kept alive until it is collected, then None."""

    lane: Lane
    frames: list[Frame] | None
    plans: list[ResizePlan]
    cpu_copies: int
    bus_copies: int
    host_ms: float
