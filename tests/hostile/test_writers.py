"""Whoever writes a file, and is killed or finds the disk full: the file that was there, or a whole new one."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from edge_ssd import files
from tests.conftest import ROOT
from tests.hostile.command_line import assert_refused, edge_ssd
from tests.hostile.writers import LONG, SHORT, WRITERS
from tests.onnx_graphs import save_planted_model
from tests.specs import grid_spec

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no processes to fork")
SECONDS = 1.0


@pytest.fixture(params=WRITERS)
def writer(request):
    if request.param == "Checkpoint" and not find_spec("torch"):
        pytest.skip("torch is not installed")
    return WRITERS[request.param]


def test_killed_at_any_moment(writer, tmp_path):
    """What is left of the killed ones is removed by the next."""
    folder = tmp_path / "folder"
    folder.mkdir()
    command = [sys.executable, "-m", "tests.hostile.writers", writer.__name__, folder, str(SECONDS)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    kills, versions, left = ended.stdout.splitlines()
    assert int(kills) >= 3
    assert {int(v) for v in versions.strip("{}").split(", ")} <= {SHORT, LONG}
    cut_off = [] if writer.__name__ != "Video" else ["a.cut-off.avi"]  # the longest recording is kept
    assert left in (str([]), str(cut_off))


@pytest.fixture
def tiny_disk(tmp_path):
    """A function of megabytes that gives the folder of a file system of that size."""
    folder, mounted = tmp_path / "disk", []

    def mount(megabytes):
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder]
        ended = subprocess.run(command, capture_output=True, text=True)
        if ended.returncode:
            pytest.skip(f"no file system can be mounted here: {ended.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", folder], check=True)


# A video is tried through the command line, below: it needs room for its reserve.
@pytest.mark.parametrize("writer", [name for name in WRITERS if name != "Video"], indirect=True)
def test_on_a_full_disk(writer, tiny_disk, monkeypatch):
    monkeypatch.setattr(files, "_cleaned", set())
    folder = tiny_disk(10 if writer.__name__ == "Checkpoint" else 3)
    writer.write(folder, SHORT)
    before = {name: (folder / name).read_bytes() for name in writer.names}
    with pytest.raises(OSError, match=r"No space left|Is the disk full"):
        writer.write(folder, LONG)
    assert {name: (folder / name).read_bytes() for name in writer.names} == before
    assert sorted(os.listdir(folder)) == sorted(writer.names)


@pytest.fixture
def model(tmp_path):
    (tmp_path / "made").mkdir()
    path = save_planted_model(
        tmp_path / "made", [[0.0] * 4] * 4, [[0.0] * 3] * 4, grid_spec(2, 2, name="small")
    )
    path.with_name("small.int8.report.html").write_bytes(os.urandom(4_000_000))
    return path


def test_commands_on_a_full_disk(tiny_disk, model):
    disk = tiny_disk(3)
    for name in ("b.zip", "a.mp4"):
        (disk / name).write_bytes(b"old")
    bundled = edge_ssd("bundle", model, "--out", disk / "b.zip", cwd=disk)
    assert_refused(bundled, "No space left on device")
    source = "demo://?seed=1&frames=5&size=96x96"
    run = edge_ssd("run", "--source", source, "--output", disk / "a.mp4", cwd=disk)
    assert_refused(run, "a.mp4: the disk is full (", "0 frames are kept")
    for name in ("b.zip", "a.mp4"):
        assert (disk / name).read_bytes() == b"old"
    (disk / "filler").write_bytes(b"\0" * 3_080_000)
    (disk / "a.jsonl").write_bytes(b"old")
    run = edge_ssd("run", "--source", source, "--output", disk / "a.jsonl", cwd=disk)
    assert_refused(
        run, "a.jsonl: cannot be written (the disk is full, and the file that is there would be lost)"
    )
    assert (disk / "a.jsonl").read_bytes() == b"old"
    assert sorted(os.listdir(disk)) == ["a.jsonl", "a.mp4", "b.zip", "filler"]
