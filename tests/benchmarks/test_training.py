"""The benchmark of training on a small network: what it reports and writes."""

from __future__ import annotations

import json
import sys

import pytest

torch = pytest.importorskip("torch")

from benchmarks import training  # noqa: E402

pytestmark = pytest.mark.torch


def test_report_is_written_with_the_command_that_made_it(tmp_path, monkeypatch, capsys):
    options = ["--input-size", "96", "--batch", "2", "--steps", "1", "--workers", "0", "--threads", "1"]
    frames = "demo://?seed=1&frames=20&size=128x96"
    out = tmp_path / "results" / "small"
    monkeypatch.setattr(sys, "argv", ["training", "--data", frames, *options, "--out", str(out)])
    monkeypatch.setattr(training, "AUGMENTED", 20)
    threads = torch.get_num_threads()
    assert training.main() == 0
    torch.set_num_threads(threads)
    report = json.loads(out.with_suffix(".json").read_text())
    assert report["command"].startswith(
        f"python -m benchmarks.training --data {frames} --arch ssd320_resnet16"
    )
    assert report["input"] == "96x96"
    for name in ("loop", "loader", "augmented", "step", "forward_backward"):
        assert next(value for key, value in report.items() if key.startswith(name)) > 0
    assert report["loss_share"] == report["loss_ms"] / report["step_ms"]
    assert "loop_images_per_s" in out.with_suffix(".md").read_text()
    assert "loop_images_per_s" in capsys.readouterr().out
