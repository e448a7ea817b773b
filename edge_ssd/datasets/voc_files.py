"""Where the files of a VOC data set lie: in VOC's folders, in those of other tools, or XML beside the images."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ..files import IMAGE_SUFFIXES, OTHER_IMAGE_SUFFIXES, count_text, suffixes_text

# What tools call the two folders; VOC's own names first.
_ANNOTATION_FOLDERS = ("Annotations", "annotations", "Annotation", "annotation", "xmls", "xml", "labels")
_IMAGE_FOLDERS = ("JPEGImages", "images", "Images", "imgs", "img")
# CVAT's own format: all images of a task in one file, which is no VOC.
CVAT_FILE = "annotations.xml"
# How far below a folder XML files are looked for, to tell what kind of data set it is.
_DEPTH = 3


class VocFiles(NamedTuple):
    """The files of a VOC data set; names are paths below their folder, without the suffix.

    places: the folder of the annotations and that of the images.   annotations: dict name -> path.
    images: dict name of the annotation -> path of its image.   left_out: what is not taken, a text for each reason.
    """

    places: tuple[Path, Path]
    annotations: dict[str, Path]
    images: dict[str, Path]
    left_out: tuple[str, ...]


def annotation_folder(folder: Path) -> Path | None:
    """The folder of the XML files in a data set's folder; None where they lie elsewhere."""
    for name in _ANNOTATION_FOLDERS:
        place = folder / name
        if place.is_dir() and (name == _ANNOTATION_FOLDERS[0] or has_xml(place)):
            return place
    return None


def _places(folder: Path) -> tuple[Path, Path]:
    """The folder of the annotations and that of the images."""
    annotations = annotation_folder(folder)
    if annotations is None:
        return folder, folder
    for name in _IMAGE_FOLDERS:
        if (folder / name).is_dir():
            return annotations, folder / name
    return annotations, annotations if _has_images(annotations) else folder


def find_voc_files(folder: Path) -> VocFiles:
    """The files of the VOC data set in a folder, sub-folders and all. Raises OSError for one that cannot be read."""
    places = _places(folder)
    in_annotations, in_images = (sorted(files_below(place)) if place.is_dir() else [] for place in places)
    annotations = {_name(path, places[0]): path for path in in_annotations if _is_annotation(path, folder)}
    found: dict[str, Path] = {}
    doubles: list[Path] = []
    for path in in_images:
        if path.suffix.lower() in IMAGE_SUFFIXES:
            name = _name(path, places[1])
            if name in found:
                doubles.append(found[name])
            found[name] = path
    images = _paired(annotations, found)
    others = [path for path in in_images if path.suffix.lower() in OTHER_IMAGE_SUFFIXES]
    taken = set(images.values())
    reasons = [
        ([path for path in found.values() if path not in taken], "image", "without an annotation"),
        (doubles, "image", "of the same name as another"),
        (others, "image", "of a kind that is not read"),
    ]
    if places[0] not in (places[1], folder):
        reasons.append(
            ([p for p in in_annotations if p.suffix.lower() != ".xml"], "annotation", "that is no XML")
        )
    texts = (
        f"{count_text(len(paths), noun)} {why} ({_examples(paths)})" for paths, noun, why in reasons if paths
    )
    return VocFiles(places, annotations, images, tuple(texts))


def files_below(folder: Path, depth: int = 0) -> Iterator[Path]:
    """The files in a folder and its sub-folders, in no order; hidden ones and those of __MACOSX are none.

    depth: of sub-folders that are looked into; 0: all.   Raises OSError for one that cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise error

    for place, folders, names in os.walk(folder, onerror=refuse):
        level = len(Path(place).relative_to(folder).parts)
        folders[:] = (
            [n for n in folders if not n.startswith((".", "__MACOSX"))] if not depth or level < depth else []
        )
        yield from (Path(place, name) for name in names if not name.startswith("."))


def has_xml(folder: Path) -> bool:
    """Whether a folder holds annotations as XML, not too far below."""
    return any(_is_annotation(path, folder) for path in files_below(folder, _DEPTH))


def _has_images(folder: Path) -> bool:
    return any(path.suffix.lower() in IMAGE_SUFFIXES for path in files_below(folder, _DEPTH))


def _is_annotation(path: Path, folder: Path) -> bool:
    return path.suffix.lower() == ".xml" and path != folder / CVAT_FILE


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _paired(annotations: Iterable[str], images: dict[str, Path]) -> dict[str, Path]:
    """The image of each annotation: that of the same path, else the only one left of the same name."""
    paired = {name: images[name] for name in annotations if name in images}
    left, left_images = (
        by_last(name for name in names if name not in paired) for names in (annotations, images)
    )
    for last, name in left.items():
        if name and left_images.get(last):
            paired[name] = images[left_images[last]]
    return paired


def by_last(names: Iterable[str]) -> dict[str, str]:
    """The name of each last part of a path; empty where several names end so."""
    grouped = defaultdict(list)
    for name in names:
        grouped[PurePosixPath(name).name].append(name)
    return {last: of_last[0] if len(of_last) == 1 else "" for last, of_last in grouped.items()}


def _examples(paths: Sequence[Path]) -> str:
    suffixes = Counter(path.suffix.lower() for path in paths)
    if set(suffixes) <= set(IMAGE_SUFFIXES):
        return f"such as {paths[0]}"
    return suffixes_text(suffixes)
