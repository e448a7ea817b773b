"""Which engine and precision an ONNX model gets on the CPU, on any machine."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest

from edge_ssd import Detector, cli
from edge_ssd.engines import choice
from edge_ssd.engines.choice import (
    CpuEngine,
    choose_cpu_engine,
    openvino_precisions,
    usable_cpu_engines,
    wanted_precision,
)
from tests.conftest import ROOT
from tests.planted import save_cat_model

BOTH = {"onnxruntime", "openvino"}
ORT, OPENVINO, BF16 = (
    CpuEngine("onnxruntime", "fp32"),
    CpuEngine("openvino", "fp32"),
    CpuEngine("openvino", "bf16"),
)


@pytest.fixture(autouse=True)
def _no_setting(monkeypatch):
    monkeypatch.delenv("EDGE_SSD_PRECISION", raising=False)


@pytest.fixture
def machine(monkeypatch):
    """Makes this one a machine with these packages, whose CPU has BF16 or not."""

    def machine(installed, bf16):
        monkeypatch.setattr(choice, "find_spec", lambda package: package in installed)
        precisions = ("fp32", "bf16") if bf16 else ("fp32",)
        monkeypatch.setattr(
            choice, "openvino_precisions", lambda: precisions if "openvino" in installed else ()
        )

    return machine


@pytest.mark.parametrize(
    ("name", "bf16", "installed", "chosen"),
    [
        ("m.onnx", False, BOTH, ORT),
        ("m.onnx", True, BOTH, BF16),
        ("m.onnx", True, {"onnxruntime"}, ORT),
        ("m.onnx", False, {"openvino"}, OPENVINO),
        ("m.onnx", True, {"openvino"}, BF16),
        ("m.int8.onnx", False, BOTH, OPENVINO),
        ("m.int8.onnx", True, BOTH, BF16),
        ("m.int8.onnx", True, {"onnxruntime"}, ORT),
        ("m.int8-cpu.onnx", True, BOTH, ORT),
        ("m.int8-cpu.onnx", False, {"openvino"}, OPENVINO),
        ("m.onnx", True, set(), ORT),  # opening it says what to install
    ],
)
def test_the_fastest_is_chosen_by_file_and_cpu(machine, name, bf16, installed, chosen):
    machine(installed, bf16)
    assert choose_cpu_engine(name) == chosen


@pytest.mark.parametrize(
    ("name", "precision", "bf16", "installed", "chosen"),
    [
        ("m.onnx", "fp32", True, BOTH, ORT),
        ("m.int8.onnx", "fp32", True, BOTH, OPENVINO),
        ("m.onnx", "fp32", True, {"openvino"}, OPENVINO),
        ("m.onnx", "bf16", True, BOTH, BF16),
        ("m.int8-cpu.onnx", "bf16", True, BOTH, BF16),
        ("m.onnx", "bf16", False, BOTH, BF16),  # opening it says that this CPU has none
    ],
)
@pytest.mark.parametrize("by_environment", [False, True])
def test_a_precision_that_is_asked_for_is_taken(
    machine, monkeypatch, name, precision, bf16, installed, chosen, by_environment
):
    machine(installed, bf16)
    if by_environment:
        monkeypatch.setenv("EDGE_SSD_PRECISION", precision)
        assert choose_cpu_engine(name) == chosen
    else:
        assert choose_cpu_engine(name, precision=precision) == chosen


def test_who_asks_has_the_word_before_the_environment(machine, monkeypatch):
    machine(BOTH, bf16=True)
    monkeypatch.setenv("EDGE_SSD_PRECISION", "fp32")
    assert choose_cpu_engine("m.onnx", precision="bf16") == BF16
    monkeypatch.setenv("EDGE_SSD_PRECISION", "bf16")
    assert choose_cpu_engine("m.onnx", precision="fp32") == ORT


def test_an_engine_that_is_asked_for_is_taken(machine, monkeypatch):
    machine(BOTH, bf16=True)
    assert choose_cpu_engine("m.onnx", "onnxruntime") == ORT
    assert choose_cpu_engine("m.onnx", "openvino") == BF16
    assert choose_cpu_engine("m.onnx", "openvino", "fp32") == OPENVINO
    with pytest.raises(ValueError, match="ONNX Runtime computes in fp32 alone; bf16 needs --engine openvino"):
        choose_cpu_engine("m.onnx", "onnxruntime", "bf16")
    # The environment says what to prefer, and ONNX Runtime has but one.
    monkeypatch.setenv("EDGE_SSD_PRECISION", "bf16")
    assert choose_cpu_engine("m.onnx", "onnxruntime") == ORT


@pytest.mark.parametrize("engine", ["auto", "openvino"])
def test_bf16_without_openvino_says_what_to_install(machine, monkeypatch, engine):
    machine({"onnxruntime"}, bf16=False)
    with pytest.raises(ImportError, match=r"bf16 needs the 'openvino' package: .* or take --precision fp32"):
        choose_cpu_engine("m.onnx", engine, "bf16")
    monkeypatch.setenv("EDGE_SSD_PRECISION", "bf16")
    with pytest.raises(ImportError, match="EDGE_SSD_PRECISION=fp32"):
        choose_cpu_engine("m.onnx", engine)


def test_a_precision_that_is_none_is_an_error_for_every_engine(monkeypatch):
    monkeypatch.setenv("EDGE_SSD_PRECISION", "half")
    for engine in ("auto", "onnxruntime", "openvino"):
        with pytest.raises(
            ValueError, match="EDGE_SSD_PRECISION: expected one of auto, fp32, bf16, got 'half'"
        ):
            choose_cpu_engine("m.onnx", engine)


def test_a_precision_that_nothing_here_has_is_an_error(machine):
    machine(BOTH, bf16=False)
    with pytest.raises(ValueError, match="nothing on this machine computes in bf16; take --precision fp32"):
        usable_cpu_engines("bf16")


@pytest.mark.parametrize(
    ("value", "wanted"), [("", "auto"), ("auto", "auto"), ("bf16", "bf16"), ("FP32", None)]
)
def test_the_environment_is_checked(monkeypatch, value, wanted):
    monkeypatch.setenv("EDGE_SSD_PRECISION", value)
    if wanted:
        assert wanted_precision() == wanted
    else:
        with pytest.raises(
            ValueError, match="EDGE_SSD_PRECISION: expected one of auto, fp32, bf16, got 'FP32'"
        ):
            wanted_precision()


def test_an_openvino_that_cannot_be_imported_is_said_and_left_out(monkeypatch, caplog):
    monkeypatch.setattr(choice, "find_spec", lambda package: package in BOTH)
    monkeypatch.setitem(sys.modules, "edge_ssd.engines.openvino_engine", None)
    assert openvino_precisions() == ()
    assert choose_cpu_engine("m.onnx") == ORT
    assert "OpenVINO is installed and cannot be used" in caplog.text


def test_onnx_runtime_is_taken_without_importing_openvino():
    """Which takes a third of a second."""
    code = (
        "import sys; from edge_ssd.engines.choice import choose_cpu_engine as choose;"
        "choose('m.onnx', precision='fp32'); choose('m.int8-cpu.onnx'); print('openvino' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


class TestWhatAUserSees:
    """BF16 on and off, whatever this CPU has."""

    @pytest.fixture(autouse=True)
    def _needs_openvino(self):
        pytest.importorskip("openvino")

    @pytest.fixture
    def model(self, tmp_path):
        return str(save_cat_model(tmp_path))

    def summary(self, model, capfd, *options):
        outputs = ["--output", f"{model}.jsonl"]
        assert (
            cli.main(["run", "--source", "demo://?frames=2&size=80x64", "--model", model, *outputs, *options])
            == 0
        )
        return capfd.readouterr().err

    @pytest.mark.parametrize("bf16", ["0", "1"])
    def test_the_summary_says_bf16(self, model, capfd, monkeypatch, bf16):
        monkeypatch.setenv("EDGE_SSD_ASSUME_BF16", bf16)
        shown = self.summary(model, capfd)
        assert ("  precision bf16 in float layers: scores and boxes differ a little" in shown) is (
            bf16 == "1"
        )
        assert ("cat, OpenVINO" in shown) is (bf16 == "1")
        assert "precision bf16" not in self.summary(model, capfd, "--precision", "fp32")
        monkeypatch.setenv("EDGE_SSD_PRECISION", "fp32")
        assert "precision bf16" not in self.summary(model, capfd)

    def test_bf16_on_a_cpu_without_it_is_one_line(self, model, capfd, monkeypatch):
        monkeypatch.setenv("EDGE_SSD_ASSUME_BF16", "0")
        assert cli.main(["run", "--source", "demo://", "--model", model, "--precision", "bf16"]) == 1
        assert capfd.readouterr().err == (
            "error: precision: this CPU has no BF16 instructions; take --precision fp32\n"
        )

    @pytest.mark.parametrize("bf16", ["0", "1"])
    def test_doctor_says_what_auto_takes(self, capfd, monkeypatch, bf16):
        monkeypatch.setenv("EDGE_SSD_ASSUME_BF16", bf16)
        cli.main(["doctor", "--json"])
        findings = {f["name"]: f for f in json.loads(capfd.readouterr().out)["findings"]}
        chosen = "openvino (bf16)" if bf16 == "1" else "onnxruntime (fp32)"
        assert f"M.onnx in {chosen}" in findings["--engine auto"]["detail"]
        assert ("EDGE_SSD_PRECISION=fp32 turns it off" in findings["--engine auto"]["advice"]) is (
            bf16 == "1"
        )

    def test_doctor_names_a_precision_that_is_none(self, capfd, monkeypatch):
        monkeypatch.setenv("EDGE_SSD_PRECISION", "half")
        cli.main(["doctor"])
        assert "EDGE_SSD_PRECISION: expected one of auto, fp32, bf16, got 'half'" in capfd.readouterr().out

    def test_a_loaded_detector_tells(self, model, monkeypatch, caplog):
        caplog.set_level(logging.INFO)
        monkeypatch.setenv("EDGE_SSD_ASSUME_BF16", "1")
        assert Detector.load(model).precision == "bf16"
        assert Detector.load(model, precision="fp32").precision == "fp32"
