"""`edge-ssd bench`, whole: a small model, its peers, the report and its page."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import numpy as np
import pytest

from edge_ssd import Detector
from edge_ssd.bench import candidates, check, disturbance, measure
from edge_ssd.bench.candidates import Candidate, Limits, candidates_of, float_model
from edge_ssd.bench.frames import MemorySource, load_images
from edge_ssd.bench.gpu_network import heads_of
from edge_ssd.bench.measure import Plan, row_of
from edge_ssd.bench.page import html_of
from edge_ssd.bench.peers import TorchvisionRunner
from edge_ssd.bench.report import SCHEMA_FILE, read_report, text_of
from edge_ssd.bench.runners import TorchCudaRunner
from edge_ssd.bench.worker import Worker, WorkerFailed
from edge_ssd.cli import main
from edge_ssd.engines.onnxruntime_engine import OnnxRuntimeEngine
from edge_ssd.spec import SsdSpec
from tests.kernels.simulated import SimulatedDevice
from tests.kernels.simulated_engine import SimulatedEngine
from tests.onnx_graphs import save_planted_model
from tests.specs import grid_spec

CAMERA = "demo://?seed=1&size=160x120&frames=3"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model that sees a cat in each quarter."""
    conf = np.tile([0.0, 3.0, -3.0], (4, 1))
    spec = replace(grid_spec(2, 2), name="quarters")
    return save_planted_model(tmp_path_factory.mktemp("model"), np.zeros((4, 4)), conf, spec)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    """What the command wrote."""
    folder = tmp_path_factory.mktemp("bench")
    command = ["bench", "--model", str(model), "--source", CAMERA, "--seconds", "0.1", "--batch", "1", "2"]
    assert main([*command, "--threads", "1", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def report(folder):
    return read_report(folder / "bench.json")


def rows_of(report):
    return {(row["name"], row["precision"], row["batch"]): row for row in report["models"][0]["rows"]}


class TestTheReport:
    """JSON by its schema, a page that needs nothing else."""

    def test_it_follows_its_schema(self, report):
        jsonschema.validate(report, json.loads(SCHEMA_FILE.read_text()))

    def test_ours_and_peers_are_measured(self, report):
        rows = rows_of(report)
        for name in ("ONNX Runtime", "OpenCV DNN"):
            row = rows[name, "fp32", 1]
            assert row["status"] == "ok", row
            assert row["fps"]["low"] <= row["fps"]["median"] <= row["fps"]["high"]
            assert row["network_fps"]["median"] > 0
            stages = row["stage_ms"]
            assert set(stages) == {"capture", "preprocess", "infer", "postprocess", "age", "frame"}
            parts = sum(stages[s]["p50"] for s in ("capture", "preprocess", "infer", "postprocess"))
            assert parts <= 1.5 * stages["frame"]["p50"]
            assert stages["frame"]["p50"] <= stages["frame"]["p99"] <= stages["frame"]["max"]
            assert len(row["fps_over_time"]) >= 3
        assert rows["ONNX Runtime", "fp32", 2]["status"] == "ok"
        assert ("OpenCV DNN", "fp32", 2) not in rows

    def test_what_is_missing_says_why(self, report):
        rows = rows_of(report)
        reasons = ("no checkpoint quarters.pt beside the model", "torch is not installed")
        assert rows["torch eager", "fp32", 1]["reason"] in reasons
        assert all(row["status"] == "ok" or row["reason"] for row in rows.values())

    def test_a_network_that_is_not_the_papers_stands_by_itself(self, report):
        (model,) = report["models"]
        assert model["titan_x_fps"] == []
        assert model["priors"] == 4
        assert "Titan X" in text_of(report)

    def test_the_page_needs_nothing_else(self, folder, report):
        text = (folder / "bench.html").read_text()
        assert "<script" not in text
        assert 'src="data:image/png;base64,' in text
        assert "http" not in text.replace("https://json-schema.org", "")
        assert "SSD300, early abstract" in text
        assert "Not measured" in text
        names = {path.name for path in folder.glob("*.png")}
        assert names == {f"quarters_{kind}.png" for kind in ("fps", "stages", "latency", "time")}

    def test_names_are_text_in_pages_and_plots(self, report):
        changed = json.loads(json.dumps(report))
        model = changed["models"][0]
        model["name"], model["network"] = r"$\bad{$<script>\x1b", "\u202e$^$" + "x" * 100_000
        for row in model["rows"]:
            row["name"] = r"<b>$x^$\x1b" + "x" * 1000
        html, files = html_of(changed)
        assert len(files) == 4
        assert "<script" not in html
        assert "<b>$x" not in html
        assert "\x1b" not in html
        assert "\u202e" not in html
        assert r"$\bad{$&lt;script&gt;\x1b" in html
        assert max(map(len, text_of(changed).splitlines())) < 300

    def test_networks_of_the_paper_are_compared(self, report):
        changed = json.loads(json.dumps(report))
        changed["models"][0]["titan_x_fps"] = [58, 46, 59]
        html, _ = html_of(changed)
        assert "<th>x 58</th>" in html
        assert "x 58" in text_of(changed)

    def test_a_report_of_something_else_is_refused(self, tmp_path):
        (tmp_path / "a.json").write_text('{"AP": 1}')
        with pytest.raises(ValueError, match=r"no report of edge-ssd bench"):
            read_report(tmp_path / "a.json")


class TestBadInput:
    """One line, exit code 1."""

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--model", "missing.onnx"], "missing.onnx: no such model file"),
            (["--model", "yolo"], "yolo"),
            (["--source", "demo://?seed=x"], "seed"),
            (["--source", "missing.mp4"], "missing.mp4"),
        ],
    )
    def test_it_is_named(self, capsys, arguments, said):
        assert main(["bench", *arguments]) == 1
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1

    def test_a_second_model_is_named_before_the_first_is_measured(self, model, capsys, monkeypatch):
        monkeypatch.setattr(measure, "measure", None)
        assert main(["bench", "--model", str(model), "--model", "missing.onnx", "--source", CAMERA]) == 1
        assert "missing.onnx: no such model file" in capsys.readouterr().err

    def test_threads_below_zero_are_wrong_use(self):
        with pytest.raises(SystemExit) as ended:
            main(["bench", "--threads", "-1"])
        assert ended.value.code == 2

    def test_a_live_source_measures_its_camera(self, monkeypatch):
        class Live:
            is_live = True

            def __enter__(self):
                return self

            def __exit__(self, *_):
                pass

        monkeypatch.setattr("edge_ssd.bench.frames.open_source", lambda _: Live())
        with pytest.raises(ValueError, match="a benchmark needs a recording"):
            load_images("0")


class TestTheCheck:
    """Heads and detections are those of ONNX Runtime in float32, or the row is not timed."""

    @pytest.fixture
    def worker(self, model):
        """What a Worker answers whose results are right."""
        spec = SsdSpec.load(model.with_suffix(".json"))
        detector = Detector.load(model, threads=1, engine="onnxruntime")

        def detect(count):
            found = [detector.detect(image) for image in load_images(CAMERA)[:count]]
            return [(one.boxes, one.scores, one.labels) for one in found]

        return SimpleNamespace(detect=detect, heads=OnnxRuntimeEngine(model, spec, 1).infer)

    def problem(self, model, worker):
        candidate = Candidate("x", "peer", "fp32", model, "opencv")
        return check.problem_of(candidate, worker, load_images(CAMERA), Plan())

    def test_the_right_results_have_no_problem(self, model, worker):
        assert self.problem(model, worker) == ""

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda boxes, scores, labels: (boxes[1:], scores[1:], labels[1:]), "misses 2 of 8"),
            (lambda boxes, scores, labels: (boxes, scores, 1 - labels), "misses 8 of 8"),
            (lambda boxes, scores, labels: (boxes + 40, scores, labels), "misses"),
            (lambda boxes, scores, labels: (boxes, scores - 0.3, labels), ""),
        ],
    )
    def test_detections_of_its_own_are_seen(self, model, worker, change, said):
        """As other pre- or post-processing would give: the heads are right."""
        right = worker.detect
        worker.detect = lambda count: [change(*one) for one in right(count)]
        assert said in self.problem(model, worker)
        assert bool(said) == bool(self.problem(model, worker))

    def test_detections_that_are_not_there_are_seen(self, model, worker):
        right = worker.detect
        more = np.array([[5, 5, 20, 20]], np.float32), np.array([0.99]), np.array([1])
        worker.detect = lambda n: [tuple(map(np.concatenate, zip(one, more))) for one in right(n)]
        assert "makes up 2 of 10" in self.problem(model, worker)

    def test_heads_of_another_size_are_a_problem_and_no_crash(self, model, worker):
        worker.heads = lambda blob: (np.zeros((1, 9, 4)), np.zeros((1, 9, 3)))
        assert "loc has 36 values, 16 are expected" in self.problem(model, worker)

    def test_a_float_model_that_is_broken_is_said(self, tmp_path, worker):
        (tmp_path / "m.onnx").touch()
        assert "nothing to compare with" in self.problem(tmp_path / "m.int8.onnx", worker)

    @pytest.mark.parametrize(
        ("name", "of"),
        [
            ("m.onnx", "m.onnx"),
            ("m.pt", "m.onnx"),
            ("m.int8-cpu.onnx", "m.onnx"),
            ("m.v2.fp16.rtx.engine", "m.v2.onnx"),
            ("m.v2.onnx", "m.v2.onnx"),
        ],
    )
    def test_the_float_model_is_that_of_the_same_name(self, name, of):
        assert float_model(Path("a", name)) == Path("a", of)

    @pytest.mark.parametrize("sizes", [(), (4,)])
    def test_heads_of_a_gpu_come_from_its_engine(self, tmp_path, sizes):
        def network(batch):
            return batch.mean(axis=(1, 2, 3)).reshape(-1, 1, 1) * np.ones((1, 5, 4)), np.zeros(
                (len(batch), 5, 3)
            )

        device = SimulatedDevice(tmp_path)
        engine = SimulatedEngine(device, network, (6, 6), sizes, dtype=np.float16)
        loc, conf = heads_of(device, engine, np.full((1, 3, 6, 6), 2, np.float32))
        assert (loc.shape, conf.shape) == ((1, 5, 4), (1, 5, 3))
        assert (loc == 2).all()

    def test_a_torchvision_for_another_torch_is_a_reason(self, model, tmp_path, monkeypatch):
        pytest.importorskip("torch")
        package = tmp_path / "torchvision" / "__init__.py"
        package.parent.mkdir()
        package.write_text("raise RuntimeError('operator torchvision::nms does not exist')")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "torchvision", raising=False)
        with pytest.raises(ImportError, match=r"is installed and cannot be used \(operator torchvision::nms"):
            TorchvisionRunner(model, 0.5)

    def test_a_checkpoint_that_falls_back_to_the_cpu_is_no_row_of_the_gpu(self, model):
        with pytest.raises(ValueError, match="cannot use the GPU here"):
            TorchCudaRunner(model, 0.5, threads=1)


class TestWorkers:
    """A process for each; one that fails is a row."""

    def test_throughput_is_measured_with_a_frame_for_each_thread(self, model):
        candidates = [
            s for s in candidates_of(model, Limits(peers=False, threads=2)) if s.runner == "detector"
        ]
        candidates = [s for s in candidates if s.name.startswith("ONNX Runtime")]
        rows, _ = measure.measure(candidates, load_images(CAMERA), Plan(seconds=0.2, threads=2))
        one, two = rows
        assert (one["name"], two["name"]) == ("ONNX Runtime", "ONNX Runtime, throughput")
        assert "2 frames at once" in two["description"]
        assert one["status"] == two["status"] == "ok"
        assert two["network_fps"]["median"] > 0

    def test_a_wrong_network_is_not_timed(self, model, tmp_path):
        """The same name, other answers: as a stale derived model would give."""
        spec = replace(grid_spec(2, 2), name="quarters")
        conf = np.tile([3.0, 0.0, -3.0], (4, 1))
        other = save_planted_model(tmp_path, np.zeros((4, 4)), conf, spec)
        (model.parent / "quarters.int8.onnx").write_bytes(other.read_bytes())
        spec.save(model.parent / "quarters.int8.json")
        try:
            candidates = [s for s in candidates_of(model, Limits(peers=False)) if s.precision == "int8"][:1]
            rows, _ = measure.measure(candidates, load_images(CAMERA), Plan(seconds=0.1, threads=1))
        finally:
            (model.parent / "quarters.int8.onnx").unlink()
        assert rows[0]["status"] == "missing"
        assert "wrong: conf is off by" in rows[0]["reason"]

    def test_an_error_comes_through_as_one_line(self, model):
        candidate = candidates_of(model)[0]
        with pytest.raises(WorkerFailed, match="threads: expected 0 to 1024"):
            Worker(candidate, load_images(CAMERA), score_threshold=0.5, batch=1, threads=-1)

    def test_a_process_that_dies_is_a_row(self, model, monkeypatch):
        candidate = candidates_of(model, Limits(peers=False))[0]
        worker = Worker(candidate, load_images(CAMERA), score_threshold=0.5, batch=1, threads=1)
        worker._process.kill()
        with pytest.raises(WorkerFailed, match="its process ended with exit code -9"):
            worker.frames(3)
        worker.close()


def test_candidates_of_a_model_and_what_lies_beside_it(tmp_path, monkeypatch):
    for name in (
        "m.onnx",
        "m.int8.onnx",
        "m.int8-cpu.onnx",
        "m.fp16.engine",
        "m.int8.rtx.engine",
        "n.fp16.engine",
    ):
        (tmp_path / name).touch()
    found = {
        (s.name, s.precision, s.model.name) for s in candidates_of(tmp_path / "m.onnx", Limits(peers=False))
    }
    assert {
        ("ONNX Runtime", "fp32", "m.onnx"),
        ("OpenVINO", "bf16", "m.onnx"),
        ("ONNX Runtime (int8-cpu)", "int8", "m.int8-cpu.onnx"),
        ("OpenVINO", "int8", "m.int8.onnx"),
        ("TensorRT", "fp16", "m.fp16.engine"),
        ("TensorRT-RTX", "int8", "m.int8.rtx.engine"),
        ("torch, CUDA", "fp16", "m.pt"),
    } <= found
    assert not any(file.startswith("n.") for _, _, file in found)
    assert not any("throughput" in name for name, _, _ in found)
    with_threads = candidates_of(tmp_path / "m.onnx", Limits(peers=False, threads=2))
    assert {s.name: dict(s.options).get("in_flight") for s in with_threads if s.precision == "fp32"} == {
        "ONNX Runtime": None,
        "ONNX Runtime, throughput": 0,
        "OpenVINO": None,
        "OpenVINO, throughput": 0,
        "torch, CPU": None,
    }
    engine = candidates_of(tmp_path / "m.fp16.engine")
    assert [s.name for s in engine] == ["TensorRT"]
    checkpoint = candidates_of(tmp_path / "m.pt")
    assert [(s.name, s.precision) for s in checkpoint] == [("torch, CPU", "fp32"), ("torch, CUDA", "fp16")]


@pytest.mark.parametrize("by_environment", [False, True])
def test_of_fp32_and_bf16_one_alone_may_be_measured(tmp_path, monkeypatch, by_environment):
    for name in ("m.onnx", "m.int8.onnx"):
        (tmp_path / name).touch()

    def precisions(precision):
        if by_environment:
            monkeypatch.setenv("EDGE_SSD_PRECISION", precision)
            precision = "auto"
        return {s.precision for s in candidates_of(tmp_path / "m.onnx", Limits(precision=precision))}

    assert precisions("fp32") == {"fp32", "int8", "fp16"}
    assert precisions("bf16") == {"bf16", "int8", "fp16"}


def test_openvino_as_it_comes_is_in_the_precision_that_it_takes_by_itself(tmp_path, monkeypatch):
    openvino_engine = pytest.importorskip("edge_ssd.engines.openvino_engine", exc_type=ImportError)
    monkeypatch.setattr(openvino_engine, "default_precision", lambda: "bf16")
    (peer,) = [s for s in candidates._peers(tmp_path / "m.onnx", Limits()) if s.runner == "openvino"]
    assert peer.precision == "bf16"


def test_frames_of_memory_are_copied_as_a_driver_does():
    images = load_images(CAMERA)
    frames = list(MemorySource(images, 5))
    assert [frame.sequence for frame in frames] == [0, 1, 2, 3, 4]
    assert np.array_equal(frames[3].image, images[0])
    assert frames[3].image is not images[0]
    assert frames[0].timestamp_ns < frames[4].timestamp_ns
    assert frames[0].capture_ms > 0
    assert 0 < frames[4].age_ms() < frames[0].age_ms()


class TestTheMachine:
    """Noise and throttling are seen."""

    def verdict(self, times, others=0.0, throttled=0):
        spread, slowdown = disturbance._spread_and_slowdown(times)
        return list(disturbance._remarks(others, spread, slowdown, throttled, {}))

    def test_a_quiet_one_has_no_remarks(self):
        assert self.verdict([1.0, 1.01, 1.02] * 4) == []

    def test_other_programs(self):
        assert self.verdict([1.0] * 6, others=0.3) == ["noisy: other programs took 30% of the CPU time"]

    def test_heat(self):
        assert "throttled" in self.verdict([1.0] * 6, throttled=3)[0]
        assert "slower towards the end by 20%" in self.verdict([1.0] * 8 + [1.2] * 4)[-1]

    def test_a_busy_loop_elsewhere_shows(self):
        from multiprocessing import get_context

        watch = disturbance.Watch(disturbance.processes_cpu_s)
        process = get_context("spawn").Process(target=_spin, daemon=True)
        process.start()
        for _ in range(100):
            watch.look()
        others = watch.verdict().others_share
        process.kill()
        assert others > 0.05


def _spin():
    while True:
        pass


@pytest.mark.parametrize(
    ("precision", "rounding"), [("fp32", 1e-4), ("fp16", 5e-3), ("bf16", 0.02), ("int8", 0.1)]
)
def test_tolerances_tell_a_precision_from_a_mistake(precision, rounding):
    """What a precision rounds passes; what a coarser one does, other places and nothing do not."""
    rng = np.random.default_rng(0)
    wanted = rng.normal(size=(1, 50, 4)).astype(np.float32), rng.normal(size=(1, 50, 3)).astype(np.float32)
    candidate = Candidate("x", "edge_ssd", precision, Path("x.onnx"), "detector")

    def apart(change):
        return check._heads_apart(candidate, tuple(change(head) for head in wanted), wanted)

    def rounded(by):
        return lambda head: head + by * rng.normal(size=head.shape) * np.std(head)

    assert apart(rounded(rounding)) == ""
    assert "loc is off by" in apart(rounded(20 * rounding))
    assert "loc is off by" in apart(lambda head: np.roll(head, 1, axis=1))
    assert "loc is off by" in apart(np.zeros_like)
    assert "loc is off by nan" in apart(lambda head: np.full_like(head, np.nan))
    assert "loc has 196 values, 200 are expected" in apart(lambda head: head[:, 1:])


def test_a_missing_candidate_is_a_row():
    candidate = Candidate("x", "edge_ssd", "fp32", None, "detector", (), "why")
    row = row_of(candidate, None, "why", Plan())
    assert (row["status"], row["reason"]) == ("missing", "why")
