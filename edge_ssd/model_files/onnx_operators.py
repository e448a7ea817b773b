"""How many inputs and outputs the operators take that SSDs are made of, by the release of ONNX's operators."""

from __future__ import annotations

from collections.abc import Iterable

ANY = 1 << 31

# Least and most inputs, least and most outputs.
Counts = tuple[int, int, int, int]


def _same(counts: Counts, names: str) -> Iterable[tuple[str, tuple[tuple[int, Counts], ...]]]:
    return ((name, ((1, counts),)) for name in names.split())


_REDUCTIONS = ("L1", "L2", "Max", "Mean", "Min", "Prod", "SumSquare")

# {operator: ((first opset that counts so, Counts), ...)}; tests hold it against the `onnx` package.
_OPERATORS: dict[str, tuple[tuple[int, Counts], ...]] = dict(
    [
        *_same(
            (1, 1, 1, 1),
            "Abs ArgMax ArgMin AveragePool Cast Ceil ConstantOfShape DepthToSpace Elu Erf Exp Flatten Floor Gelu "
            "GlobalAveragePool GlobalMaxPool HardSigmoid HardSwish Identity LRN LeakyRelu Log LogSoftmax "
            "LpNormalization Mish Neg NonZero Not Reciprocal Relu Round Selu Shape Sigmoid Sign Size Softmax Softplus "
            "SpaceToDepth Sqrt Tanh Transpose",
        ),
        *_same(
            (2, 2, 1, 1),
            "Add And CumSum Div Equal Expand Gather GatherElements GatherND Greater GreaterOrEqual Less LessOrEqual "
            "MatMul Mod Mul Or PRelu Pow Sub Xor",
        ),
        *_same((3, 3, 1, 1), "InstanceNormalization OneHot Range ScatterElements ScatterND Where"),
        *_same((2, 3, 1, 1), "Conv ConvTranspose DequantizeLinear QuantizeLinear"),
        *_same((1, ANY, 1, 1), "Concat Max Min Sum"),
        ("BatchNormalization", ((1, (5, 5, 1, 5)), (14, (5, 5, 1, 3)))),
        ("Clip", ((1, (1, 1, 1, 1)), (11, (1, 3, 1, 1)))),
        ("Constant", ((1, (0, 0, 1, 1)),)),
        ("Dropout", ((1, (1, 1, 1, 2)), (12, (1, 3, 1, 2)))),
        ("DynamicQuantizeLinear", ((11, (1, 1, 3, 3)),)),
        ("Gemm", ((1, (3, 3, 1, 1)), (11, (2, 3, 1, 1)))),
        ("If", ((1, (1, 1, 1, ANY)),)),
        ("LayerNormalization", ((17, (2, 3, 1, 3)),)),
        ("Loop", ((1, (3, ANY, 1, ANY)), (11, (2, ANY, 1, ANY)))),
        ("MaxPool", ((1, (1, 1, 1, 1)), (8, (1, 1, 1, 2)))),
        ("Pad", ((1, (1, 1, 1, 1)), (11, (2, 3, 1, 1)), (18, (2, 4, 1, 1)))),
        ("QLinearConv", ((10, (8, 9, 1, 1)),)),
        ("QLinearMatMul", ((10, (8, 8, 1, 1)),)),
        *((f"Reduce{kind}", ((1, (1, 1, 1, 1)), (18, (1, 2, 1, 1)))) for kind in _REDUCTIONS),
        ("ReduceSum", ((1, (1, 1, 1, 1)), (13, (1, 2, 1, 1)))),
        ("Reshape", ((1, (1, 1, 1, 1)), (5, (2, 2, 1, 1)))),
        ("Resize", ((10, (2, 2, 1, 1)), (11, (3, 4, 1, 1)), (13, (1, 4, 1, 1)))),
        ("Slice", ((1, (1, 1, 1, 1)), (10, (3, 5, 1, 1)))),
        ("Split", ((1, (1, 2, 1, ANY)), (2, (1, 1, 1, ANY)), (13, (1, 2, 1, ANY)))),
        ("Squeeze", ((1, (1, 1, 1, 1)), (13, (1, 2, 1, 1)))),
        ("Tile", ((1, (3, 3, 1, 1)), (6, (2, 2, 1, 1)))),
        ("TopK", ((1, (1, 1, 2, 2)), (10, (2, 2, 2, 2)))),
        ("Unsqueeze", ((1, (1, 1, 1, 1)), (13, (2, 2, 1, 1)))),
        ("Upsample", ((1, (1, 1, 1, 1)), (9, (2, 2, 1, 1)))),
    ]
)

# Exporters leave out what these need by the letter, and engines take it: the regions of interest of Resize.
OFTEN_EMPTY = ("Resize", "Loop")


def operators() -> Iterable[str]:
    """The operators that are known here."""
    return _OPERATORS.keys()


def counts_of(op_type: str, opset: int) -> Counts | None:
    """The Counts of an operator of ONNX's own domain; None for one that is not known here."""
    found = None
    for first, counts in _OPERATORS.get(op_type, ()):
        if found is None or first <= opset:
            found = counts
    return found
