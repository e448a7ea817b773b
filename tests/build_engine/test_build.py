"""`edge-ssd build` from start to end: files, quantization report, gate, and wrong use."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace

import cv2
import numpy as np
import onnx
import pytest

from edge_ssd import Detector, SsdSpec
from edge_ssd.build_engine import build as building
from edge_ssd.build_engine import compile as compiling
from edge_ssd.build_engine import quantization_report, times
from edge_ssd.build_engine.build import build
from edge_ssd.build_engine.guard import only_build
from edge_ssd.build_engine.options import BuildOptions
from edge_ssd.build_engine.report_html import page
from edge_ssd.cli import main
from edge_ssd.files import file_sha256
from edge_ssd.machine.gpu import GpuInfo
from edge_ssd.model_files.known_models import is_known
from edge_ssd.model_files.manifest import EngineFile, read_manifest
from edge_ssd.models import DEMO_MODEL
from tests.build_engine.fake_builder import make_tensorrt
from tests.build_engine.graphs import residual, save
from tests.conftest import ROOT
from tests.model_files.test_manifest import MANIFEST

CALIBRATION = "demo://?seed=77&frames=20&scene=1"
UNSEEN = "demo://?seed=1000&frames=8&scene=1"


@pytest.fixture
def demo(tmp_path):
    """A copy of the demo model, to be built from."""
    path = tmp_path / "demo.onnx"
    path.write_bytes(DEMO_MODEL.read_bytes())
    SsdSpec.load(DEMO_MODEL.with_suffix(".json")).save(path.with_suffix(".json"))
    return path


def run(*arguments):
    return main(["build", *map(str, arguments), "--threads", "1"])


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def folder(tmp_path, rng):
    """A model and calibration images, both small."""
    images = tmp_path / "images"
    images.mkdir()
    for i in range(4):
        cv2.imwrite(str(images / f"{i}.png"), rng.integers(0, 256, (60, 80, 3), np.uint8))
    return save(tmp_path, residual()).parent


def test_two_builds_into_one_onnx_file(folder, capsys):
    """The calibration of the second would not even begin."""
    command = (
        folder / "small.onnx",
        "--precision",
        "fp16",
        "--runtime",
        "cpu",
        "--calibration",
        folder / "images",
    )
    with only_build(folder / "small.fp16.onnx"):
        assert run(*command) == 1
    assert "small.fp16.onnx: another build is writing this file; wait for it" in capsys.readouterr().err
    assert names_in(folder) == ["images", "small.json", "small.onnx"]
    assert run(*command) == 0
    assert not list(folder.glob(".*"))


def test_a_manifest_names_no_file_outside_of_its_folder(folder):
    (folder / "engines").mkdir()
    for name in ("../small.onnx", "link.onnx"):
        manifest = replace(MANIFEST, onnx=name, onnx_sha256=file_sha256(folder / "small.onnx"))
        path = folder / "engines" / "small.engine"
        path.write_bytes(b"plan")
        EngineFile(SsdSpec.load(folder / "small.json"), manifest).save(path)
        (folder / "engines" / "link.onnx").unlink(missing_ok=True)
        (folder / "engines" / "link.onnx").symlink_to("../small.onnx")
        with pytest.raises(ValueError, match=r"expected the name of a file|is a link out of its folder"):
            building.rebuild(path)


def test_fp16_for_the_cpu(folder, capsys):
    path = folder / "small.onnx"
    assert run(path, "--precision", "fp16", "--runtime", "cpu", "--calibration", folder / "images") == 0
    assert names_in(folder) == [
        "images",
        "small.calibration.json",
        "small.fp16.json",
        "small.fp16.onnx",
        "small.json",
        "small.onnx",
    ]
    assert "small.fp16.onnx" in capsys.readouterr().out
    Detector.load(folder / "small.fp16.onnx").close()


def test_what_was_built_here_needs_no_trial(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx, "save", onnx.save_model)  # not the tests' own, which remembers
    monkeypatch.setenv("EDGE_SSD_CACHE", str(tmp_path / "cache"))
    assert run(folder / "small.onnx", "--precision", "fp16", "--runtime", "cpu") == 0
    assert is_known(file_sha256(folder / "small.fp16.onnx"), "any engine")
    assert not is_known(file_sha256(folder / "small.onnx"), "any engine")


def test_fp16_without_images_says_that_nothing_was_watched(folder, capsys):
    assert run(folder / "small.onnx", "--precision", "fp16", "--runtime", "cpu") == 0
    assert "FP16 was not watched for values beyond 30000" in capsys.readouterr().err


def test_an_engine_in_another_folder_has_its_onnx_file_beside_it(folder):
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx-cu13 is installed on Linux x86-64 alone")
    (folder / "out").mkdir()
    out = folder / "out" / "robot.engine"
    assert run(folder / "small.onnx", "--precision", "fp32", "--runtime", "rtx", "--out", out) == 0
    assert names_in(folder / "out") == ["robot.engine", "robot.engine.json", "small.json", "small.onnx"]
    assert main(["build", str(out)]) == 0  # again, from there


def built_elsewhere(folder, monkeypatch):
    """The files beside an FP32 engine in another folder; TensorRT is left out."""
    monkeypatch.setattr(building, "find_target", lambda *a: "target")
    monkeypatch.setattr(building, "compile_engine", lambda *a: None)
    out = folder / "out"
    out.mkdir(exist_ok=True)
    options = BuildOptions(
        str(folder / "small.onnx"),
        "fp32",
        runtime="rtx",
        out=str(out / "robot.engine"),
        threads=1,
        progress=False,
    )
    return build(options).onnx


def test_another_model_in_the_folder_of_the_engine_is_left_alone(folder, monkeypatch):
    path = built_elsewhere(folder, monkeypatch)
    assert path.read_bytes() == (folder / "small.onnx").read_bytes()
    before = path.stat().st_mtime_ns
    assert built_elsewhere(folder, monkeypatch) == path  # again, onto the same
    assert path.stat().st_mtime_ns == before
    save(folder, residual(seed=1))
    with pytest.raises(
        ValueError, match=r"out/small\.onnx: is there already, and is not what the engine is built"
    ):
        built_elsewhere(folder, monkeypatch)
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("change", [lambda text: text.replace('"dog"', '"wolf"'), lambda text: "no spec"])
def test_another_spec_in_the_folder_of_the_engine_is_left_alone(folder, monkeypatch, change):
    spec_path = built_elsewhere(folder, monkeypatch).with_suffix(".json")
    assert SsdSpec.load(spec_path) == SsdSpec.load(folder / "small.json")
    changed = change(spec_path.read_text())
    spec_path.write_text(changed)
    spec_path.with_suffix(".onnx").unlink()
    with pytest.raises(ValueError, match=r"out/small\.json: is there already"):
        built_elsewhere(folder, monkeypatch)
    assert spec_path.read_text() == changed
    assert names_in(folder / "out") == ["small.json"]  # nothing was written before that was seen


def test_a_spec_in_another_hand_is_the_same_spec(folder, monkeypatch):
    spec_path = built_elsewhere(folder, monkeypatch).with_suffix(".json")
    by_hand = json.dumps(json.loads(spec_path.read_text()), indent=7)
    spec_path.write_text(by_hand)
    built_elsewhere(folder, monkeypatch)
    assert spec_path.read_text() == by_hand


@pytest.mark.parametrize("location", ["small.data", "parts/w0"])
def test_weights_that_lie_apart_come_along(folder, monkeypatch, location):
    proto, path = onnx.load(folder / "small.onnx"), folder / "small.onnx"
    (folder / "parts").mkdir()
    onnx.save(proto, path, save_as_external_data=True, location=location, size_threshold=1024)
    Detector.load(built_elsewhere(folder, monkeypatch), threads=1).close()
    assert (folder / "out" / location).read_bytes() == (folder / location).read_bytes()


def test_what_no_engine_can_be_made_of_here_is_said_before_the_work(folder, capsys, monkeypatch):
    """A GPU that is not there, and a batch that the model does not take: neither waits for the calibration."""
    arguments = ["--precision", "int8", "--calibration", folder / "images"]
    monkeypatch.setitem(sys.modules, "tensorrt", make_tensorrt("10.3.0"))
    monkeypatch.setattr(building.CalibrationImages, "__iter__", lambda self: pytest.fail("calibrated"))

    def no_gpu():
        raise OSError("no NVIDIA driver on this machine")

    monkeypatch.setattr(compiling, "gpu_info", no_gpu)
    assert run(folder / "small.onnx", *arguments, "--runtime", "tensorrt") == 1
    assert "needs the GPU that the engine will run on" in capsys.readouterr().err
    monkeypatch.setattr(compiling, "gpu_info", lambda: GpuInfo("Orin", (8, 7), True, "540", (12, 6)))
    save(folder, residual(shape=(4, 3, 100, 100)))
    assert run(folder / "small.onnx", *arguments, "--runtime", "tensorrt") == 1
    assert "build it with --batch 4 4 4" in capsys.readouterr().err


def test_int8_engine_of_the_installed_tensorrt(folder, capsys):
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx-cu13 is installed on Linux x86-64 alone")
    path = folder / "small.onnx"
    assert run(path, "--precision", "int8", "--calibration", folder / "images", "--runtime", "rtx") == 0
    found = read_manifest(folder / "small.int8.rtx.engine")
    manifest = found.manifest
    assert (found.spec, manifest.precision) == (SsdSpec.load(path.with_suffix(".json")), "int8")
    assert (manifest.onnx, manifest.onnx_sha256) == (
        "small.int8.onnx",
        file_sha256(folder / "small.int8.onnx"),
    )
    assert (manifest.source, manifest.source_sha256) == ("small.onnx", file_sha256(path))
    assert len(manifest.calibration_sha256) == 64
    printed = capsys.readouterr()
    assert "4 images are few to calibrate with" in printed.err
    assert main(["build", str(folder / "small.int8.rtx.engine")]) == 0  # again, from the ONNX file beside it


def test_the_command_in_the_manifest_builds_the_same(folder):
    options = BuildOptions(
        str(folder / "small.onnx"),
        "int8",
        runtime="cpu",
        calibration=str(folder / "images"),
        method="minmax",
        batch=(1, 4, 8),
        workspace_bytes=3 << 30,
        targets=((8, 6),),
        hardware_compatible=True,
        data="demo://?seed=1&frames=2",
        max_drop=0.5,
    )
    import argparse
    import shlex

    from edge_ssd.commands import build as command

    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    words = shlex.split(options.command())
    assert words[:2] == ["edge-ssd", "build"]
    parsed = vars(parser.parse_args(words[2:]))
    assert parsed["batch"] == [1, 4, 8]
    assert parsed["workspace_gib"] == 3 << 30
    assert parsed["compute_capability"] == [(8, 6)]
    for name in (
        "model",
        "precision",
        "runtime",
        "calibration",
        "method",
        "hardware_compatible",
        "data",
        "max_drop",
    ):
        assert parsed[name] == getattr(options, name)


def test_the_quantization_report_of_an_int8_build(demo, capsys, monkeypatch):
    pytest.importorskip("pycocotools")
    monkeypatch.setattr(building, "_SENSITIVITY_IMAGES", 1)
    # All 33 take long, and a few show the same; which is to blame is looked at elsewhere.
    all_kinds = building.kind_of_layers
    monkeypatch.setattr(building, "kind_of_layers", lambda graph: dict([*all_kinds(graph).items()][:4]))
    monkeypatch.setattr(times, "_ROUNDS", 1)
    arguments = [
        "--precision",
        "int8",
        "--runtime",
        "cpu",
        "--calibration",
        CALIBRATION,
        "--calibration-images",
        "8",
    ]
    assert run(demo, *arguments, "--data", UNSEEN, "--max-drop", "3") == 0
    assert "the budget of 3 holds" in capsys.readouterr().out
    report = json.loads((demo.parent / "demo.int8-cpu.report.json").read_text())
    fp32, fp16, int8 = report["precisions"]
    assert fp32["AP"] > 60
    assert abs(fp16["drop"]) < 1  # of a few images
    assert int8["drop"] == pytest.approx(fp32["AP"] - int8["AP"])
    assert set(fp32["classes"]) == set(SsdSpec.load(demo.with_suffix(".json")).class_names)
    assert (int8["file"], int8["bytes"]) == (
        "demo.int8-cpu.onnx",
        (demo.parent / "demo.int8-cpu.onnx").stat().st_size,
    )
    engine = next(name for name in fp32["times_ms"] if name.startswith("ONNX Runtime"))
    assert all(row["times_ms"][engine] > 0 for row in report["precisions"])
    assert len(report["layers"]) == 4
    assert report["calibration"]["images"] == 8
    assert len(report["calibration"]["sha256"]) == 64
    page_text = (demo.parent / "demo.int8-cpu.report.html").read_text()
    assert report["calibration"]["sha256"] in page_text
    assert page_text == page(report)


def gated(folder, monkeypatch, losses):
    """Runs a build whose AP falls by `losses[convolutions kept]` points; the report, or the error."""
    points = iter(())

    def evaluator(*_):
        state = {"calls": 0}

        def evaluate(path):
            state["calls"] += 1
            if state["calls"] <= 2:  # FP32, FP16
                return _report(0.5)
            kept = 8 - sum(name.endswith("_weight_int8") for name in _initializers(path))
            return _report(0.5 - losses(kept) / 100)

        return evaluate

    monkeypatch.setattr(quantization_report, "Evaluator", evaluator)
    monkeypatch.setattr(building, "find_target", lambda *a: "target")
    monkeypatch.setattr(building, "compile_engine", lambda *a: points)
    options = BuildOptions(
        str(folder / "small.onnx"),
        "int8",
        runtime="rtx",
        calibration=str(folder / "images"),
        data="x",
        max_drop=0.5,
        threads=1,
        progress=False,
    )
    return build(options)


def _report(ap):
    return {"AP": ap, "AP50": ap, "classes": {"cat": {"AP": ap}, "dog": {"AP": None}}, "images": 1}


def _initializers(path):
    return [tensor.name for tensor in onnx.load(path).graph.initializer]


@pytest.mark.parametrize("needed", [0, 1, 3, 8])
def test_convolutions_are_kept_in_fp16_until_the_budget_holds(folder, monkeypatch, needed):
    built = gated(folder, monkeypatch, lambda kept: 0.4 if kept >= needed else 2.0)
    assert sum(name.endswith("_weight_int8") for name in _initializers(built.onnx)) == 8 - needed
    report = json.loads((folder / "small.int8.report.json").read_text())
    assert report["holds"]
    assert len(report["kept_fp16"]) == needed
    assert sum(layer["kept"] for layer in report["layers"]) == needed
    kept = [layer["name"] for layer in report["layers"]][:needed]
    assert report["kept_fp16"] == kept  # those to blame most
    assert ("kept in FP16" in built.verdict) == bool(needed)


def test_a_budget_that_cannot_hold_is_said_and_no_int8_is_built(folder, monkeypatch):
    with pytest.raises(
        ValueError, match=r"the budget of 0\.5 cannot hold.*No INT8 was built.*FP16 model .*small\.fp16\.onnx"
    ):
        gated(folder, monkeypatch, lambda kept: 2.0)
    report = json.loads((folder / "small.int8.report.json").read_text())
    assert not report["holds"]
    assert not (folder / "small.int8.onnx").exists()
    assert (folder / "small.fp16.onnx").is_file()
    assert 'class="verdict broken"' in (folder / "small.int8.report.html").read_text()


# ---------------------------------------------------------------------------------------------------------
# wrong use


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--precision", "fp32"], "runs on the CPU in FP32 as it is"),
        (["--precision", "int8"], "INT8 needs images of what the camera will see"),
        (
            ["--precision", "fp16", "--max-drop", "1", "--data", "demo://?frames=2"],
            "goes with --precision int8",
        ),
        (["--precision", "fp16", "--data", "demo://?frames=2"], "data: goes with --precision int8"),
        (["--precision", "int8", "--calibration", "no-such-folder"], "no such folder of calibration images"),
        (["--batch", "4", "2", "8"], "expected 1 <= MIN <= OPT <= MAX, got 4 2 8"),
        (["--out", "no-such-folder/x.onnx"], "no such folder to write to"),
        (["--out", "small.onnx"], "is the model itself"),
        (["--out", "x.engine"], r"expected a name that ends in \.onnx"),
        (["--calibration", "images", "--calibration-images", "0"], "expected at least 1"),
    ],
)
def test_wrong_use_is_one_line(folder, capsys, arguments, said, monkeypatch):
    monkeypatch.chdir(folder)
    before = names_in(folder)
    assert run("small.onnx", "--runtime", "cpu", *arguments) == 1
    printed = capsys.readouterr().err
    (line,) = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert re.search(said, line)
    assert names_in(folder) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--max-drop", "x"], "expected AP points from 0 to 100, got 'x'"),
        (["--max-drop", "-1"], "expected AP points from 0 to 100, got '-1'"),
        (["--compute-capability", "86"], "expected a compute capability such as 8.6, got '86'"),
        (["--workspace-gib", "0"], "expected GiB above 0, got '0'"),
        (["--workspace-gib", "inf"], "expected GiB above 0, got 'inf'"),
    ],
)
def test_values_of_no_kind_are_exit_code_2(folder, capsys, arguments, said):
    with pytest.raises(SystemExit) as ended:
        run(folder / "small.onnx", *arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_without_tensorrt_the_error_names_the_packages(folder, capsys, monkeypatch):
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    assert run(folder / "small.onnx") == 1
    said = capsys.readouterr().err
    for words in ("JetPack", "edge-ssd[tensorrt]", "--runtime rtx", "--runtime cpu"):
        assert words in said


def test_without_onnx_the_error_names_the_extra(folder, capsys, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("edge_ssd.build_engine.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert run(folder / "small.onnx") == 1
    assert "pip install edge-ssd[build]" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["edge_ssd.build_engine", "build_engine"])
def test_it_is_a_program_of_its_own(module):
    import subprocess

    done = subprocess.run(
        [sys.executable, "-m", module, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "--max-drop" in done.stdout
