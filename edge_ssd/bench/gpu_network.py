"""The network alone on a GPU: in a CUDA graph of its own, nothing around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..engines import DeviceEngine, Graph

if TYPE_CHECKING:
    from ..kernels.device import Device


def captured_network(engine: DeviceEngine, batch: np.ndarray) -> Callable[[int], None]:
    """function(calls) that runs the network so many times and waits for the last.

    engine: a DeviceEngine, see `edge_ssd.engines`.   batch: (B, 3, H, W) on the host, in its input_dtype.
    """
    from ..kernels.device import Device

    device = Device()
    graph = capture_network(device, engine, batch)

    def run(calls: int) -> None:
        with device.stream:
            for _ in range(calls):
                graph.launch()
        device.stream.synchronize()

    return run


def heads_of(device: Device, engine: DeviceEngine, blob: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The outputs `loc` and `conf`, on the host, for a (1, 3, H, W) float32 blob; (1, ...) each.

    An engine that does not take one image gets as many copies of it as it takes.
    """
    try:
        engine.output_shapes(1)
        count = 1
    except ValueError:
        count = engine.max_batch
    on_device = device.array(blob.repeat(count, axis=0).astype(engine.input_dtype))
    with device.stream:
        outputs = engine.infer(on_device)
    device.stream.synchronize()
    loc, conf = (device.to_host(device.as_array(output))[:1] for output in outputs)
    return loc, conf


def capture_network(device: Device, engine: DeviceEngine, batch: np.ndarray) -> Graph:
    """The Graph of one run of the network on a copy of `batch` (on the host) that lies on the device."""
    on_device = device.array(batch)

    def run() -> None:
        engine.infer(on_device)

    with device.stream:
        for _ in range(2):
            run()
        device.stream.synchronize()
        return engine.capture(run)
