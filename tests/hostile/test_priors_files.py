"""The file of default boxes that a spec names: inside the spec's folder, a regular file, and what it says it is."""

from __future__ import annotations

import os

import numpy as np
import pytest

from edge_ssd.spec import PriorSpec
from tests.hostile.command_line import assert_refused, edge_ssd
from tests.onnx_graphs import save_planted_model
from tests.specs import grid_spec

RUN = "--source", "demo://?seed=1&frames=1&size=96x96", "--output", "null"
BOXES = np.full((4, 4), 0.5, np.float32)


@pytest.fixture
def model(tmp_path):
    """A model whose spec names p.npy, which lies beside it."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    spec = grid_spec(2, 2, name="m", priors=PriorSpec(file="p.npy"))
    path = save_planted_model(folder, [[0.0] * 4] * 4, [[0.0] * 3] * 4, spec)
    np.save(folder / "p.npy", BOXES)
    return path


def pipe(path):
    os.mkfifo(path)


def link_out(path):
    np.save(path.parent.parent / "elsewhere.npy", BOXES)
    path.symlink_to("../elsewhere.npy")


def device(path):
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("put", "said"),
    [
        (pipe, "p.npy: expected a regular file, got a pipe"),
        (link_out, "p.npy: is a link out of its folder"),
        (device, "p.npy: is a link out of its folder"),
        (
            lambda path: path.write_bytes(b"PK\5\6" + b"\0" * 42),
            "p.npy: priors.file: expected one array, got an archive",
        ),
        (
            lambda path: path.write_bytes(b"\x93NUMPY\1\0\x76\0" + b"{'descr': '''".ljust(118)),
            "p.npy: priors.file: not a readable .npy file (",
        ),
        (
            lambda path: path.write_bytes(
                b"\x93NUMPY\1\0\x76\0"
                + b"{'descr':'<f8','fortran_order':False,'shape':(999999,4)}".ljust(117)
                + b"\n"
            ),
            "the header claims 31999968)",
        ),
    ],
    ids=["pipe", "link", "device", "archive", "token", "claim"],
)
def test_what_is_no_file_of_boxes_there(model, put, said):
    (model.parent / "p.npy").unlink()
    put(model.parent / "p.npy")
    ended = edge_ssd("run", "--model", model, *RUN, cwd=model.parent)
    assert_refused(ended, said)


@pytest.mark.parametrize("command", ["run", "build"])
@pytest.mark.parametrize("name", ["../p.npy", "/etc/hostname"])
def test_a_name_that_leaves_the_folder_is_neither_read_nor_written(model, tmp_path, command, name):
    spec = model.with_suffix(".json")
    spec.write_text(spec.read_text().replace('"p.npy"', f'"{name}"'))
    np.save(tmp_path / "p.npy", BOXES)
    out = tmp_path / "x" / "y"
    out.mkdir(parents=True)
    (tmp_path / "x" / "p.npy").write_text("precious")
    arguments = (
        RUN if command == "run" else ("--precision", "fp16", "--runtime", "cpu", "--out", out / "m2.onnx")
    )
    ended = edge_ssd(command, *(["--model"] if command == "run" else []), model, *arguments, cwd=tmp_path)
    assert_refused(ended, f'priors.file: expected a file beside the spec, got "{name}"')
    assert os.listdir(out) == []
    assert (tmp_path / "x" / "p.npy").read_text() == "precious"


def test_a_build_writes_nothing_through_a_link_out_of_its_folder(model, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "precious").write_text("precious")
    (out / "p.npy").symlink_to("../precious")
    ended = edge_ssd(
        "build", model, "--precision", "fp16", "--runtime", "cpu", "--out", out / "m2.onnx", cwd=tmp_path
    )
    assert_refused(ended, "p.npy: is a link out of its folder")
    assert (tmp_path / "precious").read_text() == "precious"
    assert os.listdir(out) == ["p.npy"]
