"""ONNX files: what the graph looks like, that it computes what torch does, and what is refused."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

from edge_ssd.files import file_sha256  # noqa: E402
from edge_ssd.model_files.known_models import is_known  # noqa: E402
from edge_ssd.networks import build_model  # noqa: E402
from edge_ssd.spec import SsdSpec  # noqa: E402
from edge_ssd.training import export_onnx as module  # noqa: E402
from edge_ssd.training.export_onnx import export_onnx, fold_batch_norms  # noqa: E402

pytestmark = pytest.mark.torch

NAMES = ["a", "b"]


def settled(arch, **options):
    """A network with norms that are not the identity."""
    torch.manual_seed(0)
    model = build_model(arch, len(NAMES) + 1, **options)
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
            torch.nn.init.uniform_(layer.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return model.eval()


@pytest.fixture(scope="module")
def small():
    return settled("ssd320_resnet16", input_size=96)


@pytest.fixture(scope="module")
def exported(small, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "small.onnx"
    export_onnx(small, small.spec(NAMES), path)
    return path


def test_two_exports_into_one_file_are_refused_and_the_old_pair_stays(small, tmp_path, monkeypatch):
    path = tmp_path / "small.onnx"
    export_onnx(small, small.spec(NAMES), path)
    before = path.read_bytes(), path.with_suffix(".json").read_bytes()

    def meanwhile(*_):
        with pytest.raises(
            ValueError, match=r"small\.onnx: another export is writing this file; wait for it"
        ):
            export_onnx(small, small.spec(["c", "d"]), path)
        raise ValueError("differs from torch")

    monkeypatch.setattr(module, "_compare", meanwhile)
    with pytest.raises(ValueError, match="differs from torch"):
        export_onnx(small, small.spec(["c", "d"]), path)
    assert (path.read_bytes(), path.with_suffix(".json").read_bytes()) == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["small.json", "small.onnx"]


def run(path, batch):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["loc", "conf"], {"image": batch})


def test_what_was_exported_here_needs_no_trial(exported):
    assert is_known(file_sha256(exported), "any engine")


@pytest.mark.parametrize("count", [1, 2, 5])
def test_any_batch_size_gives_what_torch_gives(small, exported, count):
    batch = np.random.default_rng(count).normal(size=(count, 3, 96, 96)).astype(np.float32)
    with torch.inference_mode():
        loc, conf = small(torch.from_numpy(batch))
    found = run(exported, batch)
    np.testing.assert_allclose(found[0], loc, atol=1e-4)
    np.testing.assert_allclose(found[1], conf, atol=1e-4)


def test_graph_has_fixed_sizes_but_for_the_batch_and_no_shape_arithmetic(exported):
    graph = onnx.load(exported).graph
    sizes = [
        [d.dim_param or d.dim_value for d in entry.type.tensor_type.shape.dim]
        for entry in (*graph.input, *graph.output)
    ]
    priors = sizes[1][1]
    assert [entry.name for entry in (*graph.input, *graph.output)] == ["image", "loc", "conf"]
    assert sizes == [["batch", 3, 96, 96], ["batch", priors, 4], ["batch", priors, 3]]
    kinds = Counter(node.op_type for node in graph.node)
    assert set(kinds) == {"Conv", "Relu", "Add", "Transpose", "Reshape", "Concat"}


def test_one_file_and_its_spec_are_written_and_nothing_else(small, exported):
    assert sorted(path.name for path in exported.parent.iterdir()) == ["small.json", "small.onnx"]
    assert SsdSpec.load(exported.with_suffix(".json")) == small.spec(NAMES)
    weights = sum(p.numel() for p in small.parameters()) * 4
    assert exported.stat().st_size < 1.05 * weights + 100_000


def test_model_is_left_as_it_was(small, exported):
    assert any(isinstance(layer, torch.nn.BatchNorm2d) for layer in small.modules())


@pytest.mark.parametrize("arch", ["ssdlite320_mobilenet_v3_large", "ssd320_resnet16"])
def test_folding_leaves_no_norm_and_the_same_outputs(arch):
    model = settled(arch)
    batch = torch.rand(1, 3, 320, 320)
    with torch.inference_mode():
        before = model(batch)
        folded = fold_batch_norms(model)
        after = folded(batch)
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in folded.modules())
    for wanted, found in zip(before, after):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


class OneConvolution(torch.nn.Module):
    """Any module that gives (loc, conf) can be exported."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 7, 96)

    def forward(self, batch):
        rows = self.conv(batch).permute(0, 2, 3, 1).reshape(-1, 1, 7)
        return rows[..., :4], rows[..., 4:]


def test_graph_that_differs_from_torch_takes_no_files_place(small, tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"the last good one")
    monkeypatch.setattr(module, "TOLERANCE", -1.0)
    with pytest.raises(ValueError, match="output 'loc': ONNX Runtime differs from torch"):
        export_onnx(OneConvolution(), small.spec(NAMES), path)
    assert path.read_bytes() == b"the last good one"
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_other_suffix_is_refused(small, tmp_path):
    with pytest.raises(ValueError, match=r"expected a name that ends in \.onnx"):
        export_onnx(small, small.spec(NAMES), tmp_path / "m.engine")


def test_the_file_says_nothing_of_the_machine_that_wrote_it(exported):
    data = exported.read_bytes()
    for place in (b"site-packages", b".py", b"stack_trace"):
        assert place not in data
