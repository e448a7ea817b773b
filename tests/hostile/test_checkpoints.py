"""Checkpoints and downloads from elsewhere through the command line: one line, and memory of the file's size."""

from __future__ import annotations

import zipfile

import pytest

torch = pytest.importorskip("torch")

from edge_ssd.networks import build_model  # noqa: E402
from edge_ssd.networks.checkpoint import save_checkpoint  # noqa: E402
from tests.hostile.command_line import assert_refused, edge_ssd  # noqa: E402

pytestmark = pytest.mark.torch

# Importing torch alone takes seconds on a busy machine.
SECONDS = 30


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "last.pt"
    model = build_model("ssd320_resnet16", 3, input_size=96)
    save_checkpoint(path, model, model.spec(["a", "b"]))
    return path


def compressed(path, whole):
    """400 MB of zeros that torch would unpack, in 400 KB."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("h/data.pkl", b"\x80\x02}q\x00.")
        with archive.open("h/data/0", "w") as file:
            for _ in range(400):
                file.write(b"\0" * (1 << 20))
        archive.writestr("h/version", b"3\n")


def without_average(path, whole):
    content = torch.load(whole, weights_only=True)
    del content["ema"]
    torch.save(content, path)


def damaged_pickle(path, whole):
    """Opcodes that make the reader fail with errors of its own."""
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            new.writestr(entry.filename, b"\x80\x02e." if entry.filename.endswith("data.pkl") else data)


def network_of_gigabytes(path, whole):
    content = torch.load(whole, weights_only=True)
    boxes = [[[9.0, 9.0]]] * len(build_model("ssd320_resnet16", 3, input_size=96).layout.boxes_per_cell)
    content["options"] = {"input_size": 96, "priors": [boxes[0] * 100_000, *boxes[1:]]}
    torch.save(content, path)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (compressed, "x.pt: not a readable checkpoint ('h/data.pkl' is compressed by method 8)"),
        (without_average, "x.pt: not a whole checkpoint: ema is missing"),
        (damaged_pickle, "x.pt: not a readable checkpoint; it is cut off, or no checkpoint at all"),
        (network_of_gigabytes, "x.pt: head."),
    ],
)
def test_refused_checkpoints(tmp_path, whole, make, said):
    make(tmp_path / "x.pt", whole)
    arguments = "--source", "demo://?seed=1&frames=1&size=96x96", "--output", "null"
    ended = edge_ssd("run", "--model", "x.pt", *arguments, cwd=tmp_path)
    assert_refused(ended, said, seconds=SECONDS)


def test_pull_is_https_alone_and_shows_no_login(tmp_path):
    ended = edge_ssd(
        "pull", "ssd300-coco", "--url", "http://me:secret@127.0.0.1:1/x.pth?token=secret", cwd=tmp_path
    )
    assert_refused(
        ended, "http://127.0.0.1:1/x.pth: expected an address that begins with https://", seconds=SECONDS
    )
    assert "secret" not in ended.err + ended.out
    assert list(tmp_path.iterdir()) == []
