"""The check of a data set before it is used: every image's header and every box."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

import numpy as np

from ..files import StrPath
from ..files.image import read_header
from ..files.image_header import UPRIGHT, ImageHeader
from .dataset import Annotation, Dataset, Finding, is_background

# Beyond the image by as much as a file that counts from 0 where 1 was meant, or the reverse; such
# boxes are clipped. Farther out, the box belongs to another image or another size of it.
_TOLERANCE = 1.0
# A box of less than a pixel, no corner of which is beyond this, was meant in shares of the image.
_SHARE_LIMIT = 1.5
_BURN_IN = "burn it in (mogrify -auto-orient)"


def inspect(
    dataset: Dataset, image_path: Callable[[int], StrPath], indices: Iterable[int] | None = None
) -> tuple[list[Finding], list[Finding]]:
    """What is wrong with a data set of files, and what is odd about it.

    image_path: function of the index.   indices: to go over, such as a progress bar.
    Returns (problems, remarks), lists of (index, text) with one problem for each offending image; index None for
    the set as a whole. A problem stops a training, a remark is for people to judge.
    """
    problems: list[Finding] = []
    remarks: list[Finding] = []
    seen: set[str] = set()
    odd_headers: dict[int, ImageHeader] = {}
    for index in range(len(dataset)) if indices is None else indices:
        try:
            found = dataset.annotation(index)
            seen.update(found.names)
            header = read_header(image_path(index))
        except (ValueError, OSError) as error:
            problems.append((index, str(error)))
            continue
        if header.orientation != UPRIGHT or header.depth > 8:
            odd_headers[index] = header
        problem = _size_problem(header, found.image_size) or _box_problem(found, dataset.class_names)
        if problem:
            problems.append((index, f"{dataset.image_name(index)}: {problem}"))
        remarks += [(index, f"{dataset.image_name(index)}: {text}") for text in _repeated_boxes(found)]
    problems += [(None, text) for text in _set_problems(dataset, seen)]
    of_set = [*_name_remarks(dataset, seen), *_header_remarks(dataset, odd_headers)]
    return problems, [(None, text) for text in of_set] + remarks


def _size_problem(header: ImageHeader, in_annotation: tuple[int, int]) -> str:
    if tuple(header.size) == tuple(in_annotation):
        return ""
    (height, width), (rows, columns) = header.size, in_annotation
    text = f"the image is {width}x{height}, its annotation says {columns}x{rows}"
    if header.orientation != UPRIGHT and tuple(header.shown_size) == tuple(in_annotation):
        text += f": it was marked as its orientation tag ({header.orientation}) turns it; {_BURN_IN}"
    return text


def _box_problem(found: Annotation, class_names: tuple[str, ...]) -> str:
    """The first thing wrong with the objects of an image; empty for nothing."""
    height, width = found.image_size
    for box, name in zip(found.boxes, found.names):
        shown = " ".join(f"{v:g}" for v in box)
        if name not in class_names:
            return f"unknown class {name!r}; known: {', '.join(class_names)}"
        if not np.isfinite(box).all():
            return f"box of {name!r} is not finite: {shown}"
        if (box[:2] < -_TOLERANCE).any() or (box[2:] > np.array([width, height]) + _TOLERANCE).any():
            return f"box of {name!r} lies outside the {width}x{height} image: {shown}"
        clipped = np.clip(box, 0, (width, height, width, height))
        sides = clipped[2:] - clipped[:2]
        if (sides <= 0).any():
            return f"box of {name!r} is empty or turned around: {shown}"
        if (sides < 1).any() and (box <= _SHARE_LIMIT).all():
            return f"box of {name!r} is less than a pixel: {shown}; are they shares of the image? Expected pixels"
    return ""


def _repeated_boxes(found: Annotation) -> list[str]:
    """A line for each box that an image has more than once, under one name or several."""
    names = defaultdict(list)
    for box, name in zip(found.boxes.tolist(), found.names):
        names[tuple(box)].append(name)
    return [
        f"the same box {len(of_box)} times ({', '.join(of_box)}): {' '.join(f'{v:g}' for v in box)}"
        for box, of_box in names.items()
        if len(of_box) > 1
    ]


def _set_problems(dataset: Dataset, seen: set[str]) -> list[str]:
    if not len(dataset):
        return ["no images"]
    return [] if seen else ["no image has a box"]


def _name_remarks(dataset: Dataset, seen: set[str]) -> list[str]:
    """Classes that nothing shows, and names that people would read as one."""
    missing = [name for name in dataset.class_names if name not in seen]
    lines = []
    if missing and seen:
        lines.append(f"no box of {', '.join(missing)}: nothing is learned of such a class, and it has no AP")
    lines += [
        f"class {name!r} reads like background, which is what no box covers; training adds a column of its own for it. "
        "Leave the class and its boxes out, unless it is a thing to find"
        for name in dataset.class_names
        if is_background(name)
    ]
    alike = defaultdict(list)
    for name in dataset.class_names:
        alike["".join(name.split()).casefold()].append(name)
    lines += [
        f"classes {', '.join(map(repr, names))} differ in case or blanks alone; are they one?"
        for names in alike.values()
        if len(names) > 1
    ]
    return lines


def _header_remarks(dataset: Dataset, headers: dict[int, ImageHeader]) -> list[str]:
    """Images whose pixels are not read as people see them; headers: by index."""
    lines = []
    turned = [index for index, header in headers.items() if header.orientation != UPRIGHT]
    if turned:
        lines.append(
            f"{_many(dataset, turned)} with an orientation tag: boxes are taken to be marked on the pixels as stored, "
            f"while a detector sees the image turned; {_BURN_IN} and look at the boxes again"
        )
    deep = [index for index, header in headers.items() if header.depth > 8]
    if deep:
        lines.append(
            f"{_many(dataset, deep)} of {headers[deep[0]].depth} bits a channel: the upper 8 are read, and the 12 of a "
            "sensor come out nearly black; scale them to 8 bits"
        )
    return lines


def _many(dataset: Dataset, indices: list[int]) -> str:
    count = "1 image" if len(indices) == 1 else f"{len(indices)} images"
    return f"{count} ({dataset.image_name(indices[0])}{', ...' if len(indices) > 1 else ''})"
