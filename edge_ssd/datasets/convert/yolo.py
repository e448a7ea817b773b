"""YOLO folders: a text file of shares of the image for each, classes in data.yaml or a list of names."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from ... import limits
from ...files import IMAGE_SUFFIXES, OTHER_IMAGE_SUFFIXES, count_text, read_text, suffixes_text
from ...files.image import read_header
from ...files.image_header import UPRIGHT
from ..dataset import Annotation
from ..folder import FolderDataset
from ..voc_files import files_below
from .yolo_yaml import DataYaml, read_data_yaml

# Folders and lists that are called so are a split.
_SPLITS = ("train", "training", "val", "valid", "validation", "test", "testing")
# The split of images that are in none.
ALL = "all"
_CLASS = re.compile(r"([0-9]{1,6})(\.0*)?")
# A box beyond the image by more than rounding is marked in something else than shares.
_MOST_SHARE = 1.01


class YoloDataset(FolderDataset):
    """The images of one split, with the boxes of their label files.

    names: dict class number -> name.   labels: dict image -> label file, or None for an image without objects.
    has_keypoints: rows have points behind the box.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        names: Mapping[int, str],
        labels: Mapping[Path, Path | None],
        has_keypoints: bool,
    ) -> None:
        super().__init__(folder, "", f"{folder}, split {split}", list(names.values()), folder)
        self._names, self._has_keypoints = dict(names), has_keypoints
        self._paths, self._label_files = list(labels), dict(labels)

    def __len__(self) -> int:
        return len(self._paths)

    def annotation(self, index: int) -> Annotation:
        path = self._paths[index]
        header = read_header(path)
        if header.orientation != UPRIGHT:
            raise ValueError(
                f"{path}: has an orientation tag: shares of which side is unknown; burn it in (mogrify -auto-orient)"
            )
        label_file = self._label_files[path]
        rows = self._rows(label_file) if label_file else []
        boxes = np.array([box for _, box in rows], np.float64).reshape(-1, 4)
        height, width = header.size
        names = tuple(self._names[number] for number, _ in rows)
        return Annotation(
            boxes * (width, height, width, height), names, np.zeros(len(rows), bool), header.size
        )

    def _rows(self, path: Path) -> list[tuple[int, tuple[float, ...]]]:
        """(class number, x1 y1 x2 y2 in shares of the image) for each line."""
        rows = []
        for number, line in enumerate(lines_of(path, limits.MOST_XML_BYTES), 1):
            if not line.strip():
                continue
            try:
                rows.append(self._row(line.split()))
            except ValueError as error:
                raise ValueError(f"{path}: line {number}: {error}") from None
        return rows

    def _row(self, words: list[str]) -> tuple[int, tuple[float, ...]]:
        found = _CLASS.fullmatch(words[0])
        if not found or int(found[1]) not in self._names:
            raise ValueError(f"class {words[0]!r:.40} is not among the {len(self._names)} names")
        # Behind the box of key points stand three numbers for each, the last no share.
        numbers = [_share(word) for word in words[1 : 5 if self._has_keypoints else None]]
        if len(numbers) == 4:
            x, y, width, height = numbers
            return int(found[1]), (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        if len(numbers) < 6 or len(numbers) % 2:
            raise ValueError(
                f"expected class, x, y, width, height, or the corners of a polygon; got {len(words)} columns"
            )
        return int(found[1]), (min(numbers[::2]), min(numbers[1::2]), max(numbers[::2]), max(numbers[1::2]))

    def _image_path(self, index: int) -> Path:
        return self._paths[index]


def _share(word: str) -> float:
    try:
        value = math.nan if "_" in word else float(word)  # which Python takes
    except ValueError:
        value = math.nan
    if not abs(value) < math.inf:
        raise ValueError(f"expected numbers, got {word!r:.40}")
    if abs(value) > _MOST_SHARE:
        raise ValueError(f"expected shares of the image from 0 to 1, got {word:.40}; are they pixels?")
    return value


def open_yolo(folder: Path) -> tuple[dict[str, YoloDataset], list[str]]:
    """The data sets of a YOLO folder by their split, and what of it is left out, a text for each reason.

    Raises ValueError where it has no images with label files, or no names of classes.
    """
    files = sorted(files_below(folder))
    images = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    texts = {path for path in files if path.suffix.lower() == ".txt"}
    labels = {path: _label_file(path, folder, texts) for path in images}
    if not any(labels.values()):
        raise ValueError(
            f"{folder}: expected YOLO's labels (labels/NAME.txt, or beside NAME.jpg), found none"
        )
    yaml = _read_yaml(folder, files)
    yaml = yaml._replace(names=yaml.names or _names_of_list(folder, files))
    places = _split_of(folder, images, yaml)
    splits: dict[str, dict[Path, Path | None]] = {}
    for path in images:
        splits.setdefault(places[path], {})[path] = labels[path]
    order = sorted(splits, key=lambda name: (_SPLITS.index(name) if name in _SPLITS else len(_SPLITS), name))
    sets = {n: YoloDataset(folder, n, yaml.names, splits[n], yaml.has_keypoints) for n in order}
    return sets, _left_out(folder, files, labels, texts)


def _label_file(image: Path, folder: Path, texts: Collection[Path]) -> Path | None:
    """The label file of an image: in labels where the image is in images, beside it, or in a folder labels."""
    name = image.relative_to(folder).with_suffix(".txt")
    parts = list(name.parts)
    readings = [name, Path("labels", name), Path("labels", name.name)]
    if "images" in parts[:-1]:
        last = len(parts) - 2 - parts[-2::-1].index("images")
        readings.insert(0, Path(*parts[:last], "labels", *parts[last + 1 :]))
    return next((folder / reading for reading in readings if folder / reading in texts), None)


def _left_out(
    folder: Path, files: Sequence[Path], labels: Mapping[Path, Path | None], texts: Collection[Path]
) -> list[str]:
    used = set(labels.values())
    strays = sorted(p for p in texts if p not in used and "labels" in p.relative_to(folder).parts[:-1])
    strays = [path for path in strays if path.name != "classes.txt"]
    others = [path for path in files if path.suffix.lower() in OTHER_IMAGE_SUFFIXES]
    found = []
    if strays:
        found.append(f"{count_text(len(strays), 'label file')} without an image (such as {strays[0]})")
    if others:
        kinds = suffixes_text(path.suffix.lower() for path in others)
        found.append(f"{count_text(len(others), 'image')} of a kind that is not read ({kinds})")
    return found


def _read_yaml(folder: Path, files: Iterable[Path]) -> DataYaml:
    """Of data.yaml, else of the only YAML file beside it that names classes."""
    found = [path for path in files if path.suffix.lower() in (".yaml", ".yml") and path.parent == folder]
    found = [path for path in found if path.stem == "data"] or found
    if len(found) > 1:
        raise ValueError(f"{folder}: expected one data.yaml, found {', '.join(path.name for path in found)}")
    return read_data_yaml(found[0]) if found else DataYaml({}, "", {}, False)


def _names_of_list(folder: Path, files: Sequence[Path]) -> dict[int, str]:
    """Class names, one a line: classes.txt, or darknet's obj.names."""
    places = (folder / "classes.txt", folder / "labels/classes.txt")
    lists = [path for path in places if path in files] or [
        path for path in files if path.suffix.lower() == ".names"
    ]
    lists = lists or [path for path in files if path.name == "classes.txt"]
    if not lists:
        raise ValueError(
            f"{folder}: names of classes: expected data.yaml, classes.txt or obj.names, found none"
        )
    lines = [line.strip() for line in lines_of(lists[0], limits.MOST_LIST_BYTES)]
    while lines and not lines[-1]:
        lines.pop()
    if "" in lines or not lines:
        raise ValueError(
            f"{lists[0]}: expected a name in each line, line {(lines or ['']).index('') + 1} is empty"
        )
    return dict(enumerate(lines))


def lines_of(path: Path, most_bytes: int) -> list[str]:
    """The lines of a text file in UTF-8. Raises ValueError naming it."""
    return read_text(path, most_bytes, "UTF-8 text").splitlines()


def _split_of(folder: Path, images: Sequence[Path], yaml: DataYaml) -> dict[Path, str]:
    """The split of each image: as data.yaml says, or a list such as train.txt, or the name of a folder."""
    known = set(images)
    places: dict[Path, str] = {}
    given = dict(yaml.splits)
    for name in _SPLITS:
        if name not in given and (folder / f"{name}.txt").is_file():
            given[name] = (f"{name}.txt",)
    for split, texts in given.items():
        for text in texts:
            found = _below(folder, PurePosixPath(yaml.path.replace("\\", "/"), text.replace("\\", "/")))
            if found is None:
                continue
            if found.is_dir():
                listed = {path for path in known if found in path.parents}
            else:
                lines = lines_of(found, limits.MOST_LIST_BYTES)
                listed = {
                    p
                    for line in lines
                    if (p := _below(folder, PurePosixPath(line.strip().replace("\\", "/"))))
                }
            for path in listed & known:
                places.setdefault(path, split)
    for path in images:
        parts = path.relative_to(folder).parts[:-1]
        places.setdefault(path, next((part for part in parts if part.lower() in _SPLITS), ALL))
    return places


def _below(folder: Path, path: PurePosixPath) -> Path | None:
    """What a path of another machine is in this folder: the longest end of it that is there."""
    parts = [part for part in path.parts if part not in ("/", "..", ".") and "\0" not in part]
    readings = (folder.joinpath(*parts[i:]) for i in range(len(parts)))
    return next((reading for reading in readings if reading.exists()), None)
