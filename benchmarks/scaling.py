"""How the cost of a frame grows: with cameras in one call, with the size of frames, with threads, with frames at once.

    python -m benchmarks.scaling [--model M] [--out DIR]

Rendered cameras; the cases of a series take turns. Medians of the turns, and of their ratios to the first case.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import ExitStack
from itertools import repeat
from pathlib import Path

import numpy as np
from tqdm import tqdm

from edge_ssd import Detector, Frame
from edge_ssd.bench.frames import load_images
from edge_ssd.files import replacing, write_text
from edge_ssd.machine.cpu import usable_cores
from edge_ssd.machine.facts import machine_facts
from edge_ssd.models import DEMO_MODEL

CAMERAS = (1, 2, 4, 8, 16)
SIZES = ((320, 240), (640, 480), (1280, 720), (1920, 1080), (3840, 2160))
_CAMERA_SIZE = (320, 240)
_ROUNDS, _TURN_FRAMES = 15, 16


def main(argv=None):
    """Prints a table of each series; with --out also writes scaling.json and .png."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", default=str(DEMO_MODEL), metavar="M", help="default: the demo model")
    parser.add_argument("--rounds", type=int, default=_ROUNDS, metavar="N", help=f"default: {_ROUNDS}")
    parser.add_argument("--out", type=Path, metavar="DIR")
    arguments = parser.parse_args(argv)
    series = {}
    with Detector.load(arguments.model) as detector:
        series["cameras in one call"] = turns(cameras(detector), arguments.rounds, "cameras")
        series["frame size"] = turns(frame_sizes(detector), arguments.rounds, "sizes")
        description = detector.description
    with ExitStack() as stack:
        series["threads"] = turns(threads(arguments.model, stack), arguments.rounds, "threads")
    with ExitStack() as stack:
        cases = frames_in_flight(arguments.model, stack)
        series["frames at once"] = turns(cases, arguments.rounds, "frames at once")
    for name, rows in series.items():
        print(f"{name}:")
        for row in rows:
            print(
                f"  {row['case']:>12s}{row['ms_per_frame']:10.2f} ms a frame{row['of_first']:8.2f}x the first"
            )
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        content = {"machine": machine_facts(), "detector": description, "series": series}
        write_text(arguments.out / "scaling.json", json.dumps(content, indent=1) + "\n")
        plot(series, description, arguments.out / "scaling.png")
    return 0


def cameras(detector):
    """{case: function that handles _TURN_FRAMES frames}: the same frames, 1 to 16 cameras at a time."""
    images = [_images(_CAMERA_SIZE, seed)[0] for seed in range(max(CAMERAS))]
    frames = [Frame(_placed(detector, image)) for image in images]

    def case(count):
        def run():
            for start in range(0, _TURN_FRAMES, count):
                detector.detect_batch(frames[start : start + count])

        return run

    return {str(count): case(count) for count in CAMERAS}


def frame_sizes(detector):
    """{case: function}: one camera, larger and larger frames."""
    cases = {}
    for width, height in SIZES:
        frames = [Frame(_placed(detector, image)) for image in _images((width, height), 0, count=2)]
        cases[f"{width}x{height}"] = lambda frames=frames: [
            detector.detect(frames[i % len(frames)]) for i in range(_TURN_FRAMES)
        ]
    return cases


def threads(model, stack):
    """{case: function}: one camera, 1 thread to one for each core; the detectors are closed with `stack`."""
    image = _images((640, 480), 0)[0]
    detectors = {
        count: stack.enter_context(Detector.load(model, threads=count)) for count in _counts_of_cores()
    }
    return {
        str(count): lambda detector=detector: [detector.detect(image) for _ in range(_TURN_FRAMES)]
        for count, detector in detectors.items()
    }


def frames_in_flight(model, stack):
    """{case: function}: a recording on all threads, 1 frame at a time to one for each core."""
    image = _images((640, 480), 0)[0]
    detectors = {
        count: stack.enter_context(Detector.load(model, in_flight=count)) for count in _counts_of_cores()
    }
    return {
        str(count): lambda detector=detector: list(detector.detect_all(repeat(image, _TURN_FRAMES)))
        for count, detector in detectors.items()
    }


def _counts_of_cores():
    return sorted({1, *(2**k for k in range(1, 8) if 2**k <= usable_cores()), usable_cores()})


def turns(cases, rounds, what):
    """A dict for each case: its name, milliseconds per frame and the ratio to the first case, medians of turns."""
    for run in cases.values():
        run()
    seconds = np.empty((rounds, len(cases)))
    for i in tqdm(range(rounds), what, disable=not sys.stderr.isatty(), leave=False):
        for k, run in enumerate(cases.values()):
            start = time.perf_counter()
            run()
            seconds[i, k] = (time.perf_counter() - start) / _TURN_FRAMES
    ratios = np.median(seconds / seconds[:, :1], axis=0)
    medians = np.median(seconds, axis=0) * 1e3
    return [
        {"case": name, "ms_per_frame": float(ms), "of_first": float(ratio)}
        for name, ms, ratio in zip(cases, medians, ratios)
    ]


def plot(series, description, path):
    """Milliseconds of a frame over each series."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(series), 4), layout="constrained")
    for axes, (name, rows) in zip(figure.subplots(1, len(series)), series.items()):
        axes.plot([row["case"] for row in rows], [row["ms_per_frame"] for row in rows], marker="o")
        axes.set(
            xlabel=name, ylabel="milliseconds a frame", ylim=(0, 1.05 * max(r["ms_per_frame"] for r in rows))
        )
        axes.tick_params("x", rotation=20 if len(rows[-1]["case"]) > 4 else 0)
        axes.grid(alpha=0.3)
    figure.suptitle(description)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def _images(size, seed, count=1):
    width, height = size
    return load_images(f"demo://?seed={seed}&size={width}x{height}&frames={count}", at_most=count)


def _placed(detector, image):
    """The image where the detector's device reads it without a copy of the CPU's."""
    place = detector.allocate(image.shape) if detector.allocate else None
    if place is None:
        return image
    place[:] = image
    return place


if __name__ == "__main__":
    sys.exit(main())
