"""Meters, arithmetic and comparisons of `edge-ssd bench`."""

from __future__ import annotations

import ctypes
import time

import numpy as np
import onnx
import pytest

from benchmarks import compare as compare_command
from edge_ssd.bench.compare import changes, comparable, lost_rows, slower
from edge_ssd.bench.disturbance import Watch, processes_cpu_s
from edge_ssd.bench.flops import giga_multiply_adds
from edge_ssd.bench.networks import QUIET, raise_background, random_network
from edge_ssd.bench.published import PUBLISHED, baselines
from edge_ssd.bench.report import SCHEMA, write_json
from edge_ssd.machine import facts
from edge_ssd.machine.energy import GpuMeter, RaplMeter, SampledMeter, board_watts
from edge_ssd.machine.facts import machine_facts
from edge_ssd.machine.nvml import gpu_held_back_s
from edge_ssd.models import DEMO_MODEL


class TestEnergy:
    """Counters of the kernel, as folders."""

    def counter(self, folder, microjoules):
        package = folder / "intel-rapl:0"
        package.mkdir(exist_ok=True)
        (package / "max_energy_range_uj").write_text("1000000\n")
        (package / "energy_uj").write_text(f"{microjoules}\n")

    def test_rapl_counts_and_wraps(self, tmp_path):
        self.counter(tmp_path, 900_000)
        with RaplMeter(tmp_path).measure() as joules:
            self.counter(tmp_path, 150_000)
        assert joules == [0.25]

    def test_no_counter_is_an_error(self, tmp_path):
        with pytest.raises(OSError, match="no RAPL counter"):
            RaplMeter(tmp_path)

    def test_the_board_of_a_jetson(self, tmp_path):
        chip = tmp_path / "hwmon3"
        chip.mkdir()
        values = {"in1_label": "VDD_IN", "in1_input": 5000, "curr1_input": 2000, "in2_label": "VDD_CPU"}
        for name, value in values.items():
            (chip / name).write_text(f"{value}\n")
        assert board_watts(tmp_path) == 10.0

    def test_watts_over_time_are_joules(self):
        meter = SampledMeter("test", lambda: 20.0, interval_s=0.01)
        start = time.perf_counter()
        with meter.measure() as joules:
            time.sleep(0.1)
        assert 2.0 <= joules[0] <= 20 * (time.perf_counter() - start)

    def test_watts_are_those_of_the_block(self):
        """The machine waits before it."""
        watts = [5.0]
        meter = SampledMeter("test", lambda: watts[0], interval_s=0.01)
        start = time.perf_counter()
        with meter.measure() as joules:
            watts[0] = 20.0
            time.sleep(0.05)
        assert 20 * 0.05 <= joules[0] <= 20 * (time.perf_counter() - start)

    def test_a_gpu_that_counts(self, monkeypatch):
        nvml = FakeNvml()
        monkeypatch.setattr(ctypes, "CDLL", lambda name: nvml)
        with GpuMeter().measure() as joules:
            nvml.millijoules += 1500
        assert joules == [1.5]
        nvml.status = 3  # NVML_ERROR_NOT_SUPPORTED
        with pytest.raises(OSError, match="the driver does not tell"):
            GpuMeter()

    def test_a_gpu_that_throttles(self, monkeypatch):
        nvml = FakeNvml()
        monkeypatch.setattr(ctypes, "CDLL", lambda name: nvml)
        watch = Watch(processes_cpu_s)
        nvml.violation_ns[1] += 3600 * 10**9
        held_back = [remark for remark in watch.verdict().remarks if "GPU" in remark]
        assert len(held_back) == 1
        assert held_back[0].startswith("throttled: the GPU's clock was held back for heat")
        nvml.status = 3
        assert gpu_held_back_s() == {}
        monkeypatch.setattr(ctypes, "CDLL", lambda name: object())  # a driver without these functions
        assert gpu_held_back_s() == {}


class FakeNvml:
    """libnvidia-ml, as far as it is asked."""

    millijoules, status = 10**12, 0

    def __init__(self):
        self.violation_ns = [10**9, 2 * 10**9]  # power, thermal

    def nvmlDeviceGetViolationStatus(self, gpu, policy, time):
        ctypes.cast(time, ctypes.POINTER(ctypes.c_ulonglong))[1] = self.violation_ns[policy]
        return self.status

    def nvmlInit_v2(self):
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index, handle):
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu, count):
        ctypes.cast(count, ctypes.POINTER(ctypes.c_ulonglong))[0] = self.millijoules
        return self.status


def test_multiply_adds_of_the_demo_model():
    assert giga_multiply_adds(DEMO_MODEL) == pytest.approx(0.94, abs=0.02)


def test_weights_listed_as_inputs_count_the_same(tmp_path):
    model = onnx.load(DEMO_MODEL)
    for tensor in model.graph.initializer:
        entry = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        model.graph.input.append(entry)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(1), "scalar"))
    model.graph.input.append(onnx.helper.make_tensor_value_info("scalar", 1, []))
    onnx.save(model, tmp_path / "old.onnx")
    assert giga_multiply_adds(tmp_path / "old.onnx") == giga_multiply_adds(DEMO_MODEL)


@pytest.mark.torch
def test_multiply_adds_are_those_that_torchvision_states(tmp_path):
    from edge_ssd.bench.networks import save_random_network

    path = save_random_network("ssdlite320_mobilenet_v3_large", tmp_path)
    assert giga_multiply_adds(path) == pytest.approx(0.58, abs=0.005)
    assert path.with_suffix(".pt").is_file()


def test_gpu_memory_is_that_of_the_process(monkeypatch):
    monkeypatch.setattr(facts, "output_of", lambda *_: "17, 300\n18, 512\n19, [N/A]")
    assert facts.gpu_memory_mib(18) == 512
    assert facts.gpu_memory_mib(19) is None
    assert facts.gpu_memory_mib(20) is None


def test_the_papers_figures():
    assert baselines(8732) == baselines(8732, 31.4) == (58, 46, 59)
    assert baselines(8732, 1.2) == ()  # as many boxes on another backbone
    assert baselines(24564) == (19, 22)
    assert baselines(14404) == ()
    assert all(0.5 < detector.voc_map < 0.81 for detector in PUBLISHED)


def test_facts_of_this_machine():
    facts = machine_facts()
    assert facts["cores"] >= 1
    assert facts["versions"]["edge_ssd"]
    assert facts["commit"]


def test_an_installed_package_has_no_commit(tmp_path, monkeypatch):
    """It may lie in an environment inside a checkout of something else."""
    monkeypatch.setattr(facts, "output_of", lambda *_: "0123456789ab")
    monkeypatch.delenv("EDGE_SSD_COMMIT", raising=False)
    assert facts.commit(tmp_path) == "unknown"
    monkeypatch.setenv("EDGE_SSD_COMMIT", "fedcba987654")
    assert facts.commit(tmp_path) == "fedcba987654"
    (tmp_path / ".git").mkdir()
    assert facts.commit(tmp_path).startswith("0123456789ab")


def report(fps, low=None, high=None, names=("ONNX Runtime",), cpu="A", remarks=(), threads=2):
    rows = [
        {
            "name": name,
            "kind": "edge_ssd",
            "precision": "fp32",
            "batch": 1,
            "status": "ok",
            "fps": {"median": fps, "low": low or 0.99 * fps, "high": high or 1.01 * fps},
            "stage_ms": {"frame": {"p50": 1e3 / fps}, "infer": {"p50": 900 / fps}},
        }
        for name in names
    ]
    facts = {"cpu": cpu, "cores": 2, "gpu": "", "power_mode": "", "clock_governor": ""}
    model = {"name": "m", "rows": rows, "machine_was": {"remarks": list(remarks)}}
    settings = {"source": "s", "image_size": "640x480", "threads": threads, "score_threshold": 0.5}
    return {"schema": SCHEMA, "machine": facts, "settings": settings, "models": [model]}


class TestCompare:
    """What got slower, and what only looks so."""

    def test_a_slower_row_is_found_with_its_stages(self):
        (change,) = slower(changes(report(100), report(80)), 0.1)
        assert change.ratio == pytest.approx(0.8)
        assert change.stages == pytest.approx({"frame": 1.25, "infer": 1.25})

    def test_less_than_the_threshold_is_none(self):
        assert slower(changes(report(100), report(95)), 0.1) == []

    def test_neither_is_what_the_spread_covers(self):
        assert slower(changes(report(100, 70, 110), report(80, 60, 90)), 0.1) == []

    def test_rows_that_are_gone(self):
        assert lost_rows(report(100, names=("a", "b")), report(100, names=("a",))) == ["m: b, fp32"]

    def test_other_machines_and_noise_are_said(self):
        said = list(comparable(report(1, cpu="A"), report(1, cpu="B", remarks=["noisy: x"])))
        assert said == ["cpu: 'A' before, 'B' after", "after, m: noisy: x"]

    def test_other_settings_are_said(self):
        assert list(comparable(report(1), report(1, threads=1))) == ["threads: 2 before, 1 after"]

    def test_a_threshold_in_percent_is_refused(self, capsys):
        with pytest.raises(SystemExit):
            compare_command.main(["a.json", "b.json", "--threshold", "10"])
        assert "expected a share from 0 to below 1" in capsys.readouterr().err

    @pytest.mark.parametrize(("after", "code"), [(100, 0), (70, 1)])
    def test_the_command(self, tmp_path, capsys, after, code):
        for name, fps in (("a", 100), ("b", after)):
            write_json(report(fps), tmp_path / f"{name}.json")
        assert compare_command.main([str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == code
        assert ("SLOWER" in capsys.readouterr().out) == bool(code)

    def test_a_file_that_is_none(self, tmp_path, capsys):
        assert compare_command.main([str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 1
        assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.torch
@pytest.mark.parametrize("arch", ["ssd300_vgg16", "ssdlite320_mobilenet_v3_large"])
def test_background_is_raised_in_a_network_that_is_prepared_too(arch):
    torch = pytest.importorskip("torch")
    from edge_ssd.engines.torch_network import prepare

    network, spec = random_network(arch)
    network = prepare(network)
    images = torch.rand(1, 3, *spec.input.size)
    with torch.inference_mode():
        before = network(images)[1].clone()
        raise_background(network, QUIET)
        after = network(images)[1]
    torch.testing.assert_close(after[..., 0], before[..., 0] + QUIET)
    torch.testing.assert_close(after[..., 1:], before[..., 1:])
