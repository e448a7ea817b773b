"""COCO folders: annotations/*_<split>.json and the images of the split."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..files import StrPath, replacing
from .dataset import Annotation, Finding
from .folder import FolderDataset

# What is kept of the annotation file, which may be hundreds of megabytes in each process: no polygons, no captions.
_IMAGE_ENTRIES = ("id", "file_name", "height", "width")
_NO_OBJECTS = np.empty((0, 7))


class CocoDataset(FolderDataset):
    """A COCO folder; see `open_dataset`. Crowds (iscrowd) are difficult.

    The images lie in images/<split>, <split>, images, or the folder itself. Categories are in order of id; one without
    a box is a class too.
    """

    difficult_is_crowd = True

    def __init__(self, folder: StrPath, split: str = "", class_names: Sequence[str] = ()) -> None:
        folder = Path(folder)
        self._file = _annotation_file(folder, split)
        content = _read_json(self._file)
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
            size = int(image["height"]), int(image["width"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{self._file}: image {image['id']}: an entry is missing or wrong: {error}"
            ) from None
        objects = self._objects.get(image["id"], _NO_OBJECTS)
        boxes = objects[:, :4].copy()
        boxes[:, 2:] += boxes[:, :2]  # x y w h
        names = tuple(self._category_names[number] for number in objects[:, 5].astype(int))
        return Annotation(boxes, names, objects[:, 6].astype(bool), size)

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
                f"{self._file}: image {image.get('file_name')}: its id {image['id']!r} is there more than once",
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
        text = f"{self._file}: annotations of {len(strays)} images that it does not list, such as image_id {stray!r}"
        if str(stray) in as_text:
            text += f"; the images have {as_text[str(stray)]!r}: expected the same type"
        return text

    def write_part(self, indices: Sequence[int], path: StrPath) -> None:
        content = _read_json(self._file)
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
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(part) + "\n", encoding="utf-8")

    def _image_path(self, index: int) -> Path:
        name = PurePosixPath(str(self._images[index].get("file_name", "")))
        if name.is_absolute() or ".." in name.parts:
            raise ValueError(f"{self._file}: file_name: expected a path below the images' folder, got {name}")
        return self._image_folder / name


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
            x, y, width, height = map(float, item["bbox"])
            area = float(item.get("area", width * height))
            row = x, y, width, height, area, numbers[item["category_id"]], bool(item.get("iscrowd", 0))
        except (KeyError, TypeError, ValueError) as error:
            wrong.setdefault(item["image_id"], str(error))
        else:
            objects.setdefault(item["image_id"], []).append(row)
    return {key: np.array(rows, np.float64) for key, rows in objects.items()}, wrong


def _image_folder(folder: Path, split: str, images: list[dict[str, Any]]) -> Path:
    """The first of the usual places that has one of the first images; the first that exists where none has."""
    places = [folder / "images" / split, folder / split, folder / "images", folder]
    places = [place for place in places if place.is_dir()]
    names = [str(image.get("file_name", "")) for image in images[:10]]
    found = (place for place in places if any(name and (place / name).is_file() for name in names))
    return next(found, places[0])


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from None
    needed = {"images": ("id",), "annotations": ("image_id",), "categories": ("id", "name")}
    for key, entries in needed.items():
        items = content.get(key) if isinstance(content, dict) else None
        if not isinstance(items, list):
            raise ValueError(f"{path}: {key}: expected a list; is it a file of object instances?")
        for item in items:
            if not isinstance(item, dict) or any(entry not in item for entry in entries):
                raise ValueError(
                    f"{path}: {key}: expected objects with {', '.join(entries)}, got {item!r:.80}"
                )
            if not isinstance(item[entries[0]], (int, float, str)):
                raise ValueError(
                    f"{path}: {key}: {entries[0]}: expected a number or a text, got {item[entries[0]]!r:.80}"
                )
    return content
