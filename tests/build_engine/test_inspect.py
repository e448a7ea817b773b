"""`edge-ssd inspect`: layers, precisions and sizes, of ONNX files and engines, without a GPU."""

from __future__ import annotations

import pytest

from edge_ssd.build_engine.fp16 import convert_to_fp16
from edge_ssd.build_engine.graph import Graph
from edge_ssd.build_engine.inspect_model import engine_text, inspect_onnx
from edge_ssd.build_engine.int8 import quantise
from edge_ssd.cli import main
from edge_ssd.files import file_sha256
from edge_ssd.model_files.manifest import EngineFile
from tests.build_engine.graphs import l2norm, residual, save, small_spec
from tests.model_files.test_manifest import MANIFEST


def by_name(layers):
    return {layer.name: layer for layer in layers}


def test_layers_of_a_float_model(tmp_path):
    layers = by_name(inspect_onnx(save(tmp_path, residual())))
    stem = layers["n_stem"]
    assert (stem.operator, stem.precision, stem.shape) == ("Conv", "fp32", (-1, 8, 50, 50))
    assert stem.weight_bytes == 4 * (8 * 3 * 9 + 8)
    assert layers["n_loc"].shape == (-1, 625, 4)


def test_precisions_of_a_derived_model(tmp_path):
    model = l2norm(channels=16)
    derived = convert_to_fp16(
        quantise(model, dict.fromkeys(Graph(model).activations(), (-4.0, 4.0)), ["n_stem"])
    )[0]
    layers = by_name(inspect_onnx(save(tmp_path, derived)))
    assert not {"Cast", "QuantizeLinear", "DequantizeLinear"} & {layer.operator for layer in layers.values()}
    precisions = {
        name: layers[name].precision for name in ("n_stem", "n_wide", "n_wide_relu_unit", "n_scaled")
    }
    assert precisions == {"n_stem": "fp16", "n_wide": "int8", "n_wide_relu_unit": "fp32", "n_scaled": "fp16"}
    # int8 weights, and for each of 16 channels a float16 scale, an int8 zero point and a float16 bias;
    # besides the scale and the zero point of its input.
    assert layers["n_wide"].weight_bytes == 16 * 8 * 9 + 16 * (2 + 1 + 2) + (2 + 1)


@pytest.fixture
def engine(tmp_path):
    onnx_path = save(tmp_path, residual())
    path = tmp_path / "small.fp16.engine"
    path.write_bytes(b"plan")
    values = {"onnx": "small.onnx", "onnx_sha256": file_sha256(onnx_path), "engine_sha256": file_sha256(path)}
    EngineFile(small_spec(), MANIFEST.__class__(**{**MANIFEST.__dict__, **values})).save(path)
    return path


def test_an_engine_shows_its_manifest_and_the_layers_of_its_onnx_file(engine):
    text = engine_text(engine)
    for words in (
        "TensorRT 10.3.0",
        "sm_87 (Orin (nvgpu))",
        "1 to 1, tuned for 1; 2 to 8, tuned for 4",
        "as it was built",
    ):
        assert words in text
    assert "n_b_skip" in text


def test_an_engine_that_was_changed_is_said_to_be(engine):
    engine.write_bytes(b"PLAN")
    assert "CHANGED since it was built" in engine_text(engine)
    engine.with_name("small.onnx").write_bytes(engine.with_name("small.onnx").read_bytes() + b"\x0a\x00")
    assert "(CHANGED since the engine was built)" in engine_text(engine)
    engine.with_name("small.onnx").unlink()
    assert "is not beside it" in engine_text(engine)


def test_the_command(engine, capsys):
    assert main(["inspect", str(engine)]) == 0
    assert main(["inspect", str(engine.with_name("small.onnx"))]) == 0
    shown = capsys.readouterr().out
    assert "8 Conv fp32" in shown
    assert main(["inspect", str(engine.with_name("none.onnx"))]) == 1
    assert "no such model file" in capsys.readouterr().err
