"""The check of a data set before it is used: every image and box."""

from __future__ import annotations

import numpy as np

from ..image_file import read_image_size

# Beyond the image by as much as a file that counts from 0 where 1 was meant, or the reverse; such
# boxes are clipped. Farther out, the box belongs to another image or another size of it.
_TOLERANCE = 1.0


def find_problems(dataset, image_path, needs_every_class, indices=None):
    """What is wrong with a data set of files.

    image_path: function of the index.   needs_every_class: a class without a box is a problem.
    indices: to go over, such as a progress bar.
    Returns a list of (index, text), one for each offending image; index None for the set as a whole.
    """
    problems, seen = [], set()
    for index in range(len(dataset)) if indices is None else indices:
        try:
            found = dataset.annotation(index)
            problem = _size_problem(read_image_size(image_path(index)), found.image_size)
        except (ValueError, OSError) as error:
            problems.append((index, str(error)))
            continue
        seen.update(found.names)
        problem = problem or _box_problem(found, dataset.class_names)
        if problem:
            problems.append((index, f"{dataset.image_name(index)}: {problem}"))
    if not len(dataset):
        problems.append((None, "no images"))
    elif needs_every_class:
        missing = [name for name in dataset.class_names if name not in seen]
        problems += [(None, f"class {name!r} has no box") for name in missing]
    return problems


def _size_problem(in_file, in_annotation):
    if tuple(in_file) == tuple(in_annotation):
        return ""
    (height, width), (rows, columns) = in_file, in_annotation
    return f"the image is {width}x{height}, its annotation says {columns}x{rows}"


def _box_problem(found, class_names):
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
        if (clipped[2:] <= clipped[:2]).any():
            return f"box of {name!r} is empty or turned around: {shown}"
    return ""
