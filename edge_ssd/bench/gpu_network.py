"""The network alone on a GPU: in a CUDA graph of its own, nothing around it."""

from __future__ import annotations


def captured_network(engine, batch):
    """function(calls) that runs the network so many times and waits for the last.

    engine: a DeviceEngine, see `edge_ssd.engines`.   batch: (B, 3, H, W) on the host, in its input_dtype.
    """
    from ..kernels.device import Device

    device = Device()
    graph = capture_network(device, engine, batch)

    def run(calls):
        with device.stream:
            for _ in range(calls):
                graph.launch()
        device.stream.synchronize()

    return run


def capture_network(device, engine, batch):
    """The Graph of one run of the network on a copy of `batch` (on the host) that lies on the device."""
    on_device = device.array(batch)
    with device.stream:
        for _ in range(2):
            engine.infer(on_device)
        device.stream.synchronize()
        return engine.capture(lambda: engine.infer(on_device))
