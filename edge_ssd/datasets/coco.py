"""COCO folders: annotations/*_<split>.json and the images of the split."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

import numpy as np

from .. import limits
from ..files import IMAGE_SUFFIXES, OTHER_IMAGE_SUFFIXES, StrPath, count_text, replacing, suffixes_text
from ..files.json_fields import finite_number, finite_numbers, read_json, short, shown, whole_number
from .dataset import Annotation, Finding
from .folder import FolderDataset
from .voc_files import files_below

# What is kept of the annotation file, which may be hundreds of megabytes in each process: no polygons, no captions.
_IMAGE_ENTRIES = ("id", "file_name", "height", "width")
_NO_OBJECTS = np.empty((0, 7))
_NUMBERS = frozenset({int, float})
# Annotation files that tools write beside the images, or their folder: Label Studio, FiftyOne and others.
_BESIDE = re.compile(r"(result|labels|annotations|instances_.*|coco.*)(-clean)?\.json")
_DRIVE = re.compile("[A-Za-z]:")
# Categories that a message names.
_LISTED = 10


class CocoDataset(FolderDataset):
    """A COCO folder; see `open_dataset`. Crowds (iscrowd) are difficult.

    The annotations lie in annotations/*_<split>.json, or in one JSON file of the folder itself; the images in
    images/<split>, <split>, images, data, or the folder itself. Categories are in order of id; one without a box is a
    class too.
    """

    difficult_is_crowd = True

    def __init__(
        self, folder: StrPath, split: str = "", class_names: Sequence[str] = (), file: Path | None = None
    ) -> None:
        """file: the annotations, beside the images; default: where COCO has them."""
        folder = Path(folder)
        self._file = file or _annotation_file(folder, split)
        content = _read_content(self._file)
        categories = sorted(content["categories"], key=_by_id)
        self._category_names = tuple(category["name"] for category in categories)
        self._images = [
            {key: image[key] for key in _IMAGE_ENTRIES if key in image}
            for image in sorted(content["images"], key=_by_id)
        ]
        numbers = {category["id"]: number for number, category in enumerate(categories)}
        self._objects, self._wrong = _group_objects(content["annotations"], numbers, self._category_names)
        if len(numbers) != len(categories):
            raise ValueError(f"{self._file}: categories: expected each id once")
        self._folder = folder
        # A file of the only set tells the folder of its images: instances_default.json.
        of_file = self._file.stem.rpartition("_")[2]
        places = [self._file.parent] if file else _image_places(folder, split or of_file)
        last_parts = Counter(_last_part(image.get("file_name")) for image in self._images)
        self._ambiguous = frozenset(last for last, count in last_parts.items() if count > 1)
        self._image_folder = self._image_folder_of(places)
        clean = self._file.with_stem(f"{self._file.stem}-clean")
        super().__init__(folder, split, str(self._file), class_names or self._category_names, clean)
        alone = len(annotation_files(folder)) == 1
        if self._image_folder != folder and (alone or self._image_folder.name in (split, of_file)):
            self.left_out = self._unlisted()

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

    def has_box(self, class_name: str) -> bool:
        """Whether any object is of a class."""
        number = self._category_names.index(class_name) if class_name in self._category_names else -1
        return any((rows[:, 5] == number).any() for rows in self._objects.values())

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
        found = self._found(self._image_folder, name)
        if found is None:
            raise ValueError(
                f"{self._file}: file_name: expected a path below the images' folder, got {name!s:.200}"
            )
        return found

    def _found(self, folder: Path, name: str) -> Path | None:
        r"""The path of an image below a folder, there or not; None where its name leads out of it.

        Tools on Windows write \ for /. Others write a path of their own machine: then the image is that of the same
        last part, if only one has it.
        """
        if "\\" in name and not _exists(folder / name):
            name = name.replace("\\", "/")
        path = PurePosixPath(name)
        if not (path.is_absolute() or ".." in path.parts or _DRIVE.match(name)):
            return folder / path
        last = folder / path.name
        return last if path.name not in (*self._ambiguous, "", "..") and _exists(last) else None

    def _image_folder_of(self, places: list[Path]) -> Path:
        """The first of the places that has one of the first images; the first that exists where none has."""
        places = [place for place in places if place.is_dir()]
        names = [image["file_name"] for image in self._images[:10] if _is_name(image.get("file_name"))]
        for place in places:
            if any(path and _exists(path) for path in (self._found(place, name) for name in names)):
                return place
        return places[0]

    def _unlisted(self) -> tuple[str, ...]:
        """What lies in the images' folder and is not listed, a text for each reason."""
        names = [image["file_name"] for image in self._images if _is_name(image.get("file_name"))]
        listed = {self._found(self._image_folder, name) for name in names}
        paths = sorted(path for path in files_below(self._image_folder) if path not in listed)
        images = [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES]
        others = [path for path in paths if path.suffix.lower() in OTHER_IMAGE_SUFFIXES]
        texts = []
        if images:
            where = f"that {self._file.name} does not list (such as {images[0]})"
            texts.append(f"{count_text(len(images), 'image')} {where}")
        if others:
            kinds = suffixes_text(path.suffix.lower() for path in others)
            texts.append(f"{count_text(len(others), 'image')} of a kind that is not read ({kinds})")
        return tuple(texts)


def annotation_files(folder: Path) -> list[Path]:
    """The files of annotations of a COCO folder: annotations/*.json, else what some tools write beside the images."""
    inside = sorted((folder / "annotations").glob("*.json"))
    return inside or sorted(path for path in folder.glob("*.json") if _BESIDE.fullmatch(path.name))


def _annotation_file(folder: Path, split: str) -> Path:
    """annotations/<anything>_<split>.json; the instances where there are others, such as captions."""
    files = annotation_files(folder)
    names = [path.stem for path in files]
    if split:
        files = [path for path in files if path.stem == split or path.stem.endswith(f"_{split}")]
    instances = [path for path in files if path.stem.startswith("instances")]
    fitting = instances or files
    if len(fitting) != 1:
        place = files[0].parent if files else folder / "annotations"
        asked = f"one annotation file of split {split!r}" if split else "one annotation file, or a split"
        raise ValueError(f"{place}: expected {asked}; there is: {', '.join(names)}")
    return fitting[0]


def _by_id(entry: dict[str, Any]) -> tuple[bool, Any]:
    """A key to sort by that takes numbers and texts."""
    return isinstance(entry["id"], str), entry["id"]


def _group_objects(annotations, numbers, category_names):
    """The objects of each image, and what is wrong with those of some.

    numbers: dict category id -> number of the class.   category_names: by that number, for errors.
    Returns (dict image id -> (N, 7) float64 x y w h, area, number of the class, crowd or not;
    dict image id -> text).
    """
    objects, wrong = {}, {}
    known = _known(numbers, category_names)
    for item in annotations:
        try:
            row = _row(item, numbers)
        except _UnknownCategory as error:
            wrong.setdefault(item["image_id"], f"{error} ({known})")
        except (KeyError, ValueError) as error:
            wrong.setdefault(item["image_id"], str(error))
        else:
            objects.setdefault(item["image_id"], []).append(row)
    return {key: np.array(rows, np.float64) for key, rows in objects.items()}, wrong


class _UnknownCategory(ValueError):
    """An id that no category has."""


def _known(numbers: dict[Any, int], names: Sequence[str]) -> str:
    """The categories for a message: 1 cat, 2 dog."""
    shown_ids = [
        f"{_shown_id(key)} {short(names[number])}" for key, number in list(numbers.items())[:_LISTED]
    ]
    return ", ".join([*shown_ids, *(["..."] if len(numbers) > _LISTED else [])])


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
    if _is_id(category) and category not in numbers:
        raise _UnknownCategory(f"category_id {_shown_id(category)} is not among the categories")
    if not _is_id(category):
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


def _image_places(folder: Path, split: str) -> list[Path]:
    """The usual places of images, the likeliest first."""
    return [folder / "images" / split, folder / split, folder / "images", folder / "data", folder]


def _last_part(name: object) -> str:
    return PurePosixPath(name.replace("\\", "/")).name if isinstance(name, str) else ""


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
