"""The torch engine of the GPU, with streams, graphs and CuPy that are stood in for; the network runs on the CPU."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edge_ssd.backends.heads import check_heads  # noqa: E402
from edge_ssd.priors import make_priors  # noqa: E402
from tests.engines.fake_cupy import FakeArray, assert_is_device_engine  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture
def module(engines, cupy, monkeypatch):
    """The engine's module, where torch's CUDA calls go to `cupy.calls` and the GPU is the CPU."""
    calls = cupy.calls

    @contextmanager
    def stream(stream):
        calls.append(("enter", stream))
        yield
        calls.append(("leave", stream))

    @contextmanager
    def graph(graph, pool, stream, capture_error_mode):
        calls.append(("capture", pool, stream, capture_error_mode))
        yield
        calls.append(("captured",))
        if cupy.stream.breaks_with:
            raise cupy.stream.breaks_with

    class CUDAGraph:
        def replay(self):
            calls.append(("replay",))

    pools = iter(range(1, 10))
    for name, value in {
        "stream": stream,
        "graph": graph,
        "CUDAGraph": CUDAGraph,
        "ExternalStream": lambda pointer, device: pointer,
        "graph_pool_handle": lambda: next(pools),
        "synchronize": lambda: None,
        "empty_cache": lambda: calls.append(("empty_cache",)),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    module = engines("torch_cuda_engine")
    monkeypatch.setattr(module, "_gpu", lambda: (torch.device("cpu"), "a GPU"))
    return module


def batch_of(size, seed=0, dtype=np.float32):
    values = np.random.default_rng(seed).normal(size=(size, 3, 96, 96))
    return FakeArray(values.astype(dtype))


def expected_of(path, batch):
    from edge_ssd.engines.torch_engine import TorchEngine

    return TorchEngine.open(path)[0].infer(np.asarray(batch.host, np.float32))


def test_the_engine_gives_what_the_network_gives(module, path):
    engine, spec = module.TorchCudaEngine.open(path, half=False)
    assert (engine.input_dtype, engine.max_batch, engine.capturable) == (np.float32, 0, True)
    for size in (1, 3):
        batch = batch_of(size, seed=size)
        outputs = engine.infer(batch)
        for found, expected in zip(outputs, expected_of(path, batch)):
            np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)
            assert found.is_contiguous()
        assert engine.output_shapes(size) == dict(zip(("loc", "conf"), (tuple(o.shape) for o in outputs)))
    check_heads(engine.output_shapes(2), spec, len(make_priors(spec)))
    assert_is_device_engine(engine)


def test_half_precision_is_the_default_and_is_close(module, path):
    engine, _ = module.TorchCudaEngine.open(path)
    assert engine.input_dtype == np.float16
    assert "float16" in engine.description
    assert engine.description.endswith("a GPU")
    batch = batch_of(1, dtype=np.float16)
    for found, expected in zip(engine.infer(batch), expected_of(path, batch)):
        assert found.dtype == torch.float16
        # Ten bits of mantissa through some twenty layers.
        np.testing.assert_allclose(found.float().numpy(), expected, atol=0.02 * np.abs(expected).max())


def test_the_batch_is_read_where_it_lies(module, path):
    engine, _ = module.TorchCudaEngine.open(path, half=False)
    batch = batch_of(1)
    first = engine.infer(batch)[1].clone()
    batch.host[:] = batch_of(1, seed=9).host
    second = engine.infer(batch)[1]
    assert engine._bindings[batch.data.ptr, batch.shape].tensor.data_ptr() == batch.data.ptr
    assert not torch.equal(first, second)
    np.testing.assert_allclose(second.numpy(), expected_of(path, batch)[1], atol=1e-4)


def test_each_batch_array_has_outputs_that_stay_in_their_place(module, path):
    engine, _ = module.TorchCudaEngine.open(path, half=False)
    first, second = batch_of(1), batch_of(1, seed=1)
    addresses = [[o.data_ptr() for o in engine.infer(batch)] for batch in (first, second, first, second)]
    assert addresses[:2] == addresses[2:]
    assert len({*addresses[0], *addresses[1]}) == 4
    before = engine.infer(first)[1].clone()
    engine.infer(second)
    assert torch.equal(engine.infer(first)[1], before)


def test_everything_happens_on_cupys_stream_of_that_moment(module, cupy, path):
    engine, _ = module.TorchCudaEngine.open(path, half=False)
    batch = batch_of(1)
    cupy.calls.clear()
    engine.infer(batch)
    cupy.stream.ptr = 78
    engine.infer(batch)
    assert cupy.calls == [("enter", 77), ("leave", 77), ("enter", 78), ("leave", 78)]


def test_a_capture_is_torchs_on_the_same_stream_and_of_this_thread_alone(module, cupy, path):
    engine, _ = module.TorchCudaEngine.open(path, half=False)
    batch = batch_of(1)
    engine.infer(batch)
    cupy.calls.clear()
    graph = engine.capture(lambda: engine.infer(batch))
    steps = [("enter", 77), ("capture", 1, 77, "thread_local"), ("enter", 77), ("leave", 77), ("captured",)]
    assert cupy.calls == [*steps, ("leave", 77)]
    cupy.calls.clear()
    cupy.stream.ptr = 78
    graph.launch()
    assert cupy.calls == [("enter", 78), ("replay",), ("leave", 78)]


def test_graphs_share_their_memory(module, cupy, path):
    engine, _ = module.TorchCudaEngine.open(path, half=False)
    graphs = [engine.capture(lambda: None) for _ in range(2)]
    assert [call[1] for call in cupy.calls if call[0] == "capture"] == [1, 1]
    graphs.clear()  # torch gives up memory that no graph is in any more
    engine.capture(lambda: None)
    assert [call[1] for call in cupy.calls if call[0] == "capture"] == [1, 1, 2]


def test_a_capture_that_fails_is_reported_in_one_line_and_leaves_its_memory(module, cupy, path):
    engine, _ = module.TorchCudaEngine.open(path, half=False)
    cupy.stream.breaks_with = RuntimeError(
        "CUDA error: operation not permitted when stream is capturing\nCompile"
    )
    with pytest.raises(
        RuntimeError, match=r"cannot be captured in a CUDA graph \(CUDA error: .* capturing\)$"
    ):
        engine.capture(lambda: None)
    cupy.stream.breaks_with = None
    engine.capture(lambda: None)
    assert [call[1] for call in cupy.calls if call[0] == "capture"] == [1, 2]


@pytest.mark.parametrize(
    ("host", "what"),
    [
        (np.zeros((1, 3, 96, 96), np.float16), "half"),
        (np.zeros((1, 96, 96, 3), np.float32), "channels last"),
        (np.zeros((1, 3, 96, 192), np.float32)[..., ::2], "not contiguous"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(module, path, host, what):
    engine, _ = module.TorchCudaEngine.open(path, half=False)
    with pytest.raises(ValueError, match=r"batch: expected C-contiguous float32 \(1, 3, 96, 96\), got"):
        engine.infer(FakeArray(host))
    assert engine._bindings == {}, what


def test_the_settings_of_the_process_stay_as_they_were(module, path):
    before = (torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32)
    seen = []
    engine, _ = module.TorchCudaEngine.open(path, half=False)
    engine._network.register_forward_hook(lambda *_: seen.append(torch.backends.cudnn.benchmark))
    engine.infer(batch_of(1))
    assert seen == [True]
    assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32) == before


def test_closing_lets_go_of_the_network_and_the_buffers(module, cupy, path):
    engine, _ = module.TorchCudaEngine.open(path, half=False)
    engine.infer(batch_of(1))
    engine.close()
    assert (engine._network, engine._bindings) == (None, {})
    assert cupy.calls[-1] == ("empty_cache",)
    with pytest.raises(ValueError, match="the engine is closed"):
        engine.infer(batch_of(1))


def test_a_full_gpu_is_reported_in_one_line(module, path):
    def refuse(*_):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nSee documentation")

    engine, _ = module.TorchCudaEngine.open(path)
    engine._network.register_forward_hook(refuse)
    batch = batch_of(1, dtype=np.float16)
    with pytest.raises(
        MemoryError, match=r"^out of GPU memory\. Close other programs on the GPU, or take .*$"
    ):
        engine.infer(batch)
    with pytest.raises(RuntimeError, match=r"cannot be captured in a CUDA graph \(out of GPU memory"):
        engine.capture(lambda: engine.infer(batch))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_torch_that_cannot_use_a_gpu_says_so(engines, path):
    with pytest.raises(OSError, match=r"torch .* cannot use a GPU here; install torch for CUDA, or run"):
        engines("torch_cuda_engine").TorchCudaEngine.open(path)


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        (torch.cuda.graph.__init__, {"cuda_graph", "pool", "stream", "capture_error_mode"}),
        (torch.cuda.ExternalStream.__new__, {"stream_ptr", "device"}),
        (torch.backends.cudnn.flags, {"enabled", "benchmark", "allow_tf32"}),
    ],
)
def test_torch_has_the_parameters_that_are_given(function, wanted):
    import inspect

    assert wanted <= set(inspect.signature(function).parameters)
