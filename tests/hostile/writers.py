"""Everything that writes a file which somebody may have already: how to write a version of it, and to tell which one
is there. Run as a program, it is a process that writes until it is killed, again and again."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import zipfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from edge_ssd import files
from edge_ssd.model_files.bundle import write_bundle
from edge_ssd.model_files.manifest import EngineFile, manifest_path, read_manifest
from edge_ssd.model_files.pair import replacing_model
from edge_ssd.model_files.unpack import check_bundle
from edge_ssd.sinks import open_sink
from edge_ssd.sinks.snapshot import SnapshotSink
from edge_ssd.spec import PriorSpec, SsdSpec, load_spec_of
from edge_ssd.training.history import read_metrics, write_metrics
from tests.model_files.test_manifest import MANIFEST
from tests.onnx_graphs import save_planted_model
from tests.results import result
from tests.specs import example_spec, grid_spec

# A version is the length of what is written: the second is too long for a disk of three megabytes.
SHORT, LONG = 10, 100_000
NOISE = np.random.default_rng(0).integers(0, 256, 4_400_000, np.uint8)


@cache
def spec_of(version):
    return example_spec(class_names=tuple(f"the {i}th of all the classes" for i in range(version)))


def bytes_of(version):
    return NOISE[: version * 40].tobytes()


class Spec:
    names = ("m.json",)

    @staticmethod
    def write(folder, version):
        spec_of(version).save(folder / "m.json")

    @staticmethod
    def version(folder):
        spec = SsdSpec.load(folder / "m.json")
        assert spec == spec_of(len(spec.class_names))
        return len(spec.class_names)


class Pair:
    """A model with its spec, and the file of its priors; without a spec, a model is refused."""

    names = ("m.onnx", "m.json", "p.npy")

    @staticmethod
    def write(folder, version):
        source = folder.parent / f"priors{version}"
        source.mkdir(exist_ok=True)
        if not (source / "p.npy").exists():
            np.save(source / "p.npy", np.full((version, 4), 0.5, np.float32))
        spec = example_spec(name=f"v{version}", priors=PriorSpec(file="p.npy"), folder=str(source))
        with replacing_model(folder / "m.onnx", spec) as temporary:
            temporary.write_bytes(bytes_of(version))

    @staticmethod
    def version(folder):
        version = len((folder / "m.onnx").read_bytes()) // 40
        assert (folder / "m.onnx").read_bytes() == bytes_of(version)
        try:
            spec = load_spec_of(folder / "m.onnx")
        except FileNotFoundError:
            return version
        assert spec.name == f"v{version}"
        assert len(np.load(folder / "p.npy")) == version
        return version


class Bundle:
    names = ("b.zip",)

    @staticmethod
    def write(folder, version):
        source = folder.parent / f"model{version}"
        source.mkdir(exist_ok=True)
        if not (source / "m.int8.report.html").exists():
            spec = grid_spec(2, 2)
            save_planted_model(source, np.zeros((4, 4)), np.zeros((4, 3)), replace(spec, name="m"))
            (source / "m.int8.report.html").write_bytes(bytes_of(version))
        write_bundle(source / "m.onnx", folder / "b.zip")

    @staticmethod
    def version(folder):
        check_bundle(folder / "b.zip")
        with zipfile.ZipFile(folder / "b.zip") as archive:
            return len(archive.read("m.int8.report.html")) // 40


class ManifestFile:
    names = ("m.engine.json",)

    @staticmethod
    def write(folder, version):
        EngineFile(spec_of(version), MANIFEST).save(folder / "m.engine")

    @staticmethod
    def version(folder):
        assert manifest_path(folder / "m.engine").name == "m.engine.json"
        (folder / "m.engine").touch()
        spec = read_manifest(folder / "m.engine").spec
        (folder / "m.engine").unlink()
        return len(spec.class_names)


class Metrics:
    names = ("metrics.jsonl",)

    @staticmethod
    def write(folder, version):
        names = ("loss", "loss_loc", "loss_conf", "lr", "images_per_s", "train_s")
        history = [{"epoch": i, **dict.fromkeys(names, 0.123456789)} for i in range(version // 5)]
        write_metrics(folder / "metrics.jsonl", history)

    @staticmethod
    def version(folder):
        text = (folder / "metrics.jsonl").read_text()
        assert text.endswith("\n")
        history = read_metrics(folder / "metrics.jsonl", LONG)
        assert len(history) == text.count("\n")
        return len(history) * 5


class Picture:
    """The latest frame. Opening the output removes an earlier run's, which would pass for the present."""

    names = ("a.png",)

    @staticmethod
    def write(folder, version):
        side = 16 if version == SHORT else 1200
        SnapshotSink(folder / "a.png").write(result(NOISE[: side * side * 3].reshape(side, side, 3)))

    @staticmethod
    def version(folder):
        return {16: SHORT, 1200: LONG}[len(cv2.imread(str(folder / "a.png")))]


class Video:
    names = ("a.avi",)

    @staticmethod
    def write(folder, version):
        sink = open_sink(folder / "a.avi", 30.0)
        try:
            for _ in range(5 if version == SHORT else 30):
                sink.write(result(NOISE[: 64 * 64 * 3].reshape(64, 64, 3)))
        finally:
            sink.close()

    @staticmethod
    def version(folder):
        capture = cv2.VideoCapture(str(folder / "a.avi"))
        frames = 0
        while capture.read()[0]:
            frames += 1
        return {5: SHORT, 30: LONG}[frames]


class Checkpoint:
    names = ("last.pt",)

    @staticmethod
    @cache
    def model():
        from edge_ssd.networks import build_model

        return build_model("ssd320_resnet16", 3, input_size=96)

    @classmethod
    def write(cls, folder, version):
        import torch

        from edge_ssd.networks.checkpoint import save_checkpoint

        spec = cls.model().spec(["a", "b"])
        save_checkpoint(folder / "last.pt", cls.model(), spec, epoch=version, more=torch.zeros(version * 10))

    @staticmethod
    def version(folder):
        from edge_ssd.networks.checkpoint import load_checkpoint

        content = load_checkpoint(folder / "last.pt")
        assert len(content["more"]) == content["epoch"] * 10
        return content["epoch"]


WRITERS = {
    writer.__name__: writer
    for writer in (Spec, Pair, Bundle, ManifestFile, Metrics, Picture, Video, Checkpoint)
}


class Killed(NamedTuple):
    """kills: how often.   versions: those that were found afterwards.   left: names that should not be there."""

    kills: int
    versions: set[int]
    left: list[str]


def kill_again_and_again(writer, folder, seconds, seed=0):
    """Killed: a forked process writes version after version into `folder`, and is killed at any moment."""
    rng, versions, kills = random.Random(seed), set(), 0
    writer.write(folder, SHORT)
    longest = 0.02
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        files._cleaned.clear()  # each child is a process of its own, and looks for what others have left
        child = os.fork()
        if child == 0:
            while True:
                for version in (LONG, SHORT):
                    writer.write(folder, version)
        time.sleep(rng.uniform(0.001, longest))
        longest = min(0.4, longest * 1.5)  # from the first write on to several
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        kills += 1
        versions.add(writer.version(folder))
    files._cleaned.clear()
    child = os.fork()
    if child == 0:
        writer.write(folder, SHORT)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    return Killed(kills, versions, sorted({*os.listdir(folder)} - {*writer.names}))


if __name__ == "__main__":
    name, folder, seconds = sys.argv[1:]
    print(*kill_again_and_again(WRITERS[name], Path(folder), float(seconds)), sep="\n", flush=True)
    os._exit(0)
