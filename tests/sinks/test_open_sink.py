"""open_sink: which name opens what, and what it says of the others."""

from __future__ import annotations

import sys

import pytest

from edge_ssd.sinks import NullSink, open_sink
from tests.results import result


def test_null_takes_everything():
    sink = open_sink("null")
    assert isinstance(sink, NullSink)
    assert sink.write(result()) is None


def test_missing_folders_are_made(tmp_path):
    for name in ("a/b/c.jsonl", "d/e.mp4", "f/g"):
        open_sink(str(tmp_path / name)).close()
    assert (tmp_path / "a/b/c.jsonl").is_file()
    assert (tmp_path / "f/g").is_dir()


def test_an_unknown_kind_of_output_is_named_with_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match=r"a\.csv: expected an output ending in \.jsonl, \.mp4"):
        open_sink(str(tmp_path / "a.csv"))


@pytest.mark.parametrize("name", ["file/a.jsonl", "file/a.mp4", "file/pictures"])
def test_a_folder_that_cannot_be_made_is_an_error(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot make this folder \((Not a directory|File exists)\)"):
        open_sink(str(tmp_path / name))


@pytest.mark.parametrize("name", ["a.jsonl", "a.mp4"])
def test_a_file_that_cannot_be_written_is_an_error(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(OSError, match=rf"{name}: cannot be written \(Is a directory\)"):
        open_sink(str(tmp_path / name))


@pytest.mark.skipif(sys.platform != "linux", reason="screens have addresses on Linux only")
@pytest.mark.parametrize(
    ("display", "said"), [(None, "DISPLAY is not set"), (":4077", "no answer from the screen :4077")]
)
def test_a_window_without_a_screen_is_an_error_that_does_not_end_the_process(monkeypatch, display, said):
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    if display:
        monkeypatch.setenv("DISPLAY", display)
    with pytest.raises(OSError, match=rf"window: OpenCV cannot open one here \({said}\); write a file"):
        open_sink("window")
