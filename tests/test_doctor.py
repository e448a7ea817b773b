"""`edge-ssd doctor`: what it finds, what it advises, and that it finds something on a bare install too."""

from __future__ import annotations

import json
import sys

import cv2
import onnxruntime
import pytest

from edge_ssd import cli, doctor
from edge_ssd.doctor import Finding, examine, will_run


def found(name):
    (finding,) = [finding for finding in examine() if finding.name == name]
    return finding


@pytest.fixture
def without(monkeypatch):
    """Makes packages impossible to import."""

    def without(*packages):
        for package in packages:
            monkeypatch.setitem(sys.modules, package, None)

    return without


def test_this_machine_runs_onnx_models():
    assert found("OpenCV") == Finding("OpenCV", True, cv2.__version__)
    assert found("ONNX Runtime").detail.startswith(onnxruntime.__version__)
    assert "ONNX models on the CPU: edge-ssd run --model M.onnx" in will_run(examine())


def test_everything_that_is_missing_has_advice():
    for finding in examine():
        assert finding.present or finding.advice, finding.name


def test_a_bare_install_runs_nothing_and_says_what_to_install(without, capsys):
    without("cv2", "onnxruntime", "torch")
    assert will_run(examine()) == []
    assert cli.main(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert "--  OpenCV" in shown
    assert "-> pip install edge-ssd[cpu]; on a Jetson, JetPack's python3-opencv" in shown
    assert shown.splitlines()[-1] == "nothing will run yet; follow the advice above"


def test_an_opencv_without_its_system_library_says_which(monkeypatch, without):
    class NoLibrary:
        def find_spec(self, name, *_):
            if name == "cv2":
                raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")

    monkeypatch.delitem(sys.modules, "cv2")
    monkeypatch.setattr(sys, "meta_path", [NoLibrary(), *sys.meta_path])
    finding = found("OpenCV")
    assert "libGL.so.1" in finding.detail
    assert "libgl1" in finding.advice


def test_parts_that_opencv_was_built_without(monkeypatch):
    build = "  GUI:                           NONE\n\n  Video I/O:\n    FFMPEG:    YES\n    GStreamer:   NO\n"
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: build)
    assert found("video files and network streams").present
    assert not found("cameras through V4L2").present
    assert not found("CSI cameras (Jetson)").present
    window = found("windows (--show)")
    assert not window.present
    assert window.advice == "install opencv-python, not opencv-python-headless"


def test_a_camera_without_permission_says_what_to_do(monkeypatch, tmp_path):
    (tmp_path / "video0").touch()
    monkeypatch.setattr(doctor, "_DEVICES", tmp_path)
    assert found(f"camera {tmp_path}/video0") == Finding(f"camera {tmp_path}/video0", True, "unnamed")
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    assert "group 'video'" in found(f"camera {tmp_path}/video0").advice


def test_the_findings_as_json(capsys):
    assert cli.main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report) == {"findings", "will_run"}
    assert {"name", "present", "detail", "advice"} == set(report["findings"][0])
