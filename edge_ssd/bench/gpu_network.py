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


def heads_of(device, engine, blob):
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
    return tuple(device.to_host(device.as_array(output))[:1] for output in outputs)


def capture_network(device, engine, batch):
    """The Graph of one run of the network on a copy of `batch` (on the host) that lies on the device."""
    on_device = device.array(batch)
    with device.stream:
        for _ in range(2):
            engine.infer(on_device)
        device.stream.synchronize()
        return engine.capture(lambda: engine.infer(on_device))
