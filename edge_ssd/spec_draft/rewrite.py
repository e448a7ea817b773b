"""A model with its post-processing cut off, beside the spec of it. Needs the `onnx` package."""

from __future__ import annotations

from pathlib import Path

from ..engines.opening import check_graph
from ..files import replacing


def without_nms(path: Path, target: Path) -> list[str]:
    """Writes the model `path` to `target`, ended in front of its NonMaxSuppression; what was done, as sentences.

    What the suppression took, boxes and scores, become the outputs. Raises ValueError where there is not exactly one,
    or it takes centers and sizes; ImportError without `onnx`.
    """
    check_graph(path)
    try:
        import onnx
        from onnx.utils import Extractor
    except ImportError as error:
        raise ImportError(
            f"{path}: cutting off NMS needs the 'onnx' package ({error}). pip install onnx"
        ) from error
    model = onnx.load(str(path))
    nodes = [node for node in model.graph.node if node.op_type == "NonMaxSuppression"]
    if len(nodes) != 1:
        raise ValueError(
            f"{path}: expected one NonMaxSuppression to cut off, got {len(nodes)}; export without it"
        )
    (node,) = nodes
    if any(attribute.name == "center_point_box" and attribute.i for attribute in node.attribute):
        raise ValueError(f"{path}: its NonMaxSuppression takes centers and sizes, which no spec describes")
    boxes, scores = node.input[:2]
    kept = {entry.name for entry in (*model.graph.value_info, *model.graph.output)}
    for name in (boxes, scores):
        if name not in kept:
            model.graph.value_info.append(
                onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            )
    inputs = [entry.name for entry in model.graph.input]
    cut = Extractor(model).extract_model(inputs, [boxes, scores])
    cut.ir_version = model.ir_version
    with replacing(target) as temporary:
        onnx.save(cut, str(temporary))
    return [
        f"{target}: the model without {node.name or 'its NonMaxSuppression'} and what comes behind; its outputs are "
        f"what that took, boxes {boxes!r} and scores {scores!r}"
    ]
