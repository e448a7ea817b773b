"""The quantization report's page: whole, self-contained, and the committed example is what the code writes."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest

from edge_ssd.build_engine import quantization_report
from edge_ssd.build_engine.report_html import page
from edge_ssd.files import file_sha256
from edge_ssd.models import DEMO_MODEL
from tests.conftest import ROOT


class _Balanced(HTMLParser):
    """Whether every element that is opened is closed, in order."""

    def __init__(self):
        super().__init__()
        self.open, self.addresses = [], []

    def handle_starttag(self, tag, attributes):
        self.addresses += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def example(**changes):
    row = {
        "precision": "fp32",
        "file": "a<b>.onnx",
        "bytes": 1 << 20,
        "AP": 50.0,
        "AP50": 70.0,
        "drop": 0.0,
        "classes": {"cat & dog": 50.0, "none": None},
        "times_ms": {"Engine": 3.0},
        "not_recommended": [],
    }
    return {
        "model": "a<b>.onnx",
        "source_sha256": "s",
        "command": "edge-ssd build 'a<b>.onnx'",
        "data": {"address": "photos", "split": "val"},
        "calibration": {"address": "photos", "images": 3, "method": "minmax", "sha256": "c"},
        "max_drop": 0.5,
        "holds": True,
        "verdict": "fine",
        "precisions": [
            row,
            {**row, "precision": "int8", "times_ms": {"Engine": 4.0}, "not_recommended": ["Engine"]},
        ],
        "kept_fp16": ["x"],
        "layers": [
            {"name": "x", "kind": "first", "gain": 0.5, "kept": True},
            {"name": "y" * 80, "kind": "other", "gain": -0.3, "kept": False},
        ],
        "search": [{"kept": 0, "drop": 2.0}, {"kept": 1, "drop": 0.3}],
        "machine": {"cpu": "c", "cores": 2, "onnxruntime": "1", "onnx": "1"},
        **changes,
    }


@pytest.mark.parametrize("changes", [{}, {"layers": []}, {"holds": False}, {"max_drop": None}])
def test_the_page_is_whole_and_needs_nothing_else(changes):
    parser = _Balanced()
    text = page(example(**changes))
    parser.feed(text)
    assert parser.open == []
    assert parser.addresses == []
    assert "a&lt;b&gt;.onnx" in text
    assert "a<b>" not in text


def test_the_page_marks_what_is_slower_and_what_is_kept():
    text = page(example())
    assert text.count("not recommended</span>") == 1
    assert "(kept in FP16)" in text
    assert "0 kept: 2.00 points lost; 1 kept: 0.30 points lost" in text


def test_a_precision_slower_than_the_one_above_is_not_recommended(monkeypatch):
    times = {"ORT": {"a": 3.0, "b": 4.0, "c": 2.0}, "OV": {"a": 3.0, "b": 3.1, "c": 5.0}}
    monkeypatch.setattr(quantization_report, "time_files", lambda *a: times)
    rows = [{"times_ms": {}, "not_recommended": []} for _ in range(3)]
    quantization_report.add_times(rows, ("a", "b", "c"), None, "cpu")
    assert [row["not_recommended"] for row in rows] == [[], ["ORT"], ["OV"]]


def test_the_committed_example_is_what_the_code_writes():
    report = json.loads((ROOT / "docs" / "int8_report.json").read_text())
    assert (ROOT / "docs" / "int8_report.html").read_text() == page(report)
    assert report["source_sha256"] == file_sha256(DEMO_MODEL)
    _, fp16, int8 = report["precisions"]
    assert abs(fp16["drop"]) <= 0.1
    assert int8["drop"] <= 0.5
