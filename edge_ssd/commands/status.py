"""The live status line of a run, its log lines, and its summary: text for people, on standard error."""

from __future__ import annotations

import logging
import shutil
import sys
import time
from collections.abc import Sequence
from threading import RLock
from typing import TextIO

from ..detector import Detector
from ..files.terminal import joined, one_line, printable, short_name, uncleaned
from ..pipeline import RunStatistics
from ..sources import Source

_ERASE_REST = "\x1b[K"  # of the line, right of the cursor

# Often enough to be read as live, seldom enough to cost nothing.
_TERMINAL_INTERVAL_S, _LOG_INTERVAL_S = 0.2, 10.0

_BF16_NOTE = (
    "bf16 in float layers: scores and boxes differ a little from FP32's; --precision fp32 turns it off"
)


class StatusLine(logging.Handler):
    """One line that is rewritten in place on a terminal; a line every ten seconds elsewhere.

    As a logging handler, it prints warnings above the line. Any thread may log. A stream that is closed
    or whose reader has gone is no reason to end a run: it gets nothing more.
    """

    def __init__(self, source: Source, stream: TextIO | None = None) -> None:
        super().__init__(logging.INFO)
        self._showing = RLock()
        self._source = source
        self._stream = uncleaned(stream or sys.stderr)  # None when the program was started without one
        self._is_terminal = self._stream is not None and self._stream.isatty()
        self._interval_s = _TERMINAL_INTERVAL_S if self._is_terminal else _LOG_INTERVAL_S
        self._next = time.monotonic() + (0 if self._is_terminal else self._interval_s)
        self._shown = ""

    def update(self, statistics: RunStatistics) -> None:
        """Shows where the run is, when it is time to."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self._interval_s
        text = printable(status_text(statistics, self._source))
        if not self._is_terminal:
            self.show(text)
            return
        # A line that wraps could not be rewritten.
        text = text[: shutil.get_terminal_size().columns - 1]
        with self._showing:
            self._write(f"\r{text}{_ERASE_REST}")
            self._shown = text

    def show(self, text: str) -> None:
        """Prints whole lines, above the status line."""
        text = printable(text)
        with self._showing:
            if self._shown:
                self._write(f"\r{_ERASE_REST}{text}\n{self._shown}")
            else:
                self._write(f"{text}\n")

    def emit(self, record: logging.LogRecord) -> None:
        self.show(joined(self.format(record)))

    def clear(self) -> None:
        """Takes the line off the terminal."""
        with self._showing:
            if self._shown:
                self._write(f"\r{_ERASE_REST}")
            self._shown = ""

    def _write(self, text):
        if self._stream is None:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: closed
            self._stream = None


def status_text(statistics: RunStatistics, source: Source) -> str:
    """One line: frames, FPS, stage times, age, drops, and what the latest frame shows."""
    if (latest := statistics.latest) is None:
        return "no frame yet"
    total = f"/{source.frame_count}" if source.frame_count else ""
    stages = {stage: stats.mean() for stage, stats in statistics.stage_ms.items()}
    parts = [
        f"{statistics.frames}{total} frames",
        f"{statistics.recent_fps:.1f} FPS",
        f"capture {stages['capture']:.1f} pre {stages['preprocess']:.1f} net {stages['infer']:.1f} "
        f"post {stages['postprocess']:.1f} ms",
        f"age {latest.timing_ms['age']:.0f} ms",
        f"dropped {source.dropped}",
    ]
    if source.skipped:
        parts.append(f"skipped {source.skipped}")
    if source.reopened:
        parts.append(f"reopened {source.reopened}")
    return " | ".join(parts) + " | " + _detections_shown(latest)


def _detections_shown(result, at_most=4):
    found = [f"{short_name(result.class_names[label])} {score:.2f}" for _, score, label in result.detections]
    rest = f" +{len(found) - at_most}" if len(found) > at_most else ""
    return (", ".join(found[:at_most]) + rest) or "nothing"


def summary_text(
    statistics: RunStatistics, source: Source, detector: Detector, outputs: Sequence[str], stopped: bool
) -> str:
    """Several lines: what ran, how fast, percentiles per stage, what was found and what was lost."""
    lines = [
        f"{statistics.frames} frames in {statistics.seconds:.1f} s: {statistics.fps:.1f} FPS"
        + (" (stopped)" if stopped else ""),
        f"  model     {short_name(detector.spec.name)}, {one_line(detector.description)}",
        *([f"  precision {_BF16_NOTE}"] if detector.precision == "bf16" else []),
        f"  source    {one_line(source.address)}, policy {source.policy}: {source.dropped} dropped, "
        f"{source.skipped} skipped, opened again {source.reopened} times",
    ]
    if statistics.frames:
        copies = statistics.copies
        lines.append(f"  frame copies: driver {source.driver_copies}, CPU {copies.cpu}, bus {copies.bus}")
        lines.append("  ms             p50      p95      p99")
        for stage, stats in statistics.stage_ms.items():
            note = f"   since the {statistics.timestamp_source} time stamp" if stage == "age" else ""
            lines.append(f"  {stage:11s}" + "".join(f"{v:9.2f}" for v in stats.percentiles()) + note)
    found = ", ".join(f"{short_name(name)} {count}" for name, count in statistics.detections.most_common(8))
    lines.append(f"  detections  {found or 'none'}")
    lines += [f"  written to  {one_line(output)}" for output in outputs]
    return "\n".join(lines)
