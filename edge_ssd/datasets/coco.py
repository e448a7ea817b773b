"""COCO folders: annotations/*_<split>.json and the images of the split."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

import numpy as np

from ..files import replacing
from ..image_file import read_image
from .check import find_problems
from .dataset import Annotation, Dataset


class CocoDataset(Dataset):
    """A COCO folder; see `open_dataset`. Crowds (iscrowd) are difficult.

    The images lie in images/<split>, <split>, images, or the folder itself. Categories are in order of id.
    """

    difficult_is_crowd = True

    def __init__(self, folder, split="", class_names=()):
        folder = Path(folder)
        self._names_are_given = bool(class_names)
        self._file = _annotation_file(folder, split)
        content = _read_json(self._file)
        categories = sorted(content["categories"], key=lambda category: category["id"])
        self._category_names = {category["id"]: category["name"] for category in categories}
        self._images = sorted(content["images"], key=lambda image: image["id"])
        self._objects = {image["id"]: [] for image in self._images}
        for item in content["annotations"]:
            self._objects.setdefault(item["image_id"], []).append(item)
        places = [folder / "images" / split, folder / split, folder / "images", folder]
        self._image_folder = next(place for place in places if place.is_dir())
        super().__init__(str(self._file), class_names or tuple(self._category_names.values()))

    def __len__(self):
        return len(self._images)

    def image_name(self, index):
        return str(self._image_path(index))

    def image(self, index):
        return read_image(self._image_path(index), turned=False)

    def annotation(self, index):
        image = self._images[index]
        objects = self._objects[image["id"]]
        try:
            boxes = np.array([item["bbox"] for item in objects], np.float64).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]  # x y w h
            names = tuple(self._category_names[item["category_id"]] for item in objects)
            difficult = np.array([bool(item.get("iscrowd", 0)) for item in objects], bool)
            size = int(image["height"]), int(image["width"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{self._file}: image {image['id']}: an entry is missing or wrong: {error}"
            ) from None
        return Annotation(boxes, names, difficult, size)

    def problems(self, indices=None):
        return find_problems(self, self._image_path, not self._names_are_given, indices)

    def write_part(self, indices, path):
        images = [self._images[i] for i in indices]
        part = {
            **_read_json(self._file),
            "images": images,
            "annotations": [item for image in images for item in self._objects[image["id"]]],
        }
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(part) + "\n", encoding="utf-8")

    def _image_path(self, index):
        name = PurePosixPath(str(self._images[index].get("file_name", "")))
        if name.is_absolute() or ".." in name.parts:
            raise ValueError(f"{self._file}: file_name: expected a path below the images' folder, got {name}")
        return self._image_folder / name


def _annotation_file(folder, split):
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


def _read_json(path):
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
    return content
