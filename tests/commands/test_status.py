"""The status line, on a terminal and in a log file."""

from __future__ import annotations

import io
import logging
import re
from dataclasses import dataclass

import pytest

from edge_ssd.commands import status as status_module
from edge_ssd.commands.status import StatusLine, status_text
from edge_ssd.pipeline import RunStatistics
from tests.results import result


@dataclass
class Source:
    address: str = "cam"
    frame_count: int = 0
    dropped: int = 3
    skipped: int = 0
    reopened: int = 0


class Terminal(io.StringIO):
    def isatty(self):
        return True


def statistics(frames=2, **changes):
    run = RunStatistics()
    for i in range(frames):
        run.add(result(**changes), 0.05, 0.05 * (i + 1))
    return run


def visible(text):
    """What a terminal shows of a text, lines without trailing blanks."""
    shown = []
    for line in text.split("\n"):
        screen = ""
        for part in re.split(r"(\r|\x1b\[K)", line):
            if part == "\r":
                column = 0
            elif part == "\x1b[K":
                screen = screen[:column]
            else:
                column = len(screen) if not screen else column
                screen = screen[:column] + part + screen[column + len(part) :]
                column += len(part)
        shown.append(screen)
    return shown


def test_the_line_has_rate_stage_times_age_and_drops():
    text = status_text(statistics(), Source())
    assert text == (
        "2 frames | 20.0 FPS | capture 0.1 pre 0.4 net 7.9 post 0.3 ms | age 9 ms | dropped 3 | cat 0.90"
    )


def test_the_line_tells_progress_and_trouble_where_there_is_any():
    text = status_text(statistics(), Source(frame_count=10, skipped=1, reopened=2))
    assert text.startswith("2/10 frames | ")
    assert "dropped 3 | skipped 1 | reopened 2 | " in text


@pytest.mark.parametrize(("count", "shown"), [(0, "nothing"), (2, "cat 0.90, dog 0.60"), (6, ".* \\+2")])
def test_the_line_shows_at_most_four_detections(count, shown):
    text = status_text(statistics(boxes=[(0, 0, 9, 9)] * count), Source())
    assert re.fullmatch(shown, text.split(" | ")[-1])


def test_on_a_terminal_the_line_is_rewritten_in_place(monkeypatch):
    monkeypatch.setattr(status_module, "_TERMINAL_INTERVAL_S", 0)
    terminal = Terminal()
    line = StatusLine(Source(), terminal)
    for frames in (1000, 5):
        line.update(statistics(frames))
    assert "\n" not in terminal.getvalue()
    assert visible(terminal.getvalue())[0].startswith("5 frames | 20.0 FPS")
    line.clear()
    assert visible(terminal.getvalue()) == [""]


def test_the_line_never_wraps(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    terminal = Terminal()
    StatusLine(Source(), terminal).update(statistics())
    assert len(visible(terminal.getvalue())[0]) == 39


def test_a_warning_stands_above_the_line():
    terminal = Terminal()
    line = StatusLine(Source(), terminal)
    line.update(statistics())
    line.emit(logging.LogRecord("edge_ssd", logging.WARNING, "", 0, "skipped %s", ("a.jpg",), None))
    above, shown = visible(terminal.getvalue())
    assert above == "skipped a.jpg"
    assert shown.startswith("2 frames | ")


def test_a_log_file_gets_whole_lines_every_ten_seconds(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(status_module.time, "monotonic", lambda: clock[0])
    log = io.StringIO()
    line = StatusLine(Source(), log)
    for second in range(25):
        clock[0] = 100.0 + second
        line.update(statistics(second + 1))
    line.clear()
    assert [text.split()[0] for text in log.getvalue().splitlines()] == ["11", "21"]
    assert "\r" not in log.getvalue()
    assert "\x1b" not in log.getvalue()


def test_a_reader_of_the_log_that_has_gone_does_not_end_the_run():
    class Broken(io.StringIO):
        def write(self, _):
            raise BrokenPipeError

    line = StatusLine(Source(), Broken())
    line.show("one")
    line.show("two")


def test_a_program_without_standard_error_runs(monkeypatch):
    monkeypatch.setattr("sys.stderr", None)
    line = StatusLine(Source())
    line.update(statistics())
    line.show("hello")
    line.clear()
