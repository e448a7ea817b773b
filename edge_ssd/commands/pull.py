"""`edge-ssd pull`: published weights as a model."""

from __future__ import annotations

import argparse
from shlex import quote

from . import new_parser
from .options import add_trust_checkpoint_argument

DESCRIPTION = """\
Download torchvision's COCO weights, check their hash and write them as NAME.onnx with its spec: 90 category names, of
which ten, "N/A", stand for numbers that COCO never used. A download that breaks off goes on where it stopped.
torchvision publishes the first eight digits of a hash; all 64 of what came are shown, noted, and checked from then on.
Training on other classes starts from the downloaded weights: edge-ssd train --weights NAME.

MediaPipe's detectors come out of the Python package mediapipe, which pip fetches and which is not installed; then
they are known by name: edge-ssd run --model mediapipe-face --camera 0

  edge-ssd pull mediapipe-face
  edge-ssd pull ssdlite320-coco
  edge-ssd pull ssd300-coco --out models
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `pull` to the commands of `edge-ssd`."""
    parser = new_parser(subparsers, "pull", "published COCO weights as a model", DESCRIPTION)
    parser.add_argument(
        "name",
        metavar="NAME",
        help="ssd300-coco (140 MB), ssdlite320-coco (14 MB), or of MediaPipe (36 MB) mediapipe-face (near a camera), "
        "mediapipe-face-full, mediapipe-palm, mediapipe-person",
    )
    parser.add_argument(
        "--out",
        default="",
        metavar="DIR",
        help="where to write; default: here, and where --model finds MediaPipe's",
    )
    parser.add_argument("--url", default="", metavar="U", help="another address (https) of the same file")
    add_trust_checkpoint_argument(parser)
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    """Downloads and converts; returns the exit code. Known errors come out as exceptions."""
    from ..models import PULLED

    if arguments.name in PULLED:
        return _pull_mediapipe(arguments)
    from ..training.published import PUBLISHED, pull

    path, weights, sha256 = pull(
        arguments.name, arguments.out or ".", arguments.url, trusted=arguments.trust_checkpoint
    )
    print(f"{path} and {path.with_suffix('.json').name}")
    print(f"SHA-256 of the download: {sha256}")
    print(f"from {weights}; to train on other classes from them:")
    print(f"edge-ssd train --arch {PUBLISHED[arguments.name].arch} --weights {quote(str(weights))} ...")
    return 0


def _pull_mediapipe(arguments: argparse.Namespace) -> int:
    from ..mediapipe.pull import pull_mediapipe

    if arguments.url:
        raise ValueError(
            "--url: MediaPipe's detectors come from pip's package index alone; set pip's own --index-url"
        )
    path = pull_mediapipe(arguments.name, arguments.out)
    print(f"{path} and {path.with_suffix('.json').name}")
    print("Copyright The MediaPipe Authors, Apache License 2.0; see LICENSE.mediapipe.txt beside it")
    print(f"edge-ssd run --model {quote(str(path) if arguments.out else arguments.name)} --camera 0 --show")
    return 0
