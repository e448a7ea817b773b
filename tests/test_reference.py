"""The definition and the kernels name each other."""

from __future__ import annotations

import inspect
import re

import pytest

from edge_ssd import reference
from tests.conftest import ROOT

# Kernels that are steps of a frame's way, with what their head comment says they do.
TWINS = {
    path.name: found.group(1)
    for path in sorted((ROOT / "kernels").glob("*.cu"))
    if (found := re.search(r"^// Twin: edge_ssd\.reference\.(.*)\.$", path.read_text(encoding="utf-8"), re.M))
}


def test_every_step_has_its_kernel():
    assert set(TWINS) == {"preprocess.cu", "score_candidates.cu", "class_nms.cu", "merge.cu"}


@pytest.mark.parametrize("kernel", TWINS)
def test_a_kernel_and_its_twins_name_each_other(kernel):
    names = re.findall(r"\w+", re.sub(r"\b(with|and)\b", "", TWINS[kernel]))
    assert names[0] == kernel.removesuffix(".cu")
    for name in names:
        assert kernel in inspect.getdoc(getattr(reference, name)).splitlines()[0]


def test_the_fast_path_takes_the_same_arguments(steps):
    for name in ("preprocess", "postprocess", "score_candidates", "nms"):
        expected = inspect.signature(getattr(reference, name))
        assert inspect.signature(getattr(steps, name)) == expected
