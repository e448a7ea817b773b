"""The CUDA sources of this folder, as one text each."""

from __future__ import annotations

from pathlib import Path

KERNELS = ("preprocess", "score_candidates", "class_nms", "merge", "clock")

# Results are to be the reference's: no contraction of a * b + c into one rounding, no fast math.
OPTIONS = ("--std=c++17", "--fmad=false")

_FOLDER = Path(__file__).parent


def kernel_source(name: str) -> str:
    """The text of NAME.cu with common.cuh in front, lines numbered as in the files.

    CuPy's disk cache looks at the text alone, so an #include would let it serve old code.
    """
    parts = (_FOLDER / "common.cuh", _FOLDER / f"{name}.cu")
    return "".join(f'#line 1 "{path.name}"\n{path.read_text(encoding="utf-8")}' for path in parts)
