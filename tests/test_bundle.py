"""Bundles: what goes in comes out, an engine of another machine is passed over, nothing leaves the folder."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest

from edge_ssd import Detector, bundle
from edge_ssd.bundle import open_bundle, write_bundle
from edge_ssd.cli import main
from edge_ssd.engine_file import EngineFile
from edge_ssd.gpu_info import GpuInfo
from edge_ssd.spec import PriorSpec
from tests.onnx_graphs import save_planted_model
from tests.specs import grid_spec
from tests.test_engine_file import MANIFEST


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "made"
    folder.mkdir()
    spec = grid_spec(2, 2, name="small")
    return save_planted_model(folder, np.zeros((4, 4)), np.zeros((4, 3)), spec)


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def test_what_goes_in_comes_out(model, tmp_path, cache):
    for name in (
        "small.fp16.onnx",
        "small.int8.report.json",
        "small.int8.report.html",
        "smaller.onnx",
        "other.txt",
    ):
        model.with_name(name).write_bytes(name.encode())
    names = write_bundle(model, tmp_path / "robot.zip")
    wanted = [
        "small.fp16.onnx",
        "small.int8.report.html",
        "small.int8.report.json",
        "small.json",
        "small.onnx",
    ]
    assert names == wanted
    opened = open_bundle(tmp_path / "robot.zip", cache)
    assert opened.name == "small.onnx"
    for name in names:
        assert (opened.parent / name).read_bytes() == model.with_name(name).read_bytes()
    assert Detector.load(opened).class_names == ("cat", "dog")
    assert (
        "edge-ssd run --model robot.zip"
        in zipfile.ZipFile(tmp_path / "robot.zip").read("README.txt").decode()
    )


def test_priors_in_a_file_come_along(model, tmp_path, cache):
    np.save(model.with_name("boxes.npy"), np.full((4, 4), 0.5, np.float32))
    grid_spec(2, 2, name="small", priors=PriorSpec(file="boxes.npy")).save(model.with_suffix(".json"))
    assert "boxes.npy" in write_bundle(model, tmp_path / "robot.zip")
    Detector.load(open_bundle(tmp_path / "robot.zip", cache)).close()


def test_priors_from_another_folder_do_not_fit_into_a_bundle(model, tmp_path):
    np.save(tmp_path / "boxes.npy", np.full((4, 4), 0.5, np.float32))
    spec = grid_spec(2, 2, name="small", priors=PriorSpec(file="boxes.npy"))
    text = spec.to_json().replace("boxes.npy", "../boxes.npy")
    model.with_suffix(".json").write_text(text)
    with pytest.raises(ValueError, match=r"priors\.file: expected a file beside the spec"):
        write_bundle(model, tmp_path / "robot.zip")


def test_a_bundle_is_unpacked_once(model, tmp_path, cache):
    write_bundle(model, tmp_path / "robot.zip")
    first = open_bundle(tmp_path / "robot.zip", cache)
    before = first.stat().st_mtime_ns
    assert open_bundle(tmp_path / "robot.zip", cache) == first
    assert first.stat().st_mtime_ns == before
    assert [path.name for path in cache.iterdir()] == [first.parent.name]


@pytest.fixture
def with_engine(model, tmp_path):
    engine = tmp_path / "elsewhere" / "small.fp16.engine"
    engine.parent.mkdir()
    engine.write_bytes(b"plan")
    EngineFile(grid_spec(2, 2, name="small"), MANIFEST).save(engine)
    write_bundle(model, tmp_path / "robot.zip", [engine])
    return tmp_path / "robot.zip"


def test_an_engine_is_taken_where_it_fits(with_engine, cache, monkeypatch):
    monkeypatch.setattr(bundle.importlib.util, "find_spec", lambda name: name == "cupy")
    orin = GpuInfo("Orin (nvgpu)", (8, 7), True, "540", (12, 6))
    monkeypatch.setattr(bundle, "gpu_info", lambda: orin)
    monkeypatch.setattr(
        bundle.importlib, "import_module", lambda name: type("trt", (), {"__version__": "10.3.0"})
    )
    assert open_bundle(with_engine, cache).name == "small.fp16.engine"
    monkeypatch.setattr(
        bundle.importlib, "import_module", lambda name: type("trt", (), {"__version__": "10.4.0"})
    )
    assert open_bundle(with_engine, cache).name == "small.onnx"


def test_an_engine_is_passed_over_without_cupy(with_engine, cache, monkeypatch):
    monkeypatch.setattr(bundle.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(bundle, "gpu_info", lambda: pytest.fail("asked for the GPU"))
    assert open_bundle(with_engine, cache).name == "small.onnx"


def test_an_engine_is_passed_over_without_a_gpu(with_engine, cache, monkeypatch):
    def none():
        raise OSError("no NVIDIA driver")

    monkeypatch.setattr(bundle.importlib.util, "find_spec", lambda name: name == "cupy")
    monkeypatch.setattr(bundle, "gpu_info", none)
    assert open_bundle(with_engine, cache).name == "small.onnx"


def index_of(path):
    return json.loads(zipfile.ZipFile(path).read("bundle.json"))


def write_zip(path, index, files):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("bundle.json", json.dumps(index))
        for name, data in files.items():
            archive.writestr(name, data)


@pytest.mark.parametrize(
    "name", ["../evil.onnx", "/tmp/evil.onnx", "a/../../evil.onnx", "..\\evil.onnx", "C:evil.onnx"]
)
def test_a_path_that_leaves_the_folder_is_refused(tmp_path, cache, name):
    index = {"format": bundle.FORMAT, "model": name, "engines": [], "files": {name: "0"}}
    write_zip(tmp_path / "evil.zip", index, {name: b"x"})
    with pytest.raises(ValueError, match="would leave the folder"):
        open_bundle(tmp_path / "evil.zip", cache)
    assert not list(tmp_path.rglob("evil.onnx"))
    assert not list(cache.iterdir())


def test_a_file_that_was_changed_is_refused(model, tmp_path, cache):
    write_bundle(model, tmp_path / "robot.zip")
    index = index_of(tmp_path / "robot.zip")
    write_zip(tmp_path / "bad.zip", index, {"small.onnx": b"other", "small.json": b"{}"})
    with pytest.raises(ValueError, match="is not what was packed"):
        open_bundle(tmp_path / "bad.zip", cache)
    assert not list(cache.iterdir())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no zip", "not a whole bundle"),
        ({"format": "other"}, "not a bundle of edge-ssd bundle"),
        (
            {"format": bundle.FORMAT, "model": "m.onnx", "engines": [], "files": {}},
            "'m.onnx' is named and not there",
        ),
        ({"format": bundle.FORMAT, "model": "m", "engines": [], "files": {"m": "0"}}, "not a whole bundle"),
        (
            {"format": bundle.FORMAT, "model": "m", "engines": 5, "files": {}},
            "engines is missing, or no list",
        ),
        ({"format": bundle.FORMAT, "model": "m", "engines": [[]], "files": {"m": "0"}}, r"\[\] is named and"),
        ({"format": bundle.FORMAT, "files": {}}, "model is missing, or no str"),
    ],
)
def test_what_is_no_bundle(tmp_path, cache, content, said):
    path = tmp_path / "x.zip"
    path.write_bytes(content) if isinstance(content, bytes) else write_zip(path, content, {})
    with pytest.raises(ValueError, match=said):
        open_bundle(path, cache)


def test_what_is_missing_is_named(model, tmp_path, cache):
    with pytest.raises(FileNotFoundError, match="no such bundle"):
        open_bundle(tmp_path / "none.zip", cache)
    with pytest.raises(ValueError, match=r"ends in \.zip"):
        write_bundle(model, tmp_path / "robot.tar")
    model.with_suffix(".json").unlink()
    with pytest.raises(FileNotFoundError, match="needs the model and its spec"):
        write_bundle(model, tmp_path / "robot.zip")
    assert not (tmp_path / "robot.zip").exists()


def test_the_command(model, tmp_path, capsys):
    assert main(["bundle", str(model), "--out", str(tmp_path / "robot.zip")]) == 0
    shown = capsys.readouterr().out
    assert "small.onnx" in shown
    assert "edge-ssd run --model" in shown
