"""Bundles: what goes in comes out, an engine of another machine is passed over, nothing leaves the folder."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from dataclasses import replace

import numpy as np
import onnx
import pytest

from edge_ssd import Detector
from edge_ssd.cli import main
from edge_ssd.machine.gpu import GpuInfo
from edge_ssd.model_files import bundle
from edge_ssd.model_files.bundle import open_bundle, write_bundle
from edge_ssd.model_files.manifest import EngineFile, read_manifest
from edge_ssd.spec import PriorSpec
from tests.model_files.test_manifest import MANIFEST
from tests.onnx_graphs import save_planted_model
from tests.specs import grid_spec


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
    for name in ("small.int8.report.json", "small.int8.report.html", "smaller.onnx", "other.txt"):
        model.with_name(name).write_bytes(name.encode())
    model.with_name("small.fp16.onnx").write_bytes(model.read_bytes())
    names, run = write_bundle(model, tmp_path / "robot.zip")
    wanted = [
        "small.fp16.onnx",
        "small.int8.report.html",
        "small.int8.report.json",
        "small.json",
        "small.onnx",
    ]
    assert (names, run) == (wanted, ["small.onnx"])
    opened = open_bundle(tmp_path / "robot.zip", cache)
    assert opened.name == "small.onnx"
    for name in names:
        assert (opened.parent / name).read_bytes() == model.with_name(name).read_bytes()
    assert Detector.load(opened).class_names == ("cat", "dog")
    readme = zipfile.ZipFile(tmp_path / "robot.zip").read("README.txt").decode()
    assert "edge-ssd run --model robot.zip" in readme


def apart(path, location):
    """Saves a model again with its weights in another file; returns that."""
    proto = onnx.load(path)
    # The constants of the layers stay: ONNX Runtime must know shapes before it reads weights.
    onnx.save(proto, path, save_as_external_data=True, location=location, size_threshold=64)
    return path.parent / location


@pytest.mark.parametrize("location", ["small.onnx.data", "weights.bin", "./small.weights", "parts/w0"])
def test_weights_that_lie_apart_come_along(model, tmp_path, cache, location):
    (model.parent / "parts").mkdir()
    weights = apart(model, location)
    assert weights.is_file()
    packed = write_bundle(model, tmp_path / "robot.zip")
    assert location.removeprefix("./") in packed.names
    weights.unlink()  # what is opened is what was packed
    with Detector.load(open_bundle(tmp_path / "robot.zip", cache)) as detector:
        detector.detect(np.zeros((20, 20, 3), np.uint8))


def test_weights_of_every_form_and_of_branches_come_along(model, tmp_path):
    half = model.with_name("small.fp16.onnx")
    half.write_bytes(model.read_bytes())
    apart(half, "half.bin")
    inner = onnx.helper.make_tensor("inner", onnx.TensorProto.FLOAT, [1], b"1234", raw=True)
    onnx.external_data_helper.set_external_data(inner, "inner.bin")
    constant = onnx.helper.make_node("Constant", [], ["c"], value=inner)
    branch = onnx.helper.make_graph([constant], "branch", [], [])
    proto = onnx.load(model)
    proto.graph.node.append(onnx.helper.make_node("If", ["x"], [], then_branch=branch, else_branch=branch))
    model.write_bytes(proto.SerializeToString())
    model.with_name("inner.bin").write_bytes(b"1234")
    names = write_bundle(model, tmp_path / "robot.zip").names
    assert {"half.bin", "inner.bin"} <= {*names}


@pytest.mark.parametrize("suffix", [".onnx.data", ".onnx_data", ".data"])
def test_weights_that_lie_apart_are_found_by_name_without_onnx(model, tmp_path, cache, monkeypatch, suffix):
    name = f"small{suffix}"
    apart(model, name)
    monkeypatch.delitem(sys.modules, "edge_ssd.model_files.external_data", raising=False)
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert name in write_bundle(model, tmp_path / "robot.zip").names
    Detector.load(open_bundle(tmp_path / "robot.zip", cache)).close()


def test_weights_that_are_missing_are_named(model, tmp_path):
    apart(model, "weights.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"weights\.bin: no such file; small\.onnx has weights in it"):
        write_bundle(model, tmp_path / "robot.zip")
    assert not (tmp_path / "robot.zip").exists()


@pytest.mark.parametrize("location", ["../weights.bin", "/weights.bin", "a\\b", "C:w"])
def test_weights_outside_of_the_models_folder_are_refused(model, tmp_path, location):
    proto = onnx.load(model)
    onnx.external_data_helper.set_external_data(proto.graph.initializer[0], location)
    model.write_bytes(proto.SerializeToString())
    with pytest.raises(ValueError, match="a bundle holds what lies in the model's folder"):
        write_bundle(model, tmp_path / "robot.zip")


def test_a_form_that_is_no_model_is_refused(model, tmp_path):
    model.with_name("small.fp16.onnx").write_bytes(model.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"small\.fp16\.onnx: not a whole ONNX model"):
        write_bundle(model, tmp_path / "robot.zip")


def test_priors_in_a_file_come_along(model, tmp_path, cache):
    np.save(model.with_name("boxes.npy"), np.full((4, 4), 0.5, np.float32))
    grid_spec(2, 2, name="small", priors=PriorSpec(file="boxes.npy")).save(model.with_suffix(".json"))
    assert "boxes.npy" in write_bundle(model, tmp_path / "robot.zip").names
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


def add_engine(folder, name):
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"plan")
    EngineFile(grid_spec(2, 2, name="small"), MANIFEST).save(folder / name)
    return folder / name


@pytest.fixture
def with_engine(model, tmp_path):
    write_bundle(model, tmp_path / "robot.zip", [add_engine(tmp_path / "elsewhere", "small.fp16.engine")])
    return tmp_path / "robot.zip"


@pytest.fixture
def orin(monkeypatch):
    """A machine for the engines; a function that changes its TensorRT."""
    gpu = GpuInfo("Orin (nvgpu)", (8, 7), True, "540", (12, 6))
    monkeypatch.setattr(bundle, "gpu_info", lambda: gpu)
    found = bundle.importlib.util.find_spec
    monkeypatch.setattr(bundle.importlib.util, "find_spec", lambda name: name == "cupy" or found(name))

    def install(version):
        package = type("trt", (), {"__version__": version})
        monkeypatch.setattr(bundle.importlib, "import_module", lambda name: package)

    install("10.3.0")
    return install


def hide(monkeypatch, *names):
    """Makes packages look as if they were not installed."""
    found = bundle.importlib.util.find_spec
    monkeypatch.setattr(
        bundle.importlib.util, "find_spec", lambda name: None if name in names else found(name)
    )


def test_an_engine_is_taken_where_it_fits(with_engine, cache, orin):
    assert open_bundle(with_engine, cache).name == "small.fp16.engine"
    orin("10.4.0")
    assert open_bundle(with_engine, cache).name == "small.onnx"


def test_an_engine_is_passed_over_without_cupy(with_engine, cache, monkeypatch):
    hide(monkeypatch, "cupy")
    monkeypatch.setattr(bundle, "gpu_info", lambda: pytest.fail("asked for the GPU"))
    assert open_bundle(with_engine, cache).name == "small.onnx"


def test_an_engine_is_passed_over_without_a_gpu(with_engine, cache, monkeypatch, orin):
    def none():
        raise OSError("no NVIDIA driver")

    monkeypatch.setattr(bundle, "gpu_info", none)
    assert open_bundle(with_engine, cache).name == "small.onnx"


@pytest.fixture
def forms(model):
    """The model with two engines and two ONNX forms beside it."""
    for name in ("small.int8.engine", "small.fp16.engine"):
        add_engine(model.parent, name)
    for name in ("small.int8-cpu", "small.fp16"):
        model.with_name(f"{name}.onnx").write_bytes(model.read_bytes())
        model.with_name(f"{name}.json").write_bytes(model.with_suffix(".json").read_bytes())
    return model


ENGINES = ["small.fp16.engine", "small.int8.engine"]


@pytest.mark.parametrize(
    ("run", "order", "on_orin", "elsewhere"),
    [
        ([], [*ENGINES, "small.onnx"], "small.fp16.engine", "small.onnx"),
        (
            ["small.int8.engine"],
            ["small.int8.engine", "small.fp16.engine", "small.onnx"],
            "small.int8.engine",
            "small.onnx",
        ),
        (
            ["small.int8.engine", "small.int8-cpu.onnx"],
            ["small.int8.engine", "small.int8-cpu.onnx", "small.fp16.engine", "small.onnx"],
            "small.int8.engine",
            "small.int8-cpu.onnx",
        ),
        (
            ["small.int8-cpu.onnx"],
            ["small.int8-cpu.onnx", *ENGINES, "small.onnx"],
            "small.int8-cpu.onnx",
            "small.int8-cpu.onnx",
        ),
        (["small.onnx"], ["small.onnx", *ENGINES], "small.onnx", "small.onnx"),
    ],
)
def test_the_first_that_runs_here_is_taken(forms, tmp_path, cache, orin, run, order, on_orin, elsewhere):
    packed = write_bundle(forms, tmp_path / "robot.zip", run=run)
    assert packed.run == order == index_of(tmp_path / "robot.zip")["run"]
    assert open_bundle(tmp_path / "robot.zip", cache).name == on_orin
    orin("11.0.0")
    assert open_bundle(tmp_path / "robot.zip", cache).name == elsewhere


def test_what_is_to_run_is_one_of_what_goes_in(forms, tmp_path):
    for name in ("small.int8.onnx", "small.json"):
        with pytest.raises(ValueError, match=r"run: expected one of small\.fp16\.engine, .*got 'small"):
            write_bundle(forms, tmp_path / "robot.zip", run=[name])
    forms.with_name("small.fp16.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"small\.fp16\.json: no such file; small\.fp16\.onnx needs"):
        write_bundle(forms, tmp_path / "robot.zip", run=["small.fp16.onnx"])


def test_a_bundle_without_an_order_opens_as_it_did(with_engine, tmp_path, cache, orin):
    index = index_of(with_engine)
    del index["run"]
    archive = zipfile.ZipFile(with_engine)
    write_zip(tmp_path / "old.zip", index, {name: archive.read(name) for name in index["files"]})
    assert open_bundle(tmp_path / "old.zip", cache).name == "small.fp16.engine"
    orin("11.0.0")
    assert open_bundle(tmp_path / "old.zip", cache).name == "small.onnx"


def test_where_nothing_runs_the_model_is_what_is_asked_for(forms, tmp_path, cache, monkeypatch):
    """And loading it says what to install."""
    hide(monkeypatch, "cupy", "onnxruntime", "openvino")
    write_bundle(forms, tmp_path / "robot.zip", run=["small.int8-cpu.onnx"])
    assert open_bundle(tmp_path / "robot.zip", cache).name == "small.onnx"


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
        (
            {"format": bundle.FORMAT, "model": "m", "engines": [], "files": {"m": "0"}, "run": 5},
            "run is no list",
        ),
        (
            {"format": bundle.FORMAT, "model": "m", "engines": [], "files": {"m": "0"}, "run": ["../x"]},
            r"'\.\./x' is named and not there",
        ),
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


def test_the_command(forms, tmp_path, capsys):
    out = tmp_path / "robot.zip"
    choice = ["--run", "small.int8.engine", "--run", "small.int8-cpu.onnx"]
    assert main(["bundle", str(forms), "--out", str(out), *choice]) == 0
    shown = capsys.readouterr().out
    order = "small.int8.engine, small.int8-cpu.onnx, small.fp16.engine, small.onnx"
    assert f"runs the first that a machine can: {order}" in shown
    assert "edge-ssd run --model" in shown
    assert order in zipfile.ZipFile(out).read("README.txt").decode()
    assert main(["bundle", str(forms), "--out", str(out), "--run", "none.onnx"]) == 1
    assert "run: expected one of" in capsys.readouterr().err


def program(folder, name="small.fp16.engine"):
    """An engine that was built version-compatible."""
    path = add_engine(folder, name)
    file = read_manifest(path)
    EngineFile(file.spec, replace(file.manifest, version_compatible=True)).save(path)
    return path


def test_an_engine_that_is_a_program_is_not_packed_and_that_is_said(model, tmp_path, caplog):
    program(model.parent)
    packed = write_bundle(model, tmp_path / "robot.zip")
    assert not any("engine" in name for name in (*packed.names, *packed.run))
    assert "small.fp16.engine: not packed: it was built version-compatible" in caplog.text
    with pytest.raises(ValueError, match="holds a program, which does not run from a bundle"):
        write_bundle(model, tmp_path / "robot.zip", [program(tmp_path / "elsewhere")])


def test_weights_at_an_address_in_memory_are_not_packed(model, tmp_path):
    model.write_bytes(model.read_bytes() + b"*/_ORT_MEM_ADDR_/*")
    with pytest.raises(ValueError, match="has weights at an address in memory"):
        write_bundle(model, tmp_path / "robot.zip")


def test_what_lies_where_bundles_are_unpacked_is_known(model, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_bundle(model, tmp_path / "robot.zip")
    assert bundle.is_unpacked(open_bundle(tmp_path / "robot.zip"))
    assert not bundle.is_unpacked(model)


@pytest.mark.parametrize(
    "name", ["small.onnx", "small.json", "small.int8.report.html", "weights.bin", "boxes.npy"]
)
def test_the_target_of_a_link_out_of_the_folder_is_not_packed(model, tmp_path, name):
    apart(model, "weights.bin")
    np.save(model.with_name("boxes.npy"), np.full((4, 4), 0.5, np.float32))
    grid_spec(2, 2, name="small", priors=PriorSpec(file="boxes.npy")).save(model.with_suffix(".json"))
    path = model.with_name(name)
    if path.exists():
        path.rename(tmp_path / name)
    else:
        (tmp_path / name).write_text("secret")
    path.symlink_to(tmp_path / name)
    with pytest.raises(ValueError, match=f"{name}: is a link out of its folder"):
        write_bundle(model, tmp_path / "robot.zip")
    assert not (tmp_path / "robot.zip").exists()


def test_links_within_the_folder_are_packed_as_what_they_are(model, tmp_path, cache):
    apart(model, "weights.bin").rename(model.with_name("w0"))
    model.with_name("weights.bin").symlink_to("w0")
    write_bundle(model, tmp_path / "robot.zip")
    opened = open_bundle(tmp_path / "robot.zip", cache)
    assert opened.with_name("weights.bin").read_bytes() == model.with_name("w0").read_bytes()


def test_the_files_of_an_engine_elsewhere_are_not_followed_out_of_its_folder(model, tmp_path):
    engine = add_engine(tmp_path / "elsewhere", "small.fp16.engine")
    engine.rename(tmp_path / "plan")
    engine.symlink_to("../plan")
    with pytest.raises(ValueError, match="is a link out of its folder"):
        write_bundle(model, tmp_path / "robot.zip", [engine])


def test_a_bundle_that_could_not_be_opened_is_not_written(model, tmp_path, monkeypatch):
    monkeypatch.setattr(bundle.limits, "MOST_BUNDLE_BYTES", 10)
    with pytest.raises(ValueError, match=r"robot\.zip: would not be opened again \(unpacks to more than"):
        write_bundle(model, tmp_path / "robot.zip")
    assert not (tmp_path / "robot.zip").exists()


def test_files_from_before_1980_are_packed(model, tmp_path, cache):
    os.utime(model, (0, 0))
    write_bundle(model, tmp_path / "robot.zip")
    assert open_bundle(tmp_path / "robot.zip", cache).read_bytes() == model.read_bytes()
