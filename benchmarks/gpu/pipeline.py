"""From a camera's buffer to detections on the GPU, beside the network alone in the same run.

Frames of 1280 x 720 BGR with noise in them lie in the backend's own page-locked memory, as a camera's driver
leaves them. The network has random weights (see `networks`): some ten thousand scores pass the threshold, more
than a trained one lets through; rows with quiet heads have as many as that. The network alone and the pipeline take
turns.
"""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_ssd import Detector, Frame
from edge_ssd.backends.cuda import CudaBackend
from edge_ssd.bench.gpu_network import capture_network
from edge_ssd.bench.networks import QUIET, raise_background, random_network

SECTION = "pipeline"
CAMERAS = 16
FRAME_SIZE = (720, 1280)

_MEMORY_MODES = ("pinned", "mapped")


@dataclass(frozen=True)
class Amounts:
    """How much is measured. turns: of network and pipeline.   turn_s: about how long one takes, fewest: the calls
    in it at least.   latencies: of single frames.   counted: frames over which allocations and waits are counted,
    and rows compared."""

    turns: int = 9
    turn_s: float = 0.2
    fewest: int = 10
    latencies: int = 1000
    counted: int = 1000


def run(records):
    """Adds the rows of this section: SSDs through torch."""
    for arch in ("ssd300_vgg16", "ssdlite320_mobilenet_v3_large"):
        with records.row(SECTION, f"{arch}, torch: opened") as values:
            from edge_ssd.engines.torch_cuda_engine import TorchCudaEngine

            start = time.perf_counter()
            network, spec = random_network(arch)
            engine = TorchCudaEngine(network, spec)
            values.update(engine=engine.description, seconds=time.perf_counter() - start)
        if "engine" in values:
            measure_engine(records, f"{arch}, torch", engine, spec)
            raise_background(network, QUIET)  # of the engine, whose network it is: nothing is compiled again
            measure_row(records, f"{arch}, torch, quiet heads", engine, spec, "pinned")
            engine.close()


def measure_engine(records, name, engine, spec, amounts=None):
    """Rows of one engine: both memory modes, then many cameras in one batch."""
    from edge_ssd.kernels.device import Device

    device, amounts = Device(), amounts or Amounts()
    for memory in _MEMORY_MODES:
        measure_row(records, name, engine, spec, memory, amounts)
    with records.row(SECTION, f"{name}, {CAMERAS} cameras in a batch") as values:
        many, one = Rig(device, engine, spec, "pinned", CAMERAS), Rig(device, engine, spec, "pinned")
        values.update(many.throughput(amounts))
        alone = one.throughput(amounts)
        values["of_one_camera"] = alone["pipeline_fps"] / values["pipeline_fps"]
        values["backend"] = many.detector.description


def measure_row(records, name, engine, spec, memory, amounts=None):
    """The row of one engine in one memory mode; its backend tells whether it ran as a CUDA graph."""
    from edge_ssd.kernels.device import Device

    amounts = amounts or Amounts()
    with records.row(SECTION, f"{name}, {memory}") as values:
        rig = Rig(Device(), engine, spec, memory)
        values.update(rig.throughput(amounts))
        values.update(rig.latency(amounts))
        values.update(rig.stages(amounts))
        values.update(rig.per_frame(amounts))
        values["backend"] = rig.detector.description


class Rig:
    """An engine with its pipeline, and the same engine alone in a CUDA graph of its own.

    device: edge_ssd.kernels.device.Device.   engine: DeviceEngine.   spec: SsdSpec.   memory: "pinned" or
    "mapped".   batch_size: frames in one call.
    """

    def __init__(self, device, engine, spec, memory, batch_size=1):
        self._device, self._batch_size = device, batch_size
        self._backend = CudaBackend(engine, spec, None, device, memory, "spin")
        self.detector = Detector(self._backend)
        self._batches = [self._camera_frames(seed) for seed in range(self.detector.in_flight + 1)]
        noise = np.random.default_rng(0).normal(scale=50, size=(batch_size, 3, *spec.input.size))
        self._alone = capture_network(device, engine, noise.astype(engine.input_dtype))
        self._end = device.event("spin")

    def _camera_frames(self, seed):
        rng = np.random.default_rng(seed)
        frames = []
        for _ in range(self._batch_size):
            image = self._backend.allocate((*FRAME_SIZE, 3))
            if image is None:  # the pool is full: the rest is copied once
                image = np.empty((*FRAME_SIZE, 3), np.uint8)
            image[:] = rng.integers(0, 256, image.shape, np.uint8)
            frames.append(Frame(image))
        return frames

    # ---- throughput: as much at once as keeps the GPU busy

    def throughput(self, amounts):
        """Frames per second of the network alone and of the pipeline with two batches in flight."""
        self._network_turn(amounts.fewest)
        calls = max(amounts.fewest, int(amounts.turn_s / self._network_turn(1)))
        self._pipeline_turn(calls)
        turns = [(self._network_turn(calls), self._pipeline_turn(calls)) for _ in range(amounts.turns)]
        network_s, pipeline_s = np.median(turns, axis=0) / (calls * self._batch_size)
        return {
            "network_fps": 1 / network_s,
            "pipeline_fps": 1 / pipeline_s,
            "of_network": float(np.median([alone / whole for alone, whole in turns])),
        }

    def _network_turn(self, calls):
        """Seconds."""
        start = time.perf_counter()
        with self._device.stream:
            for _ in range(calls):
                self._alone.launch()
        self._device.stream.synchronize()
        return time.perf_counter() - start

    def _pipeline_turn(self, calls):
        """Seconds."""
        start, waiting = time.perf_counter(), []
        for i in range(calls):
            waiting.append(self._backend.submit(self._batches[i % len(self._batches)]))
            if len(waiting) == self.detector.in_flight:
                self._backend.collect(waiting.pop(0))
        while waiting:
            self._backend.collect(waiting.pop(0))
        return time.perf_counter() - start

    # ---- one frame at a time

    def latency(self, amounts):
        """Microseconds from a frame in page-locked memory to its detections, of the network alone, and of the
        copy of the frame into the GPU's memory."""
        whole, alone, copy, nothing = [], [], [], []
        target = self._device.empty((self._batches[0][0].image.nbytes,), np.uint8)
        for i in range(amounts.latencies):
            frame = self._batches[i % len(self._batches)][0]
            whole.append(_spent_us(self.detector.detect, frame))
            alone.append(_spent_us(self._waited, self._alone.launch))
            copy.append(_spent_us(self._waited, lambda image=frame.image: self._upload(target, image)))
            nothing.append(_spent_us(self._waited, lambda: None))
        values = {}
        for name, times in (("latency", whole), ("network_latency", alone)):
            p50, p99 = np.percentile(times, (50, 99))
            values |= {f"{name}_p50_us": float(p50), f"{name}_p99_us": float(p99)}
        # The host's own start and wait are in the network's time already, and may be subtracted once only.
        values["frame_copy_us"] = float(np.median(copy) - np.median(nothing))
        is_copied = self.detector.copies.bus
        values["around_network_us"] = values["latency_p50_us"] - values["network_latency_p50_us"]
        values["around_network_and_copy_us"] = (
            values["around_network_us"] - is_copied * values["frame_copy_us"]
        )
        return values

    def _waited(self, launch):
        with self._device.stream:
            launch()
            self._end.record()
        self._end.synchronize()

    def _upload(self, target, image):
        self._device.upload(self._device.address(target), image.ctypes.data, image.nbytes)

    def stages(self, amounts):
        """Medians of the detector's own stage times, and the copies of a frame."""
        times = []
        for i in range(amounts.latencies // 4):
            self.detector.detect(self._batches[i % len(self._batches)][0])
            times.append(self.detector.timing_ms)
        values = {f"{stage}_ms": float(np.median([t[stage] for t in times])) for stage in times[0]}
        return values | {"cpu_copies": self.detector.copies.cpu, "bus_copies": self.detector.copies.bus}

    def per_frame(self, amounts):
        """Allocations and waits over many frames, and how many of them give other rows than the first."""
        from .counting import counting

        frames = [self._batches[0][0]]
        expected = self._rows(frames)
        gc.collect()
        other = 0
        with counting() as counts:
            for _ in range(amounts.counted):
                other += not np.array_equal(self._rows(frames), expected)
        return {
            "counted_frames": amounts.counted,
            "detections": int((expected[:, 4] > 0).sum()),
            "allocations": counts.allocations,
            "waits_per_frame": counts.waits / amounts.counted,
            "free_bytes_lost": counts.free_bytes_lost,
            "frames_with_other_rows": other,
        }

    def _rows(self, frames) -> Any:
        return self._backend.collect(self._backend.submit(frames)).images[0].rows


def _spent_us(work, *arguments):
    start = time.perf_counter()
    work(*arguments)
    return (time.perf_counter() - start) * 1e6
