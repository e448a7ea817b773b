"""A network on the simulated device: a DeviceEngine (see edge_ssd.engines) around a function of NumPy arrays."""

from __future__ import annotations

import numpy as np


class SimulatedEngine:
    """network: (B, 3, H, W) -> loc, conf of any shape that a spec takes, on the host.

    sizes: batch sizes it takes; any when empty.   failure: why it cannot be captured; "" when it can.
    dtype: of its input and outputs.   calls: how often the network ran.
    """

    description = "simulated engine"

    def __init__(self, device, network, input_size, sizes=(), capturable=True, failure="", dtype=np.float32):
        self._device, self._network, self._input_size = device, network, input_size
        self._sizes, self._failure = sizes, failure
        self.capturable, self.input_dtype = capturable, np.dtype(dtype)
        self.max_batch = max(sizes, default=0)
        self._outputs = {}
        self.calls = 0
        self.is_closed = False

    def output_shapes(self, batch_size):
        if self._sizes and batch_size not in self._sizes:
            raise ValueError(f"batch: this engine takes {self._sizes} images at a time, got {batch_size}")
        outputs = self._network(np.zeros((batch_size, 3, *self._input_size), np.float32))
        return dict(zip(("loc", "conf"), (output.shape for output in outputs)))

    def infer(self, batch):
        key = batch.ctypes.data
        if key not in self._outputs:
            shapes = self.output_shapes(len(batch)).values()
            self._outputs[key] = tuple(self._device.empty(shape, self.input_dtype) for shape in shapes)
        outputs = self._outputs[key]

        def run():
            self.calls += 1
            for place, output in zip(outputs, self._network(batch.astype(np.float32))):
                place[...] = output

        self._device.enqueue(run)
        return outputs

    def capture(self, steps):
        if self._failure:
            raise RuntimeError(self._failure)
        with self._device.recording() as work:
            steps()
        return _Graph(self._device, work)

    def close(self):
        self.is_closed = True


class _Graph:
    def __init__(self, device, work):
        self._device, self._work = device, work

    def launch(self):
        for piece in self._work:
            self._device.enqueue(piece)
