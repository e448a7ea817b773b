"""Bundles from elsewhere through the command line: one line, little memory, nothing left in the cache."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from hashlib import sha256

import onnx
import pytest

from tests.hostile.command_line import assert_refused, edge_ssd
from tests.onnx_graphs import save_planted_model
from tests.specs import grid_spec

RUN = "--source", "demo://?seed=1&frames=1&size=96x96", "--output", "null"


def write_bundle(path, files, index=None):
    """A bundle of {name: content}.   index: what stands in the place of the right one."""
    if index is None:
        digests = {name: sha256(data).hexdigest() for name, data in files.items()}
        index = {"format": "edge_ssd-bundle/1", "model": "m.onnx", "engines": [], "files": digests}
        index = json.dumps(index).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        with archive.open("bundle.json", "w") as file:
            for block in [index] if isinstance(index, bytes) else index:
                file.write(block)
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def encrypted(path):
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        start = -1
        while (start := data.find(signature, start + 1)) >= 0:
            data[start + offset] |= 1
    path.write_bytes(data)


FILES = {"m.onnx": b"model", "m.json": b"spec"}


@pytest.mark.parametrize(
    ("files", "index", "change", "said"),
    [
        ({}, [b" " * (1 << 20)] * 1500, None, "bundle.json: unpacks to more than 1048576 bytes; refused"),
        ({**FILES, "m.bin": b"\0" * (70 << 20)}, None, None, "times its size, more than 200 times; refused"),
        (FILES, b"[" * 100_000, None, "not a whole bundle of edge-ssd bundle (bundle.json: not valid JSON"),
        (FILES, None, encrypted, "'bundle.json' is encrypted"),
        ({**FILES, "../../m.onnx": b"x"}, None, None, "would leave the folder that it is unpacked into"),
        (FILES, None, lambda path: os.truncate(path, 200), "not a whole bundle of edge-ssd bundle"),
    ],
    ids=["index", "ratio", "nesting", "encrypted", "leaves", "cut-off"],
)
def test_refused_bundles_leave_nothing(tmp_path, files, index, change, said):
    path = write_bundle(tmp_path / "b.zip", files, index)
    if change:
        change(path)
    ended = edge_ssd("run", "--model", path, *RUN, cwd=tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert_refused(ended, f"{path}: ", said)
    assert not [found for found in (tmp_path / "cache").rglob("*") if not found.is_dir()]
    assert list((tmp_path / "cache/edge_ssd/bundles").iterdir()) == []


@pytest.fixture
def model(tmp_path):
    """A model with its weights in link.bin."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    path = save_planted_model(folder, [[0.0] * 4] * 4, [[0.0] * 3] * 4, grid_spec(2, 2, name="m"))
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="link.bin", size_threshold=64)
    return path


def test_what_a_strangers_link_names_is_not_published(model, tmp_path):
    (tmp_path / "id_ed25519").write_text("SECRET")
    model.with_name("link.bin").unlink()
    model.with_name("link.bin").symlink_to(tmp_path / "id_ed25519")
    ended = edge_ssd("bundle", model, "--out", tmp_path / "b.zip", cwd=tmp_path)
    assert_refused(ended, "link.bin: is a link out of its folder; put the file itself there")
    shutil.copy(model, model.with_name("m.fp16.onnx"))
    model.with_name("m.html").symlink_to(tmp_path / "id_ed25519")
    model.with_name("link.bin").unlink()
    model.with_name("link.bin").write_bytes(b"\0" * 1000)
    ended = edge_ssd("bundle", model, "--out", tmp_path / "b.zip", cwd=tmp_path)
    assert_refused(ended, "m.html: is a link out of its folder; put the file itself there")
    assert not (tmp_path / "b.zip").exists()


def test_a_pipe_among_the_files_is_not_waited_for(model, tmp_path):
    os.mkfifo(model.with_name("m.report.html"))
    ended = edge_ssd("bundle", model, "--out", tmp_path / "b.zip", cwd=tmp_path)
    assert_refused(ended, "m.report.html: expected a regular file, got a pipe")
