"""`edge-ssd data`: what is in a data set, what is wrong with it, and those of other tools made COCO or VOC."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import count_text
from ..files.terminal import one_line, progress_bar
from . import new_parser, plotting, say_left_out
from .options import ADDRESS, add_split_argument

if TYPE_CHECKING:
    from ..datasets import Dataset
    from ..datasets.analysis.duplicates import ImageHashes
    from ..datasets.dataset import Finding

STATS = """\
Sizes, classes, overlaps and light of a data set, as a table and a picture.

  edge-ssd data stats 'demo://?seed=1000&frames=500' --plot demo.png
  edge-ssd data stats VOCdevkit/VOC2007 --split trainval
"""
CHECK = """\
Reads every annotation and decodes every image, and names each file that is bad: unreadable or missing, boxes that
are no numbers, turned around, empty, out of the image or in shares of it, unknown classes, sizes that differ,
annotations of unknown images, images that are there twice or in a split that they must not be in. Exit code 1 when
there are any. What only people can judge is listed and is no error: images that look alike, such as neighbouring
frames of a video or one photo saved twice, orientation tags, 16-bit images, classes without a box or of nearly the
same name, a box that is there twice.

  edge-ssd data check VOCdevkit/VOC2007 --split trainval --against test
  edge-ssd data check tools --split train --against val --clean tools/ImageSets/Main/train-clean.txt
"""
CONVERT = """\
Writes a YOLO folder (labels/*.txt with data.yaml or classes.txt; Ultralytics' and darknet's layouts) or one that
Roboflow exported (COCO, VOC, YOLO) as COCO or VOC, whole or not at all. Each image that is left out is named with
the reason.

  edge-ssd data convert coco128 --out tools
  edge-ssd data convert export.v3.yolov8 --split train valid --to voc --link --out tools
"""
_SHOWN, _LONGEST_LINE = 10, 2000


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `data` and its own commands to the commands of `edge-ssd`."""
    parser = subparsers.add_parser("data", help="what is in a data set; what is wrong with it")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    stats = _add_command(commands, "stats", "sizes, classes, overlaps, light", STATS)
    stats.add_argument("--plot", metavar="F.png", help="write histograms and a contact sheet there")
    stats.set_defaults(main=main)
    check = _add_command(commands, "check", "names every bad file, duplicates and leaks", CHECK)
    check.add_argument(
        "--against",
        action="append",
        default=[],
        metavar="S",
        help="another split, or another data set's address, that must share no image with this one",
    )
    check.add_argument(
        "--clean",
        metavar="F",
        help="write the images that are left: VOC: a list for ImageSets/Main; COCO: an annotation file",
    )
    check.set_defaults(main=check_main)
    _add_convert(commands)


def _add_convert(commands: argparse._SubParsersAction) -> None:
    convert = new_parser(commands, "convert", "YOLO and Roboflow folders to COCO or VOC", CONVERT)
    convert.add_argument("source", metavar="SRC", help="folder that another tool wrote")
    convert.add_argument("--out", required=True, metavar="DST", help="new folder")
    convert.add_argument("--split", nargs="+", default=[], metavar="S", help="splits to take; default: all")
    convert.add_argument("--to", choices=("coco", "voc"), default="coco", help="default: coco")
    convert.add_argument("--link", action="store_true", help="hard links to the images instead of copies")
    convert.set_defaults(main=convert_main)


def _add_command(
    commands: argparse._SubParsersAction, name: str, text: str, description: str
) -> argparse.ArgumentParser:
    parser = new_parser(commands, name, text, description)
    parser.add_argument("data", metavar="D", help=ADDRESS)
    add_split_argument(parser)
    return parser


def main(arguments: argparse.Namespace) -> int:
    """Measures and prints the table; known errors come out as exceptions."""
    from ..datasets import open_dataset
    from ..datasets.analysis.statistics import measure, statistics_text

    plot_statistics = _load_plotter() if arguments.plot else None
    dataset = open_dataset(arguments.data, arguments.split)
    say_left_out(dataset)
    statistics = measure(dataset, _bar(dataset, "measure"))
    print(dataset.address)
    print(statistics_text(statistics), flush=True)
    if plot_statistics:
        plot_statistics(statistics, dataset, arguments.plot)
    return 0


def check_main(arguments: argparse.Namespace) -> int:
    """Prints every problem; raises ValueError with their count when there are any."""
    from ..datasets import open_dataset
    from ..datasets.analysis.duplicates import hash_images

    dataset = open_dataset(arguments.data, arguments.split)
    others = [_other(arguments, address, dataset.class_names) for address in arguments.against]
    problems, remarks = dataset.findings(_bar(dataset, "check"))
    hashes, unreadable = hash_images(dataset, _bar(dataset, "decode"))
    known = {index for index, _ in problems}
    problems += [(index, text) for index, text in unreadable if index not in known]
    look_alike = _shared(dataset, hashes, dataset, None, problems)
    for other in others:
        other_hashes, _ = hash_images(other, _bar(other, "decode"))
        look_alike += _shared(dataset, hashes, other, other_hashes, problems)
    for _, text in problems:
        print(_line(text))
    _print_some([f"remark: {text}" for _, text in remarks], "remarks")
    _print_some(look_alike, "that look alike")
    bad = {index for index, _ in problems}
    if arguments.clean:
        left = [index for index in range(len(dataset)) if index not in bad]
        dataset.write_part(left, arguments.clean)
        print(f"{arguments.clean}: {len(left)} of {len(dataset)} images")
    if problems:
        text = f"{dataset.address}: {len(problems)} problems in {len(dataset)} images"
        # Without an image to leave out there is nothing to clean.
        fix_hint = "" if arguments.clean or bad <= {None} else dataset.fix_hint()
        raise ValueError("; ".join(filter(None, [text, fix_hint])))
    counts = f"{len(remarks)} remarks, " if remarks else ""
    print(f"{dataset.address}: {len(dataset)} images, no problems; {counts}{len(look_alike)} look alike")
    return 0


def convert_main(arguments: argparse.Namespace) -> int:
    """Converts, and prints what was taken and what was left out; known errors come out as exceptions."""
    from ..datasets.convert import convert

    report, left_out = convert(
        arguments.source, arguments.out, arguments.split, arguments.to, arguments.link, progress=_bar
    )
    for part in report:
        empty = f", {part.empty} of them without objects" if part.empty else ""
        images, boxes = count_text(part.images, "image"), f"{part.boxes} box{'' if part.boxes == 1 else 'es'}"
        print(f"{one_line(part.split)}: {images}{empty}, {boxes}")
    _print_some([f"left out: {text}" for part in report for text in part.problems], "that were left out")
    _print_some([f"left out: {text}" for text in left_out], "reasons")
    split = next(part.split for part in report if part.images)
    check = shlex.join(["edge-ssd", "data", "check", arguments.out, "--split", split])
    print(f"{arguments.out}: {arguments.to.upper()}; next: {check}")
    return 0


def _print_some(lines: list[str], what: str) -> None:
    """Prints the first lines, and how many more there are of `what`."""
    for line in lines[:_SHOWN]:
        print(_line(line))
    if len(lines) > _SHOWN:
        print(f"... and {len(lines) - _SHOWN} more {what}")


def _line(text: str) -> str:
    """A text in one line, cut where names of thousands of classes would fill the screen."""
    text = one_line(text)
    return text if len(text) <= _LONGEST_LINE else f"{text[:_LONGEST_LINE]}..."


def _other(arguments: argparse.Namespace, address: str, class_names: tuple[str, ...]) -> Dataset:
    """The data set that --against names: a split of the same one, or an address."""
    from ..datasets import open_dataset

    if "://" in address or Path(address).is_dir():
        return open_dataset(address, "", class_names)
    return open_dataset(arguments.data, address, class_names)


def _shared(
    dataset: Dataset,
    hashes: ImageHashes,
    other: Dataset,
    other_hashes: ImageHashes | None,
    problems: list[Finding],
) -> list[str]:
    """Adds the images that `other` has too to `problems`; returns lines on those that look alike."""
    from ..datasets.analysis.duplicates import identical, look_alikes

    where = "" if other_hashes is None else f" of {other.address}"
    for index, twin in identical(hashes, other_hashes):
        problems.append(
            (index, f"{dataset.image_name(index)}: the same image as {other.image_name(twin)}{where}")
        )
    return [
        f"{dataset.image_name(index)}: looks like {other.image_name(twin)}{where}"
        for index, twin in look_alikes(hashes, other_hashes)
    ]


def _bar(dataset: Dataset, text: str) -> Iterable[int]:
    return progress_bar(range(len(dataset)), desc=text, unit="image", leave=False)


def _load_plotter():
    with plotting():
        from ..datasets.analysis.plot import plot_statistics
    return plot_statistics
