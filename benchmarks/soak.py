"""A live camera that drops, stalls and sends garbage, for a long time: memory, age and drops, and every line written.

    python -m benchmarks.soak --minutes 20 [--model M] [--out DIR]

Exit code 1 when memory grew by more than 2 % after the first tenth, the 99th percentile of the age of frames passed the
limit, a line of output is missing, or the source did not come back after a fault.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from edge_ssd import Detector, open_source
from edge_ssd.bench.worker import peak_memory_mib
from edge_ssd.files import replacing, write_text
from edge_ssd.machine.facts import machine_facts
from edge_ssd.models import DEMO_MODEL
from edge_ssd.pipeline import run_pipeline
from edge_ssd.sinks import open_sink

from .bad_camera import BadCamera, Faults

_SOURCE = "demo://?seed=3&size=640x480&frames=48"
_SAMPLE_S = 1.0
_LAST_FRAME_S = 30.0  # after the end: the source tries again every five seconds
_MOST_GROWTH = 0.02


def main(argv=None):
    """Runs, prints the summary, writes soak.json and .png with --out; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=20, metavar="N", help="default: 20")
    parser.add_argument("--model", default=str(DEMO_MODEL), metavar="M", help="default: the demo model")
    parser.add_argument("--fps", type=float, default=30, metavar="F", help="of the camera (default: 30)")
    parser.add_argument("--fault-every", type=float, default=15, metavar="S", help="seconds (default: 15)")
    parser.add_argument("--most-age-ms", type=float, default=1000, metavar="MS", help="default: 1000")
    parser.add_argument("--out", type=Path, metavar="DIR")
    arguments = parser.parse_args(argv)
    result = soak(arguments.model, 60 * arguments.minutes, arguments.fps, Faults(arguments.fault_every))
    problems = problems_of(result, arguments.most_age_ms)
    print(summary(result))
    for problem in problems:
        print(f"PROBLEM {problem}")
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        content = {"machine": machine_facts(), **result, "problems": problems}
        write_text(arguments.out / "soak.json", json.dumps(content, indent=1) + "\n")
        plot(result, arguments.out / "soak.png")
    return 1 if problems else 0


def soak(model, seconds, fps, faults):
    """Runs for so many seconds. Returns a dict: frames, dropped, reopened, faults {fault: number}, lines (of the
    output that parse), came_to_the_end (whether frames still came then), age_ms percentiles, and samples, one a
    second: {seconds, rss_mib, age_ms, dropped, reopened}. Raises OSError when no frame came at all.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        BadCamera(_SOURCE, fps, faults) as camera,
        Detector.load(model) as detector,
        tqdm(total=round(seconds), unit="s", disable=not sys.stderr.isatty(), leave=False) as bar,
    ):
        output = Path(folder) / "out.jsonl"
        with open_source(camera.address, allocate=detector.allocate) as source:
            watch = _Watch(source, seconds, bar)
            statistics = _run(source, detector, output, watch)
            counts = {"dropped": source.dropped, "reopened": source.reopened}
        if not watch.ages_ms:
            raise OSError(f"{camera.address}: no frame came in {seconds:g} s")
        lines = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
        points = np.percentile(watch.ages_ms, (50, 95, 99, 100)).tolist()
        return {
            "model": Path(model).name,
            "seconds": watch.elapsed_s(),
            "frames": statistics.frames,
            "fps": statistics.fps,
            **counts,
            "faults": camera.counts(),
            "lines": len(lines),
            "came_to_the_end": watch.came_to_the_end,
            "age_ms": dict(zip(("p50", "p95", "p99", "max"), points)),
            "samples": watch.samples,
        }


def _run(source, detector, output, watch):
    """RunStatistics of the pipeline, JSON lines in the file `output`, until the watch stops the source."""
    sink = open_sink(str(output), 0, True)
    # A source that never comes back gives no frame to stop it at.
    limit = threading.Timer(watch.seconds + _LAST_FRAME_S, source.stop)
    limit.daemon = True
    limit.start()
    try:
        return run_pipeline(source, detector, [sink], on_frame=watch.note)
    finally:
        limit.cancel()
        sink.close()


class _Watch:
    """Notes what a run is like, and stops its source after so many seconds.

    ages_ms: of all frames.   samples: see `soak`.   came_to_the_end: whether a frame came after the last second.
    """

    def __init__(self, source, seconds, bar):
        self.seconds, self.ages_ms, self.samples, self.came_to_the_end = seconds, [], [], False
        self._source, self._bar, self._start = source, bar, time.monotonic()

    def elapsed_s(self):
        """Seconds since the start."""
        return time.monotonic() - self._start

    def note(self, statistics):
        """Takes the latest frame of the RunStatistics."""
        elapsed, age_ms = self.elapsed_s(), statistics.latest.timing_ms["age"]
        self.ages_ms.append(age_ms)
        if elapsed >= len(self.samples) * _SAMPLE_S:
            counts = {"dropped": self._source.dropped, "reopened": self._source.reopened}
            self.samples.append({"seconds": elapsed, "rss_mib": _rss_mib(), "age_ms": age_ms, **counts})
            self._bar.update(round(elapsed) - self._bar.n)
        if elapsed > self.seconds:
            self.came_to_the_end = True
            self._source.stop()


def problems_of(result, most_age_ms):
    """What went wrong, as sentences; empty when all is well."""
    problems, growth = [], memory_growth(result["samples"])
    if growth > _MOST_GROWTH:
        problems.append(f"memory grew by {growth:.1%} after the first tenth, {_MOST_GROWTH:.0%} is allowed")
    if result["age_ms"]["p99"] > most_age_ms:
        problems.append(f"the 99th percentile of the age is {result['age_ms']['p99']:.0f} ms")
    if result["lines"] != result["frames"]:
        problems.append(f"{result['frames']} frames were detected in, {result['lines']} lines written")
    if not result["came_to_the_end"]:
        problems.append(
            f"no frame came after {result['samples'][-1]['seconds']:.0f} s: the source did not come back"
        )
    if result["reopened"] < result["faults"]["drop"] - 1:  # the last may have come at the very end
        problems.append(f"{result['faults']['drop']} broken connections, reopened {result['reopened']} times")
    return problems


def memory_growth(samples):
    """Resident memory of the last tenth by that of the second tenth, medians, less 1: the first tenth fills caches."""
    rss = [sample["rss_mib"] for sample in samples]
    tenth = max(1, len(rss) // 10)
    return float(np.median(rss[-tenth:]) / np.median(rss[tenth : 2 * tenth] or rss) - 1)


def summary(result):
    """The result in a few lines."""
    faults = ", ".join(f"{fault} {count}" for fault, count in result["faults"].items())
    rss = [sample["rss_mib"] for sample in result["samples"]]
    age = ", ".join(f"{name} {value:.0f}" for name, value in result["age_ms"].items())
    return (
        f"{result['frames']} frames in {result['seconds'] / 60:.1f} min, {result['fps']:.1f} FPS, "
        f"{result['dropped']} dropped; lines written: {result['lines']}\n"
        f"faults of the camera: {faults}; reopened {result['reopened']} times\n"
        f"age of frames, ms: {age}\n"
        f"resident memory: {min(rss):.0f} to {max(rss):.0f} MiB, growth {memory_growth(result['samples']):+.2%}"
    )


def plot(result, path):
    """Memory, age, and frames that were dropped, over time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), layout="constrained")
    minutes = [sample["seconds"] / 60 for sample in result["samples"]]
    columns = (
        ("rss_mib", "resident memory, MiB"),
        ("age_ms", "age of a frame, ms"),
        ("dropped", "frames dropped"),
    )
    for axes, (column, label) in zip(figure.subplots(len(columns), 1, sharex=True), columns):
        values = [sample[column] for sample in result["samples"]]
        axes.plot(minutes, values)
        axes.set(ylabel=label, ylim=(0, 1.1 * max(*values, 1)))
        axes.grid(alpha=0.3)
    axes.set_xlabel("minutes")
    figure.suptitle(f"{result['model']}: a camera that drops, stalls and sends garbage")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def _rss_mib():
    statm = Path("/proc/self/statm")
    if not statm.is_file():
        return peak_memory_mib()  # which a leak raises, too
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    sys.exit(main())
