"""The GPU backend: from pixels to rows in one CUDA graph, two frames in flight.

A set holds all that one batch needs from descriptors to results, at fixed addresses; two sets alternate, so
that the host prepares one while the GPU works on the other. Nothing is allocated for a frame, and the host waits
once for it, at the end.
"""

from __future__ import annotations

import logging
import time
import weakref
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from ..frames import Frame
from ..kernels import FRAME_DESCRIPTOR, Postprocess, clock_ns, describe_frame, preprocess
from ..memory import FrameMemory, FrameSlot
from ..priors import make_priors
from ..resize import plan_resize
from .batch_result import BatchResult, ImageResult
from .heads import check_heads
from .settings import input_constants, postprocess_settings

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

    depth: batches in flight that keep the GPU busy.   max_batch: images in one call; 0 when any.

    Raises ValueError when the engine's outputs or the spec's limits do not fit, MemoryError when there is no room.
    """

    depth = 2
    on_gpu = True

    def __init__(self, engine, spec, labels, device, memory="auto", wait="auto"):
        self.engine, self.spec, self._device = engine, spec, device
        self._settings = postprocess_settings(spec, labels)
        self.priors = make_priors(spec)
        self._constants = device.array(input_constants(spec))
        self._wait = wait if wait != "auto" else ("block" if device.is_integrated else "spin")
        self._frame_memory = FrameMemory(device)
        self.memory = memory if memory != "auto" else "pinned"
        self._pairs = {}  # by batch size: its two sets, the one to use next first
        self._sizes = {}  # by number of images: the batch size they go in
        if memory == "auto":
            self.memory = self._faster_memory()
        self._reopen_sets()

    @property
    def max_batch(self):
        return self.engine.max_batch

    @property
    def precision(self):
        """What the engine computes in."""
        return self.engine.precision

    @property
    def description(self):
        """Engine, device and how frames get there, for a report."""
        captured = (
            "CUDA graph" if all(s.graph for pair in self._pairs.values() for s in pair) else "plain launches"
        )
        return f"{self.engine.description}, {captured}, {self.memory} memory"

    @property
    def allocate(self):
        """What `open_source` reads frames into: shape -> page-locked uint8 array, or None."""
        return self._frame_memory.allocate

    def submit(self, frames):
        """Starts a batch; returns a ticket for `collect`.

        frames: list of Frames of any sizes and formats. They are kept until the batch is done, and may not
        be changed before. Raises RuntimeError when `depth` batches of this size wait to be collected, OSError
        when the GPU fails.
        """
        start = time.perf_counter_ns()
        slots = self._set_for(len(frames))
        with _failures_said():
            plans, cpu_copies, bus_copies = slots.fill(frames)
            with self._device.stream:
                slots.launch()
        host_ms = (time.perf_counter_ns() - start) / 1e6
        ticket = _Ticket(slots, list(frames), plans, cpu_copies, bus_copies, host_ms)
        slots.ticket = weakref.ref(ticket)
        return ticket

    def is_done(self, ticket):
        """Whether `collect` would not wait."""
        return ticket.frames is None or ticket.set.is_done()

    def pause(self):
        """Between two looks at `is_done`; one that spins lets other threads run."""
        time.sleep(_POLL_S if self._wait == "block" else 0)

    def collect(self, ticket):
        """The BatchResult of a ticket; waits for it. Raises ValueError when it was collected before."""
        if ticket.frames is None:
            raise ValueError("ticket: was collected before")
        with _failures_said():
            rows, counts, times = ticket.set.result()
        images = [
            ImageResult(rows[i].copy(), int(counts[i, 0]), int(counts[i, 1]), plan)
            for i, plan in enumerate(ticket.plans)
        ]
        preprocess_ms, infer_ms, postprocess_ms = (np.diff(times.astype(np.int64)) / 1e6).tolist()
        broken = ""
        if any(image.dropped for image in images):
            broken = ticket.set.broken_output()
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

    def preprocess(self, frame):
        """Frame -> batch (1, 3, H, W) on the device, valid until the next call of anything; ResizePlan."""
        slots = self._set_for(1)
        plans, _, _ = slots.fill([frame])
        with self._device.stream:
            slots.preprocess()
        self._device.stream.synchronize()
        slots.free = True
        return slots.batch[:1], plans[0]

    def infer(self, batch):
        """A batch of `preprocess` -> loc (1, P, 4), conf (1, P, C) on the device, valid until the next call."""
        slots = next(s for s in self._pairs[self._batch_size_for(1)] if s.holds(batch))
        with self._device.stream:
            heads = slots.infer()
        self._device.stream.synchronize()
        return heads

    def postprocess(self, loc, conf):
        """loc (P, 4), conf (P, C) of one image of `infer` -> rows (max_detections, 6), counts (2,) on the host."""
        step = Postprocess(self._device, self.priors, self._settings, 1)
        with self._device.stream:
            rows, counts = step(loc[None], conf[None])
        self._device.stream.synchronize()
        return self._device.to_host(rows)[0], self._device.to_host(counts)[0]

    def to_host(self, array):
        """A NumPy copy of what a step gave."""
        return self._device.to_host(array)

    def close(self):
        """Waits for what is in flight and frees everything."""
        self._device.stream.synchronize()
        self._pairs.clear()
        self.engine.close()

    # ---- sets

    def _set_for(self, count):
        size = self._batch_size_for(count)
        if size not in self._pairs:
            self._open_sets(size)
        pair = self._pairs[size]
        if not pair[0].free:
            if pair[0].ticket() is not None:
                raise RuntimeError(
                    f"{self.depth} batches are in flight: collect one before the next is submitted"
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
        most = max(count, self.engine.max_batch)
        for size in range(count, most + 1):
            try:
                shapes = self.engine.output_shapes(size)
            except ValueError as error:
                reason = error
                continue
            check_heads(shapes, self.spec, len(self.priors))
            return size
        raise reason

    def _open_sets(self, size):
        """Makes, runs and captures the two sets of a batch size."""
        parts = (self._device, self.engine, self.spec, self.priors, self._settings, self._constants)
        slots = [_Set(*parts, size, self._frame_memory, self.memory, self._wait) for _ in range(self.depth)]
        for one in slots:
            self._warm_up(one)
        if self.engine.capturable:
            self._capture(slots)
        self._pairs[size] = slots

    def _reopen_sets(self):
        """The sets of batch size 1 anew, in the memory mode of now."""
        self._pairs.clear()
        self._open_sets(self._batch_size_for(1))

    def _warm_up(self, slots):
        """Two plain runs: what is compiled, chosen or allocated at first use must be there before a capture."""
        slots.fill([_black_frame()])
        for _ in range(2):
            with self._device.stream:
                slots.steps()
            self._device.stream.synchronize()
        slots.free = True

    def _capture(self, slots):
        try:
            for one in slots:
                with self._device.stream:
                    one.graph = self.engine.capture(one.steps)
        except RuntimeError as error:
            for one in slots:
                one.graph = None
            log.warning("%s; running it by plain launches", error)

    def _faster_memory(self):
        """The mode of MEMORY_MODES in which frames of a camera get through faster here."""
        seconds = {}
        frame = Frame(self._trial_image())
        for mode in ("pinned", "mapped"):
            self.memory = mode
            self._reopen_sets()
            self.collect(self.submit([frame]))
            start = time.perf_counter()
            for _ in range(_TRIAL_FRAMES):
                self.collect(self.submit([frame]))
            seconds[mode] = time.perf_counter() - start
        faster = min(seconds, key=seconds.get)
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
def _failures_said():
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

    set: _Set
    frames: list[Frame] | None
    plans: list
    cpu_copies: int
    bus_copies: int
    host_ms: float


class _Set:
    """Buffers and graph of one batch in flight.

    free: nobody waits for what is in it.   ticket: weak reference to that of the batch in it.
    graph: of `steps`, None when they are launched one by one.
    """

    def __init__(self, device, engine, spec, priors, settings, constants, size, memory, mode, wait):
        self._device, self._engine, self._spec, self._constants = device, engine, spec, constants
        self._size, self._num_priors = size, len(priors)
        self._slots = [FrameSlot(device, memory, mode) for _ in range(size)]
        nbytes = size * FRAME_DESCRIPTOR.itemsize
        self._host_descriptors = device.page_locked(nbytes)[0].view(FRAME_DESCRIPTOR)
        self._descriptors = device.empty((nbytes,), np.uint8)
        self._described = [None] * size  # what the descriptor of each image says, but for addresses
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
        self._heads = None
        self._end = device.event(wait)
        self.graph, self.free, self.ticket = None, True, lambda: None

    def fill(self, frames):
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

    def launch(self):
        """Enqueues the frame on the current stream, and its end event."""
        self.graph.launch() if self.graph else self.steps()
        self._end.record()

    def steps(self):
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

    def preprocess(self, is_uploaded=False):
        if not is_uploaded:
            self._upload_descriptors()
        blue_first = self._spec.input.color == "bgr"
        preprocess(self._device, self._descriptors, self._constants, self.batch, blue_first)

    def infer(self):
        """loc (B, P, 4), conf (B, P, C), as the engine keeps them: the same arrays every time."""
        outputs = self._engine.infer(self.batch)
        if self._heads is None:
            columns = (4, self._spec.num_columns)
            self._heads = tuple(
                self._device.as_array(output).reshape(self._size, self._num_priors, count)
                for output, count in zip(outputs, columns)
            )
        return self._heads

    def holds(self, batch):
        """Whether this is the set's own batch array, or a part of it."""
        return self._device.address(batch) == self._device.address(self.batch)

    def result(self):
        """rows (B, D, 6), counts (B, 2), times (4,): waits for them; they are overwritten by the next launch."""
        self._end.synchronize()
        self.free = True
        return self._host_views

    def is_done(self):
        """Whether `result` would not wait."""
        return self._end.is_done()

    def broken_output(self):
        """Name of the output that holds NaN or Inf; for an error message, so it may take its time."""
        loc = self._device.to_host(self._heads[0])
        return self._spec.outputs.conf if np.isfinite(loc).all() else self._spec.outputs.loc


def _padded(nbytes):
    return -(-nbytes // 16) * 16


def _host_view(block, start, shape, dtype):
    nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return block[start : start + nbytes].view(dtype).reshape(shape)
