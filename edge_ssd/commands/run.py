"""`edge-ssd run`, `python -m edge_ssd.run`: camera to detections."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import signal
import sys
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import unquote

from ..files.terminal import joined
from ..models import DEMO_MODEL
from ..options import MEMORY_MODES, WAITS
from . import new_parser
from .options import add_cpu_arguments, add_trust_arguments, count, fraction, names_list, seconds

DESCRIPTION = """\
Run an SSD on a camera, a stream, a video, an image or a folder of images.

  edge-ssd run --camera 0 --show
  edge-ssd run --source rtsp://camera/stream --model ssd300.onnx --output detections.jsonl
  edge-ssd run --source clip.mp4 --output clip_out.mp4 --output clip.jsonl
  edge-ssd run --source 'demo://?seed=1&frames=300' --output demo.mp4

Without --output and --show, the detections go to standard output as JSON lines, unless that is a terminal.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `run`."""
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--camera", metavar="N", help="camera number or device, such as 0 or /dev/video0")
    where.add_argument("--source", metavar="URI", help="anything that gives frames: see the examples above")
    parser.add_argument(
        "--model",
        default=str(DEMO_MODEL),
        metavar="M",
        help="NAME.onnx with its NAME.json, NAME.engine, a checkpoint .pt, a bundle .zip, or the name of a model that "
        "comes with the package; default: the demo model",
    )
    parser.add_argument(
        "--output",
        action="append",
        default=[],
        metavar="F",
        help="F.jsonl, F.mp4, F.png (the latest frame), a folder for PNG files, - (JSON lines on standard "
        "output) or null; "
        "may be given several times",
    )
    parser.add_argument("--show", action="store_true", help="show a window; Q or Escape ends the run")
    parser.add_argument("--max-frames", type=count, default=0, metavar="N", help="stop after N frames")
    parser.add_argument("--score-threshold", type=fraction, default=0.5, metavar="T", help="default: 0.5")
    parser.add_argument("--iou-threshold", type=fraction, metavar="T", help="of NMS; default: the model's")
    parser.add_argument(
        "--classes",
        type=names_list,
        default=(),
        metavar="A,B",
        help="look for these classes only; in double quotes where a name has a comma",
    )
    parser.add_argument(
        "--policy",
        choices=("newest", "every"),
        help="newest: drop what cannot be kept up with (default of live sources); "
        "every: leave none out (default of files)",
    )
    parser.add_argument(
        "--retry-seconds",
        type=seconds,
        default=float("inf"),
        metavar="S",
        help="give up S seconds after a live source stopped; default: never",
    )
    add_cpu_arguments(parser)
    add_trust_arguments(parser)
    parser.add_argument(
        "--memory",
        choices=MEMORY_MODES,
        default="auto",
        help="how a GPU gets at frames: mapped reads them in the CPU's memory, pinned copies them first, auto "
        "takes the faster here",
    )
    parser.add_argument(
        "--wait",
        choices=WAITS,
        default="auto",
        help="for a GPU's results: spin takes a core, block sleeps; auto sleeps on a Jetson",
    )
    parser.add_argument(
        "--rebuild", action="store_true", help="build an engine of another machine again, from its ONNX file"
    )


def add_parser(subparsers: Any) -> None:
    """Adds `run` to the commands of `edge-ssd`."""
    parser = new_parser(subparsers, "run", "camera, stream, video or images to detections", DESCRIPTION)
    add_arguments(parser)
    parser.set_defaults(main=main)


class WrongUse(ValueError):
    """Arguments that do not go together."""


def main(arguments: argparse.Namespace) -> int:
    """Runs; returns the exit code. Known errors come out as exceptions."""
    from ..options import UnknownClass

    address = arguments.camera if arguments.camera is not None else arguments.source
    if not address.strip():  # as of a variable that is not set
        return _wrong_use(f"--{'source' if arguments.camera is None else 'camera'} is empty")
    outputs = arguments.output or _default_outputs(arguments.show)
    try:
        _check_outputs(outputs, address)
        detector = _load_detector(arguments)
    except (UnknownClass, WrongUse) as error:
        return _wrong_use(str(error))
    targets = [*outputs, *(["window"] if arguments.show else [])]
    if importlib.util.find_spec("cv2"):  # a GPU's frames may come without it
        from ..files.image import use_one_opencv_thread

        use_one_opencv_thread()
    with detector:
        _run(detector, address, targets, arguments)
    return 0


def _wrong_use(text):
    print(f"edge-ssd run: error: {joined(text)}", file=sys.stderr)
    return 2


def _run(detector, address, targets, arguments):
    from ..pipeline import run_pipeline
    from ..sources import open_source
    from .status import StatusLine, summary_text

    with ExitStack() as stack:
        source = stack.enter_context(
            open_source(address, arguments.policy, arguments.retry_seconds, detector.allocate)
        )
        stopped = stack.enter_context(_stopping_on_signals(source))
        status = stack.enter_context(_logging_to(StatusLine(source)))
        with ExitStack() as opened:
            sinks = [_opened(target, source, opened) for target in targets]
            try:
                statistics = run_pipeline(source, detector, sinks, arguments.max_frames, status.update)
            except BrokenPipeError:
                return  # whoever read our standard output has had enough
        # After the sinks are closed: only then are their files complete.
        status.clear()
        status.show(summary_text(statistics, source, detector, _files(targets), bool(stopped)))


def _load_detector(arguments):
    from ..detector import Detector

    return Detector.load(
        arguments.model,
        score_threshold=arguments.score_threshold,
        iou_threshold=arguments.iou_threshold,
        classes=arguments.classes,
        threads=arguments.threads,
        memory=arguments.memory,
        wait=arguments.wait,
        rebuild=arguments.rebuild,
        engine=arguments.engine,
        in_flight=_in_flight(arguments),
        precision=arguments.precision,
        trust_engine=arguments.trust_engine,
        trust_checkpoint=arguments.trust_checkpoint,
    )


def _in_flight(arguments):
    """Of a file all frames are there, so they may come later if more of them come; of a camera the latest counts."""
    if arguments.in_flight is not None:
        return arguments.in_flight
    from ..sources.address import has_all_frames

    all_count = arguments.camera is None and arguments.policy != "newest" and has_all_frames(arguments.source)
    return 0 if all_count else 1


def _opened(target, source, stack):
    from ..sinks import open_sink

    sink = open_sink(target, source.fps, source.is_live)
    stack.callback(sink.close)
    return sink


def _default_outputs(show):
    return [] if show or sys.stdout is None or sys.stdout.isatty() else ["-"]


def _check_outputs(outputs, address):
    """Raises WrongUse for an output of no known kind, two that are the same, or one that is the source.

    Before anything is opened: opening an output empties it.
    """
    from ..sinks import kind_of_output
    from ..sinks.partial import cut_off_path, partial_path
    from ..sources.address import without_login

    source = _place(address)
    places = [target if target in ("-", "null") else _place(target) for target in outputs]
    for target, place in zip(outputs, places):
        try:
            kind = kind_of_output(target)
        except ValueError as error:
            raise WrongUse(f"--output {error}") from None
        if places.count(place) > 1:
            raise WrongUse(f"--output {without_login(target)}: given twice")
        recorded = (str(partial_path(place)), str(cut_off_path(place))) if kind == "video" else ()
        if source in (place, *recorded) or (os.path.isfile(place) and os.path.dirname(place) == source):
            raise WrongUse(f"--output {target}: is the source itself, which would be overwritten")


def _place(name):
    if name.lower().startswith("file://"):
        name = unquote(name[len("file://") :])
    return os.path.realpath(os.path.expanduser(name.replace("\0", "")))  # a NUL is told by whoever opens it


def _files(targets):
    return [target for target in targets if target not in ("-", "null", "window")]


@contextmanager
def _logging_to(handler):
    log = logging.getLogger("edge_ssd")
    log.addHandler(handler)
    propagate, log.propagate = log.propagate, False
    try:
        yield handler
    finally:
        handler.clear()
        log.removeHandler(handler)
        log.propagate = propagate


@contextmanager
def _stopping_on_signals(source):
    """Ctrl-C and SIGTERM end the run after the frame in hand; a second one ends it at once.

    Gives a list that holds the signals that came.
    """
    came = []

    def stop(number, _):
        came.append(number)
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        source.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
