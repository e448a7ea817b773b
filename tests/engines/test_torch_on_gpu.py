"""The torch engine on a real GPU: plain, captured, and beside the same network on the CPU."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edge_ssd.engines.torch_engine import TorchEngine  # noqa: E402

pytestmark = [
    pytest.mark.torch,
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this torch cannot use a GPU"),
]

# Of the largest output: ten bits of mantissa through some twenty layers; cuDNN's float32 sums in another order.
TOLERANCES = {True: 0.02, False: 1e-3}


@pytest.fixture
def stream():
    import cupy

    with cupy.cuda.Stream(non_blocking=True) as stream:
        yield stream


def batches(count, half):
    """`count` device batches of two images, and what they hold."""
    import cupy

    rng = np.random.default_rng(0)
    hosts = [rng.normal(size=(2, 3, 96, 96)).astype(np.float16 if half else np.float32) for _ in range(count)]
    return [cupy.asarray(host) for host in hosts], hosts


def on_host(outputs):
    import cupy

    return [cupy.asnumpy(cupy.asarray(output)).astype(np.float32) for output in outputs]


@pytest.mark.parametrize("half", [True, False])
def test_plain_and_captured_runs_give_what_the_cpu_gives(path, stream, half):
    from edge_ssd.engines.torch_cuda_engine import TorchCudaEngine

    engine, _ = TorchCudaEngine.open(path, half)
    arrays, hosts = batches(2, half)
    graphs = []
    for array in arrays:
        for _ in range(2):
            outputs = engine.infer(array)
        stream.synchronize()
        plain = on_host(outputs)
        graphs.append((engine.capture(lambda array=array: engine.infer(array)), outputs, plain))
    for graph, outputs, plain in graphs * 3:  # in turns, as frames do
        with torch.inference_mode():  # where they were made: elsewhere they may not be changed
            for output in outputs:
                output.zero_()
        torch.cuda.synchronize()
        graph.launch()
        stream.synchronize()
        for found, expected in zip(on_host(outputs), plain):
            np.testing.assert_array_equal(found, expected)
    cpu, _ = TorchEngine.open(path)
    for (_, _, plain), host in zip(graphs, hosts):
        for found, expected in zip(plain, cpu.infer(host.astype(np.float32))):
            np.testing.assert_allclose(found, expected, atol=TOLERANCES[half] * np.abs(expected).max())
    engine.close()


def test_a_thousand_launches_allocate_nothing(path, stream):
    from edge_ssd.engines.torch_cuda_engine import TorchCudaEngine

    engine, _ = TorchCudaEngine.open(path)
    (array,), _ = batches(1, half=True)
    for _ in range(2):
        engine.infer(array)
    stream.synchronize()
    graph = engine.capture(lambda: engine.infer(array))
    graph.launch()
    stream.synchronize()
    before = torch.cuda.mem_get_info()
    for _ in range(1000):
        graph.launch()
    stream.synchronize()
    assert torch.cuda.mem_get_info() == before
    engine.close()
