"""COCO and VOC folders, written from data sets of files."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from ...files import write_text
from ...files.terminal import one_line
from ..folder import FolderDataset

# By split: the data set, and the images of it to write.
Taken = Mapping[str, tuple[FolderDataset, Sequence[int]]]
Copy = Callable[[Path, Path], Any]


def name_problem(image: str) -> str:
    """Why an image's file cannot be taken under its name; empty where it can."""
    try:
        image.encode()
    except UnicodeEncodeError:
        return f"{image.encode(errors='backslashreplace').decode()}: its name is not UTF-8; rename it"
    return ""


def write_coco(folder: Path, taken: Taken, class_names: Sequence[str], copy: Copy) -> None:
    """annotations/instances_<split>.json and images/<split> for each; difficult objects become crowds."""
    numbers = {name: number for number, name in enumerate(class_names, 1)}
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    (folder / "annotations").mkdir()
    for split, (dataset, indices) in taken.items():
        place = folder / "images" / split
        place.mkdir(parents=True)
        images, objects = [], []
        for number, (index, name) in enumerate(zip(indices, _names(dataset, indices)), 1):
            copy(Path(dataset.image_name(index)), place / name)
            boxes, names, difficult, (height, width) = _clipped(dataset, index)
            images.append({"id": number, "file_name": name, "width": width, "height": height})
            for box, label, crowd, area in zip(boxes, names, difficult, dataset.areas(index)):
                objects.append(
                    {
                        "id": len(objects) + 1,
                        "image_id": number,
                        "category_id": numbers[label],
                        "bbox": [round(float(v), 3) for v in (*box[:2], *(box[2:] - box[:2]))],
                        "area": round(float(area), 3),
                        "iscrowd": int(crowd),
                    }
                )
        content = {"images": images, "annotations": objects, "categories": categories}
        write_text(folder / "annotations" / f"instances_{split}.json", json.dumps(content) + "\n")


def write_voc(folder: Path, taken: Taken, class_names: Sequence[str], copy: Copy) -> None:
    """Annotations, JPEGImages, ImageSets/Main/<split>.txt and classes.txt; crowds become difficult objects.

    Raises ValueError for a class whose name does not fit in a line.
    """
    for name in class_names:
        if name != one_line(name).strip() or not name:
            raise ValueError(
                f"class {one_line(name)!r}: VOC has a name in a line of its own; rename it, or --to coco"
            )
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    used: set[str] = set()
    for split, (dataset, indices) in taken.items():
        stems = []
        for index in indices:
            image = Path(dataset.image_name(index))
            stem = _free([image.stem, f"{split}_{image.stem}", f"{split}_{index}_{image.stem}"], used)
            copy(image, folder / "JPEGImages" / f"{stem}{image.suffix}")
            root = _voc_annotation(dataset, index, f"{stem}{image.suffix}")
            (folder / "Annotations" / f"{stem}.xml").write_bytes(ElementTree.tostring(root, "utf-8"))
            stems.append(stem)
        write_text(folder / "ImageSets/Main" / f"{split}.txt", "".join(f"{stem}\n" for stem in stems))
    write_text(folder / "classes.txt", "".join(f"{name}\n" for name in class_names))


def _voc_annotation(dataset: FolderDataset, index: int, name: str) -> ElementTree.Element:
    boxes, names, difficult, (height, width) = _clipped(dataset, index)
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = name
    _add(root, "size", {"width": width, "height": height, "depth": 3})
    for box, label, hard in zip(boxes, names, difficult):
        item = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(item, "name").text = label
        ElementTree.SubElement(item, "difficult").text = str(int(hard))
        # VOC counts pixels from 1 and includes the last.
        corners = (box + np.array([1, 1, 0, 0])).round(3).tolist()
        _add(item, "bndbox", dict(zip(("xmin", "ymin", "xmax", "ymax"), corners)))
    return root


def _add(parent: ElementTree.Element, name: str, values: Mapping[str, float]) -> None:
    item = ElementTree.SubElement(parent, name)
    for key, value in values.items():
        ElementTree.SubElement(item, key).text = f"{value:.10g}"


def _clipped(
    dataset: FolderDataset, index: int
) -> tuple[np.ndarray, tuple[str, ...], np.ndarray, tuple[int, int]]:
    """Boxes within the image, names, difficult, (height, width)."""
    found = dataset.annotation(index)
    height, width = found.image_size
    return (
        np.clip(found.boxes, 0, (width, height, width, height)),
        found.names,
        found.difficult,
        found.image_size,
    )


def _names(dataset: FolderDataset, indices: Sequence[int]) -> list[str]:
    """File names of images in one folder: their own, where several have it with the folders that they come from."""
    paths = [Path(dataset.image_name(index)) for index in indices]
    counts = Counter(path.name.casefold() for path in paths)
    above = Path(os.path.commonpath([path.parent for path in paths]))
    used: set[str] = set()
    joined = ("_".join(path.relative_to(above).parts) for path in paths)
    return [
        _free([path.name if counts[path.name.casefold()] == 1 else name, f"{i}_{name}"], used)
        for i, (path, name) in enumerate(zip(paths, joined))
    ]


def _free(readings: Sequence[str], used: set[str]) -> str:
    """The first reading that is not used yet, small letters or large; adds it to `used`."""
    name = next(reading for reading in readings if reading.casefold() not in used)
    used.add(name.casefold())
    return name
