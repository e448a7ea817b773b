"""What a message says of a model that does not load, from what the engines say themselves."""

from __future__ import annotations

import pytest

from edge_ssd.model_files.load_advice import cannot_load


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("Unsupported model IR version: 20, max supported IR version: 14", "with model.ir_version = 14"),
        (
            "Fatal error: TRT:EfficientNMS_TRT(-1) is not a registered function/op",
            "EfficientNMS_TRT is an operator of",
        ),
        (
            "Fatal error: trt.plugins:BatchedNMSDynamic_TRT(-1) is not a registered function/op",
            "(BatchedNMSDynamic_TRT is an operator of TensorRT alone)",
        ),
        (
            "-- No conversion rule found for operations: TRT.BatchedNMS_TRT",
            "(BatchedNMS_TRT is an operator of",
        ),
        (
            "Fatal error: com.me:Foo(-1) is not a registered function/op",
            "needs the operator com.me:Foo, which Engine",
        ),
        (
            "has weights in 'w.bin', which is not there; copy it too",
            "(has weights in 'w.bin', which is not",
        ),
        ("not a whole ONNX file", "(not a whole ONNX file). Is the file complete, and is it ONNX?"),
    ],
)
def test_each_reason_has_its_way_out(tmp_path, reason, expected):
    text = str(cannot_load(tmp_path / "m.onnx", "Engine", reason))
    assert text.startswith(f"{tmp_path / 'm.onnx'}: Engine cannot load this model (")
    assert expected in text
