"""The kinds of file that come from others, and what reads each."""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
from functools import cache
from pathlib import Path

import numpy as np

from edge_ssd.spec import SsdSpec
from tests.conftest import ROOT
from tests.fuzz import mutations
from tests.fuzz.harness import Harness
from tests.specs import example_spec, grid_spec

# What no printed text may hold: `printable` writes it out.
_CONTROL = {chr(code) for code in (*range(32), *range(127, 160), 0x202E, 0x2066)} - set("\n\t")


class PrintsControls(Exception):
    """A command has printed a control character of a file."""


def _command(*arguments: str) -> None:
    """A command of `edge-ssd` in this process: a bug is an exception, and what it prints is harmless."""
    from edge_ssd import cli

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out), contextlib.suppress(SystemExit):
        cli.main(["--debug", *arguments])
    text = out.getvalue()
    if "this is a bug" in text:
        raise AssertionError(text[-1500:])
    if controls := _CONTROL & set(text):
        raise PrintsControls(f"{controls!r} in {text[:500]!r}")


# ---------------------------------------------------------------------------------------------------------
# specs and manifests


def _specs() -> list[bytes]:
    shipped = [path.read_bytes() for path in sorted((ROOT / "edge_ssd/models").glob("*.json"))]
    return [*shipped, example_spec().to_json().encode()]


def _run_spec(data: bytes, folder: Path) -> None:
    from edge_ssd.priors import make_priors

    path = folder / "m.json"
    path.write_bytes(data)
    spec = SsdSpec.load(path)
    if SsdSpec.from_json(spec.to_json()) != SsdSpec.from_json(data.decode("utf-8-sig")):
        raise AssertionError("a spec that is read, written and read is another one")
    make_priors(spec)


def _manifests() -> list[bytes]:
    from tempfile import TemporaryDirectory

    from edge_ssd.model_files.manifest import EngineFile, manifest_path
    from tests.model_files.test_manifest import MANIFEST

    with TemporaryDirectory() as folder:
        engine = Path(folder, "m.fp16.engine")
        EngineFile(example_spec(), MANIFEST).save(engine)
        return [manifest_path(engine).read_bytes()]


def _run_manifest(data: bytes, folder: Path) -> None:
    engine = folder / "m.fp16.engine"
    engine.write_bytes(b"plan")
    Path(f"{engine}.json").write_bytes(data)
    _command("inspect", str(engine))
    from edge_ssd.model_files.manifest import Running, check_manifest, read_manifest

    check_manifest(
        read_manifest(engine).manifest, engine, Running("tensorrt", "10.3.0", (8, 7), "Orin (nvgpu)")
    )


# ---------------------------------------------------------------------------------------------------------
# data sets

_XML = b"""<annotation><folder>x</folder><filename>a.png</filename><size><width>40</width><height>30</height>
<depth>3</depth></size><object><name>dog</name><pose>Left</pose><truncated>0</truncated><difficult>0</difficult>
<bndbox><xmin>3</xmin><ymin>4</ymin><xmax>20</xmax><ymax>25.5</ymax></bndbox></object></annotation>"""


@cache
def _picture(suffix: str = ".png") -> bytes:
    import cv2

    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    return cv2.imencode(suffix, cv2.GaussianBlur(image, (5, 5), 2))[1].tobytes()


def _run_voc(data: bytes, folder: Path) -> None:
    for name in ("Annotations", "JPEGImages"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "JPEGImages/a.png").write_bytes(_picture())
    (folder / "Annotations/a.xml").write_bytes(data)
    _command("data", "check", str(folder))
    _read_all(folder)


def _coco() -> list[bytes]:
    box = {"image_id": 1, "category_id": 3, "bbox": [3, 4, 10.5, 12], "area": 126, "iscrowd": 0}
    polygon = {"segmentation": [[3, 4, 13, 4, 13, 16]]}
    content = {
        "info": {"year": 2026},
        "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}],
        "annotations": [{"id": 7, **box, **polygon}, {"id": 8, **box, "iscrowd": 1}],
        "categories": [{"id": 3, "name": "dog", "supercategory": "animal"}, {"id": 9, "name": "cat"}],
    }
    return [json.dumps(content).encode()]


def _run_coco(data: bytes, folder: Path) -> None:
    for name in ("annotations", "images"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "images/a.png").write_bytes(_picture())
    (folder / "annotations/instances_x.json").write_bytes(data)
    _command("data", "check", str(folder))
    _read_all(folder)


def _read_all(folder: Path) -> None:
    from edge_ssd.datasets import open_dataset

    dataset = open_dataset(folder)
    for index in range(min(len(dataset), 5)):
        dataset.annotation(index)
        dataset.image(index)


# ---------------------------------------------------------------------------------------------------------
# addresses

_ADDRESSES = (
    b"demo://?seed=7&size=64x48&frames=2&scene=1",
    b"0?size=640x480&fps=30&format=MJPG",
    b"/dev/video3?size=640x480",
    b"csi://0?size=1280x720&fps=30",
    b"v4l2:///dev/video0?fps=15",
    b"rtsp://user:pa@ss@10.0.0.9:554/s?token=abc&user=me",
    b"http://cam/live.m3u8?user=admin&pwd=secret",
    b"file:///nowhere/a%20b.mp4",
    b"~/x.mp4",
    b"clip.mp4",
)
_SECRETS = ("pa@ss", "pwd=secret", "token=abc")


def _run_address(data: bytes, folder: Path) -> None:
    from edge_ssd.datasets import open_dataset
    from edge_ssd.sinks import kind_of_output
    from edge_ssd.sources import _opener
    from edge_ssd.sources.address import has_all_frames, without_login

    text = data.decode("utf-8", "surrogateescape")
    if text.encode("utf-8", "surrogateescape") in _ADDRESSES:
        shown = without_login(text)
        assert not any(secret in shown for secret in _SECRETS), shown
    for call in (has_all_frames, kind_of_output, without_login, lambda address: _opener(address, None)):
        with contextlib.suppress(ValueError, OSError, ImportError):
            call(text)
    if text.startswith("demo:"):
        dataset = open_dataset(text)
        len(dataset)
        if all(side <= 1000 for side in dataset._stream.options.image_size):
            dataset.image(0)


# ---------------------------------------------------------------------------------------------------------
# bundles, images, priors


@cache
def _bundle() -> bytes:
    from tempfile import TemporaryDirectory

    from edge_ssd.model_files.bundle import write_bundle
    from tests.onnx_graphs import save_planted_model

    with TemporaryDirectory() as folder:
        spec = grid_spec(2, 2)
        model = save_planted_model(folder, np.zeros((4, 4)), np.zeros((4, 3)), spec)
        write_bundle(model, Path(folder) / "b.zip")
        return (Path(folder) / "b.zip").read_bytes()


def _change_entry(rng: random.Random, name: str, content: bytes) -> bytes:
    return mutations.json_text(rng, content) if name.endswith(".json") else mutations.some_bytes(rng, content)


def _run_bundle(data: bytes, folder: Path) -> None:
    from edge_ssd.model_files.bundle import open_bundle

    path, cache_folder = folder / "b.zip", folder / "cache"
    path.write_bytes(data)
    shutil.rmtree(cache_folder, ignore_errors=True)
    try:
        open_bundle(path, cache_folder)
    except (ValueError, OSError):
        left = [str(file) for file in cache_folder.rglob("*") if file.suffix != ".lock"]
        assert not left, f"left behind: {left}"
        raise


def _images() -> list[bytes]:
    suffixes = (".png", ".jpg", ".bmp", ".webp", ".tif", ".ppm")
    return [*map(_picture, suffixes)]


def _run_image(data: bytes, folder: Path) -> None:
    from edge_ssd.files.image import read_header, read_image

    path = folder / "a.jpg"  # what it is stands in its first bytes
    path.write_bytes(data)
    with contextlib.suppress(ValueError):
        read_header(path)
    image = read_image(path)
    assert image.dtype == np.uint8
    assert image.ndim == 3


def _npy(save=np.save) -> bytes:
    file = io.BytesIO()
    save(file, np.full((4, 4), 0.25, np.float32))
    return file.getvalue()


def _mutate_npy(rng: random.Random, data: bytes) -> bytes:
    if data.startswith(b"PK") and rng.random() < 0.5:
        return mutations.archive(rng, data)
    return mutations.words(rng, data) if rng.random() < 0.5 else mutations.some_bytes(rng, data)


def _run_npy(data: bytes, folder: Path) -> None:
    from edge_ssd.priors import make_priors

    (folder / "p.npy").write_bytes(data)
    content = json.loads(example_spec().to_json())
    content["priors"] = {"file": "p.npy"}
    (folder / "m.json").write_text(json.dumps(content))
    make_priors(SsdSpec.load(folder / "m.json"))


# ---------------------------------------------------------------------------------------------------------
# checkpoints and models


@cache
def _checkpoint() -> bytes:
    from tempfile import TemporaryDirectory

    import torch

    from edge_ssd.networks import build_model
    from edge_ssd.networks.checkpoint import save_checkpoint

    torch.manual_seed(0)
    model = build_model("ssd320_resnet16", 3)
    with TemporaryDirectory() as folder:
        save_checkpoint(Path(folder) / "m.pt", model, model.spec(["cat", "dog"]))
        return (Path(folder) / "m.pt").read_bytes()


def _run_checkpoint(data: bytes, folder: Path) -> None:
    from edge_ssd.networks.checkpoint import load_model

    (folder / "m.pt").write_bytes(data)
    load_model(folder / "m.pt")


@cache
def _models() -> tuple[bytes, ...]:
    from tempfile import TemporaryDirectory

    from tests.onnx_graphs import save_planted_model

    with TemporaryDirectory() as folder:
        spec = grid_spec(2, 2)
        planted = save_planted_model(folder, np.zeros((4, 4)), np.ones((4, 3)), spec, brightness=0.1)
        return (planted.read_bytes(), _convolutional(spec))


def _convolutional(spec: SsdSpec) -> bytes:
    """A network of the operators that SSDs are made of, with the heads of `grid_spec(2, 2)`."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = {
        "w0": rng.normal(size=(8, 3, 3, 3)).astype(np.float32),
        "w1": rng.normal(size=(4, 8, 1, 1)).astype(np.float32),
        "w2": rng.normal(size=(3, 8, 1, 1)).astype(np.float32),
        "loc_shape": np.array([0, 4, 4]),
        "conf_shape": np.array([0, 4, 3]),
    }
    node = helper.make_node
    nodes = [
        node("Conv", [spec.input.name, "w0"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Relu", ["a"], ["b"]),
        node("MaxPool", ["b"], ["c"], kernel_shape=[25, 25], strides=[25, 25]),
        node("Conv", ["c", "w1"], ["d"]),
        node("Conv", ["c", "w2"], ["e"]),
        node("Transpose", ["d"], ["f"], perm=[0, 2, 3, 1]),
        node("Transpose", ["e"], ["g"], perm=[0, 2, 3, 1]),
        node("Reshape", ["f", "loc_shape"], [spec.outputs.loc]),
        node("Reshape", ["g", "conf_shape"], [spec.outputs.conf]),
    ]
    image = helper.make_tensor_value_info(spec.input.name, TensorProto.FLOAT, ["batch", 3, 100, 100])
    heads = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4, columns])
        for name, columns in ((spec.outputs.loc, 4), (spec.outputs.conf, 3))
    ]
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "convolutional", [image], heads, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model.SerializeToString()


def _mutate_onnx(rng: random.Random, data: bytes) -> bytes:
    import onnx

    if rng.random() < 0.15:
        return mutations.some_bytes(rng, data)
    model = onnx.load_from_string(data)
    mutations.protobuf(rng, model)
    return model.SerializeToString()


def _run_onnx(engine: str, data: bytes, folder: Path) -> None:
    from edge_ssd import Detector

    path = folder / "m.onnx"
    path.write_bytes(data)
    grid_spec(2, 2).save(path.with_suffix(".json"))
    with Detector.load(path, engine=engine, precision="fp32", threads=1) as detector:
        detector.detect(np.zeros((30, 40, 3), np.uint8))


def _run_onnxruntime(data: bytes, folder: Path) -> None:
    _run_onnx("onnxruntime", data, folder)


def _run_openvino(data: bytes, folder: Path) -> None:
    _run_onnx("openvino", data, folder)


CHEAP = (
    Harness("spec", _specs, mutations.json_text, _run_spec),
    Harness("manifest", _manifests, mutations.json_text, _run_manifest),
    Harness("voc", lambda: [_XML], mutations.xml, _run_voc),
    Harness("coco", _coco, mutations.json_text, _run_coco),
    Harness("address", lambda: _ADDRESSES, mutations.words, _run_address),
    Harness(
        "bundle",
        lambda: [_bundle()],
        lambda rng, data: mutations.archive(rng, data, _change_entry),
        _run_bundle,
    ),
    Harness("image", _images, mutations.some_bytes, _run_image),
    Harness("npy", lambda: [_npy()], _mutate_npy, _run_npy),
)
# Engines map gigabytes that they do not use: their memory is held down where the product does it, in its own child.
NATIVE = (
    Harness("checkpoint", lambda: [_checkpoint()], mutations.archive, _run_checkpoint, 10, 0),
    Harness("onnxruntime", _models, _mutate_onnx, _run_onnxruntime, 15, 0),
    Harness("openvino", _models, _mutate_onnx, _run_openvino, 15, 0),
)
ALL = {harness.name: harness for harness in (*CHEAP, *NATIVE)}
