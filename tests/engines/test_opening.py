"""A model that is not known is opened in a process of its own first; how that ends is one line."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import numpy as np
import pytest
from onnx import helper, numpy_helper

from edge_ssd import Detector, limits
from edge_ssd.engines import opening
from edge_ssd.engines.opening import Trial, check_graph, check_opening
from edge_ssd.model_files.onnx_file import BadModel
from edge_ssd.models import DEMO_MODEL
from tests.conftest import ROOT
from tests.hostile.broken_onnx import node_of, save, set_constant, small_spec, small_ssd

TRIAL = Trial("onnxruntime", "1.0", "ONNX Runtime")


@pytest.fixture(autouse=True)
def unknown(tmp_path, monkeypatch):
    """No model is known."""
    monkeypatch.setenv("EDGE_SSD_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def started(monkeypatch):
    """The processes that are started, as their arguments."""
    found, run = [], subprocess.run

    def counted(*arguments, **options):
        found.append(options)
        return run(*arguments, **options)

    monkeypatch.setattr(subprocess, "run", counted)
    return found


def instead(monkeypatch, code):
    """What the process does instead of opening a model."""
    monkeypatch.setattr(opening, "_START", f"import os, sys, time; sys.stdin.read(); {code}")


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_model_is_tried_once_for_each_engine(tmp_path, started, engine):
    if engine == "openvino":
        pytest.importorskip("openvino")
    path = save(tmp_path, small_ssd())
    for _ in range(2):
        with Detector.load(path, engine=engine, precision="fp32") as detector:
            detector.detect(np.zeros((20, 20, 3), np.uint8))
        assert len(started) == 1


def test_other_weights_or_another_size_are_another_model(tmp_path, started):
    path = save(tmp_path, small_ssd())
    check_opening(path, TRIAL, small_spec())
    check_opening(path, TRIAL)
    save(tmp_path, small_ssd(seed=1))
    check_opening(path, TRIAL)
    assert len(started) == 3


def test_a_shipped_model_is_not_tried(tmp_path, started):
    path = tmp_path / "renamed.onnx"
    path.write_bytes(DEMO_MODEL.read_bytes())
    check_opening(path, TRIAL)
    assert not started


def test_what_the_engine_refuses_is_said_in_its_words(tmp_path):
    model = small_ssd()
    set_constant(model, "loc_shape", np.array([0, 0, 0]))
    path = save(tmp_path, model)
    with pytest.raises(
        ValueError, match=r"m\.onnx: the network fails in ONNX Runtime \(.*cannot be reshaped"
    ):
        check_opening(path, TRIAL, small_spec())
    assert not (tmp_path / "cache").exists()


def test_what_the_check_refuses_starts_no_process(tmp_path, started):
    model = small_ssd()
    del node_of(model, "a").input[1]
    with pytest.raises(BadModel, match="has 1 inputs"):
        check_opening(save(tmp_path, model), TRIAL)
    assert not started


def test_a_model_that_does_not_fit_its_spec_is_not_remembered(tmp_path, started):
    """It could not be fed; whoever opens it says why."""
    model = small_ssd()
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 64
    path = save(tmp_path, model)
    for _ in range(2):
        with pytest.raises(
            ValueError, match=r"input 'image' is \['B', 3, 64, 32\], the spec says \(B, 3, 32, 32\)"
        ):
            Detector.load(path, engine="onnxruntime")
    assert len(started) == 2


@pytest.mark.parametrize(
    ("code", "end"),
    [
        ("os.kill(os.getpid(), 11)", r"crashes on this model, in a process of its own \(SIGSEGV\); refused$"),
        ("os.abort()", r"\(SIGABRT\); refused$"),
        ("os._exit(3)", r"\(exit code 3\); refused$"),
        ("pass", r"\(exit code 0\); refused$"),
        ("print('{\"ran\": true}', flush=True); os.abort()", r"\(SIGABRT\); refused$"),
        ("print('[1]')", r"\(exit code 0\); refused$"),
        ("time.sleep(60)", r"has not opened this model after 0.5 s; refused\. .*: EDGE_SSD_LOAD_SECONDS=3$"),
    ],
)
def test_a_crash_and_a_hang_are_one_line(tmp_path, monkeypatch, code, end):
    instead(monkeypatch, code)
    monkeypatch.setenv("EDGE_SSD_LOAD_SECONDS", "0.5" if "sleep" in code else "20")
    path = save(tmp_path, small_ssd())
    start = time.monotonic()
    with pytest.raises(ValueError, match=rf"m\.onnx: ONNX Runtime .*{end}"):
        check_opening(path, TRIAL)
    assert time.monotonic() - start < 5
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_model_that_takes_more_memory_than_it_may(tmp_path, engine):
    """A map of 8 x 4 x 4 numbers is laid out a million times, 4 GB."""
    pytest.importorskip(engine)
    model = small_ssd()
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 1, 1000, 1000]), "times"))
    model.graph.node.insert(2, helper.make_node("Tile", ["b", "times"], ["many"]))
    node_of(model, "loc_map").input[0] = "many"
    model.graph.output[0].type.tensor_type.ClearField("shape")
    path = save(tmp_path, model)
    with pytest.raises(
        ValueError, match=r"needs more than 0\.6 GB for this model; refused\. .*LOAD_GIGABYTES=2$"
    ):
        check_opening(path, Trial(engine, "1.0", engine), small_spec())


def test_the_limits_grow_with_the_file_the_input_and_what_the_user_says(monkeypatch):
    assert limits.load_bytes(0, 0) == 600_000_000
    assert limits.load_bytes(100_000_000, 0) == 1_600_000_000
    assert limits.load_bytes(0, 512 * 512) == 600_000_000 + 4096 * 512 * 512
    assert limits.load_bytes(0, 512 * 512, priors=24564) == 600_000_000 + 16384 * 24564
    assert limits.load_bytes(0, 4096 * 4096, priors=16) == 600_000_000 + 16384 * 16
    monkeypatch.setenv("EDGE_SSD_LOAD_GIGABYTES", "5")
    assert limits.load_bytes(0, 0) == 5_000_000_000
    monkeypatch.setenv("EDGE_SSD_LOAD_GIGABYTES", "much")
    with pytest.raises(ValueError, match="EDGE_SSD_LOAD_GIGABYTES: expected a number above 0, got 'much'"):
        limits.load_bytes(0, 0)


@pytest.mark.parametrize(
    "executable", ["", None, "/opt/robot/controller", "/usr/bin/blender", "/usr/bin/uwsgi"]
)
def test_a_program_that_is_no_python_goes_by_the_check_alone(tmp_path, monkeypatch, started, executable):
    monkeypatch.setattr(sys, "executable", executable)
    path = save(tmp_path, small_ssd())
    check_opening(path, TRIAL)
    assert not started
    model = small_ssd()
    del node_of(model, "a").input[1]
    with pytest.raises(BadModel, match="has 1 inputs"):
        check_opening(save(tmp_path, model), TRIAL)


def test_a_frozen_program_goes_by_the_check_alone(tmp_path, monkeypatch, started):
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    check_opening(save(tmp_path, small_ssd()), TRIAL)
    assert not started


def test_neither_the_users_program_nor_the_working_folder_is_imported(tmp_path):
    """The process would run the one again, and take the other's modules for Python's own."""
    path = save(tmp_path, small_ssd())
    (tmp_path / "json.py").write_text("raise SystemExit('json of the working folder')")
    (tmp_path / "numpy.py").write_text("raise SystemExit('numpy of the working folder')")
    program = tmp_path / "program" / "mine.py"
    program.parent.mkdir()
    program.write_text(
        f"print('once')\nfrom edge_ssd import Detector\n"
        f"print(Detector.load({str(path)!r}, engine='onnxruntime').class_names)\n"
    )
    done = subprocess.run(
        [sys.executable, program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "once\n('cat', 'dog')\n"
    assert (tmp_path / "cache" / "known_models.txt").exists()


def test_openvino_does_not_see_shapes_that_contradict_each_other(tmp_path):
    """It wrote beyond its memory for this one, and the program ended later, or not."""
    pytest.importorskip("openvino")
    model = small_ssd()
    set_constant(model, "loc_shape", np.array([0, 0, 0]))
    with pytest.raises(ValueError, match=r"m\.onnx: its shapes contradict each other \(.*\(4\) vs \(16\)\)"):
        check_opening(save(tmp_path, model), Trial("openvino", "1.0", "OpenVINO"), small_spec())


def test_openvino_does_not_give_other_shapes_than_the_file_says(tmp_path):
    """Where the `onnx` package cannot tell: a later opset than it knows."""
    pytest.importorskip("openvino")
    model = small_ssd()
    model.opset_import[0].version = 99
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 15
    with pytest.raises(
        ValueError, match=r"m\.onnx: output 'loc' is \[1, 16, 4\], the file says \[None, 15, 4\]"
    ):
        check_opening(save(tmp_path, model), Trial("openvino", "1.0", "OpenVINO"), small_spec())


@pytest.mark.parametrize("change", ["no shapes", "out of order", "old shapes inside"])
def test_openvino_takes_what_exporters_leave_behind(tmp_path, change):
    pytest.importorskip("openvino")
    model = small_ssd()
    if change == "no shapes":
        for output in model.graph.output:
            output.type.tensor_type.ClearField("shape")
    elif change == "old shapes inside":
        model.graph.value_info.append(helper.make_tensor_value_info("a", 1, [7, 7, 7, 7]))
    else:
        nodes = [type(node).FromString(node.SerializeToString()) for node in model.graph.node]
        del model.graph.node[:]
        model.graph.node.extend(reversed(nodes))
    check_opening(save(tmp_path, model), Trial("openvino", "1.0", "OpenVINO"), small_spec())


def test_a_model_with_more_names_than_arguments_have_room_for(tmp_path):
    model = small_ssd()
    for i in range(3000):
        output = model.graph.output.add()
        output.CopyFrom(model.graph.output[0])
        output.name = f"{i:0200}"
        node = model.graph.node.add(op_type="Identity", input=["loc"], output=[output.name])
        assert node.output
    check_opening(save(tmp_path, model), TRIAL, small_spec())
    assert (tmp_path / "cache" / "known_models.txt").exists()


class TestCheckGraph:
    """Of what the `onnx` package reads, and engines that are not ours."""

    def test_its_errors_are_left_to_who_reads_it(self, tmp_path, started):
        model = small_ssd()
        set_constant(model, "loc_shape", np.array([0, 0, 0]))
        check_graph(save(tmp_path, model))
        assert len(started) == 1

    def test_a_crash_is_not(self, tmp_path, monkeypatch):
        instead(monkeypatch, "os.abort()")
        with pytest.raises(
            ValueError, match=r"m\.onnx: the onnx package crashes on this model, .* \(SIGABRT\)"
        ):
            check_graph(save(tmp_path, small_ssd()))

    def test_a_later_opset_than_the_checker_knows_passes(self, tmp_path):
        model = small_ssd()
        model.opset_import[0].version = 200
        check_graph(save(tmp_path, model))

    def test_without_onnx_the_check_alone_counts(self, tmp_path, monkeypatch, started):
        import importlib.metadata

        def missing(name):
            raise importlib.metadata.PackageNotFoundError(name)

        monkeypatch.setattr(importlib.metadata, "version", missing)
        model = small_ssd()
        check_graph(save(tmp_path, model))
        assert not started
        del node_of(model, "a").input[1]
        with pytest.raises(ValueError, match=r"m\.onnx: not a whole ONNX model \(Conv .* has 1 inputs"):
            check_graph(save(tmp_path, model))
