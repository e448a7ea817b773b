"""COCO folders: annotations/*_<split>.json and the images of the split."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

import numpy as np

from .. import limits
from ..files import StrPath, replacing
from ..files.json_fields import finite_number, finite_numbers, read_json, shown, whole_number
from .dataset import Annotation, Finding
from .folder import FolderDataset

# What is kept of the annotation file, which may be hundreds of megabytes in each process: no polygons, no captions.
_IMAGE_ENTRIES = ("id", "file_name", "height", "width")
_NO_OBJECTS = np.empty((0, 7))
_NUMBERS = frozenset({int, float})


class CocoDataset(FolderDataset):
    """A COCO folder; see `open_dataset`. Crowds (iscrowd) are difficult.

    The images lie in images/<split>, <split>, images, or the folder itself. Categories are in order of id; one without
    a box is a class too.
    """

    difficult_is_crowd = True

    def __init__(self, folder: StrPath, split: str = "", class_names: Sequence[str] = ()) -> None:
        folder = Path(folder)
        self._file = _annotation_file(folder, split)
        content = _read_content(self._file)
        categories = sorted(content["categories"], key=_by_id)
        self._category_names = tuple(category["name"] for category in categories)
        self._images = [
            {key: image[key] for key in _IMAGE_ENTRIES if key in image}
            for image in sorted(content["images"], key=_by_id)
        ]
        numbers = {category["id"]: number for number, category in enumerate(categories)}
        self._objects, self._wrong = _group_objects(content["annotations"], numbers)
        if len(numbers) != len(categories):
            raise ValueError(f"{self._file}: categories: expected each id once")
        self._folder = folder
        self._image_folder = _image_folder(folder, split, self._images)
        clean = self._file.with_stem(f"{self._file.stem}-clean")
        super().__init__(folder, split, str(self._file), class_names or self._category_names, clean)

    def __len__(self) -> int:
        return len(self._images)

    def annotation(self, index: int) -> Annotation:
        image = self._images[index]
        try:
            if image["id"] in self._wrong:
                raise ValueError(self._wrong[image["id"]])
            size = whole_number(image["height"], "height"), whole_number(image["width"], "width")
            objects = self._objects.get(image["id"], _NO_OBJECTS)
            boxes = objects[:, :4].copy()
            boxes[:, 2:] += boxes[:, :2]  # x y w h
            names = tuple(self._category_names[number] for number in objects[:, 5].astype(int))
            return Annotation(boxes, names, objects[:, 6].astype(bool), size)
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"{self._file}: image {shown(image['id'])}: an entry is missing or wrong: {error}"
            ) from None

    def areas(self, index: int) -> np.ndarray:
        """(N,) float64: `area` of the file, mostly that of the mask, as COCO's own scoring takes it."""
        self.annotation(index)  # raises what is wrong with the image's entries
        return self._objects.get(self._images[index]["id"], _NO_OBJECTS)[:, 4].copy()

    def findings(self, indices: Iterable[int] | None = None) -> tuple[list[Finding], list[Finding]]:
        problems, remarks = super().findings(indices)
        counts = Counter(image["id"] for image in self._images)
        problems += [
            (
                index,
                f"{self._file}: image {image.get('file_name')!s:.200}: its id {_shown_id(image['id'])} is there more "
                "than once",
            )
            for index, image in enumerate(self._images)
            if counts[image["id"]] > 1
        ]
        strays = [key for key in {**self._objects, **self._wrong} if key not in counts]
        if strays:
            problems.append((None, self._stray_problem(strays, counts)))
        return problems, remarks

    def _stray_problem(self, strays: list[Any], known: Collection[Any]) -> str:
        """Of annotations that would vanish. strays: image_ids that no image has.   known: ids of the images."""
        as_text = {str(key): key for key in known}
        stray = next((key for key in strays if str(key) in as_text), strays[0])
        text = f"{self._file}: annotations of {len(strays)} images that it does not list, such as image_id "
        text += _shown_id(stray)
        if str(stray) in as_text:
            text += f"; the images have {_shown_id(as_text[str(stray)])}: expected the same type"
        return text

    def write_part(self, indices: Sequence[int], path: StrPath) -> None:
        content = _read_content(self._file)
        everything = sorted(content["images"], key=_by_id)
        # Below the data set's folder, so that they are found under whatever name the part has.
        names = [self._image_path(i).relative_to(self._folder).as_posix() for i in indices]
        images = [{**everything[i], "file_name": name} for i, name in zip(indices, names)]
        kept = {image["id"] for image in images}
        part = {
            **content,
            "images": images,
            "annotations": [item for item in content["annotations"] if item["image_id"] in kept],
        }
        try:
            text = json.dumps(part)
        except RecursionError:
            raise ValueError(f"{self._file}: nested too deeply to be written again") from None
        with replacing(path) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")

    def _image_path(self, index: int) -> Path:
        image = self._images[index]
        name = image.get("file_name")
        if not _is_name(name):
            found = shown(name) if "file_name" in image else "none"
            raise ValueError(
                f"{self._file}: image {shown(image['id'])}: file_name: expected a path, got {found}"
            )
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(
                f"{self._file}: file_name: expected a path below the images' folder, got {name!s:.200}"
            )
        return self._image_folder / path


def _annotation_file(folder: Path, split: str) -> Path:
    """annotations/<anything>_<split>.json; the instances where there are others, such as captions."""
    files = sorted((folder / "annotations").glob("*.json"))
    names = [path.stem for path in files]
    if split:
        files = [path for path in files if path.stem == split or path.stem.endswith(f"_{split}")]
    instances = [path for path in files if path.stem.startswith("instances")]
    fitting = instances or files
    if len(fitting) != 1:
        asked = f"one annotation file of split {split!r}" if split else "one annotation file, or a split"
        raise ValueError(f"{folder / 'annotations'}: expected {asked}; there is: {', '.join(names)}")
    return fitting[0]


def _by_id(entry: dict[str, Any]) -> tuple[bool, Any]:
    """A key to sort by that takes numbers and texts."""
    return isinstance(entry["id"], str), entry["id"]


def _group_objects(annotations, numbers):
    """The objects of each image, and what is wrong with those of some.

    numbers: dict category id -> number of the class.
    Returns (dict image id -> (N, 7) float64 x y w h, area, number of the class, crowd or not;
    dict image id -> text).
    """
    objects, wrong = {}, {}
    for item in annotations:
        try:
            row = _row(item, numbers)
        except (KeyError, ValueError) as error:
            wrong.setdefault(item["image_id"], str(error))
        else:
            objects.setdefault(item["image_id"], []).append(row)
    return {key: np.array(rows, np.float64) for key, rows in objects.items()}, wrong


def _row(item: dict[str, Any], numbers: dict[Any, int]) -> tuple[float, ...]:
    """An annotation as `_group_objects` keeps it. Raises KeyError, or ValueError naming the entry."""
    bbox = item["bbox"]
    # There are a million of them: what is usual is told by their types at once, the rest one by one.
    if not (type(bbox) is list and len(bbox) == 4 and _NUMBERS.issuperset(map(type, bbox))):
        bbox = finite_numbers(bbox, "bbox", 4)
    try:
        area = item.get("area", bbox[2] * bbox[3])
    except OverflowError:  # a whole number beyond any float: named below
        area = math.inf
    if type(area) not in _NUMBERS or not _are_finite([*bbox, area]):
        finite_numbers(bbox, "bbox", 4)
        finite_number(area, "area")
        raise ValueError("bbox: its numbers are too large")
    category, crowd = item["category_id"], item.get("iscrowd", 0)
    if not _is_id(category) or category not in numbers:
        raise ValueError(f"category_id: expected one of the categories' ids, got {shown(category)}")
    if not isinstance(crowd, int) or crowd not in (0, 1):
        raise ValueError(f"iscrowd: expected 0 or 1, got {shown(crowd)}")
    return *map(float, bbox), float(area), numbers[category], crowd


def _are_finite(numbers: Iterable[float]) -> bool:
    """Whether numbers, and so their sums, are within what a float can hold."""
    try:
        return math.isfinite(sum(map(float, numbers)))
    except OverflowError:  # a whole number beyond any float
        return False


def _image_folder(folder: Path, split: str, images: list[dict[str, Any]]) -> Path:
    """The first of the usual places that has one of the first images; the first that exists where none has."""
    places = [folder / "images" / split, folder / split, folder / "images", folder]
    places = [place for place in places if place.is_dir()]
    names = [image["file_name"] for image in images[:10] if _is_name(image.get("file_name"))]
    found = (place for place in places if any(_exists(place / name) for name in names))
    return next(found, places[0])


def _exists(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def _is_name(value: object) -> TypeGuard[str]:
    """Whether a file may be called so: a text that a file system can take."""
    return isinstance(value, str) and value != "" and "\0" not in value and _is_unicode(value)


def _is_unicode(text: str) -> bool:
    """Whether a text can be written: JSON can hold halves of surrogate pairs."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_id(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _shown_id(value: object) -> str:
    """An id as an error quotes it: '7' is no 7."""
    return repr(value) if len(repr(value)) <= 60 else shown(value)


def _read_content(path: Path) -> dict[str, Any]:
    content = read_json(path, limits.MOST_ANNOTATION_BYTES)
    needed = {"images": ("id",), "annotations": ("image_id",), "categories": ("id", "name")}
    for key, entries in needed.items():
        items = content.get(key) if isinstance(content, dict) else None
        if not isinstance(items, list):
            raise ValueError(f"{path}: {key}: expected a list; is it a file of object instances?")
        for item in items:
            if not isinstance(item, dict) or any(entry not in item for entry in entries):
                raise ValueError(
                    f"{path}: {key}: expected objects with {', '.join(entries)}, got {shown(item)}"
                )
            if not _is_id(item[entries[0]]):
                raise ValueError(
                    f"{path}: {key}: {entries[0]}: expected a number or a text, got {shown(item[entries[0]])}"
                )
    for item in content["categories"]:
        name = item["name"]
        if not isinstance(name, str) or not name or not _is_unicode(name):
            raise ValueError(
                f"{path}: categories: {shown(item['id'])}: name: expected a text, got {shown(name)}"
            )
    return content
