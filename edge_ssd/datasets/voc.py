"""PASCAL VOC folders: Annotations/*.xml, JPEGImages, ImageSets/Main/<split>.txt."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import numpy as np

from .. import limits
from ..files import IMAGE_SUFFIXES, StrPath, read_file, replacing
from ..files.image import read_image_size
from .dataset import Annotation
from .folder import FolderDataset

# A class's list has a second column: the class is not there, there but difficult, there.
_PRESENCE = ("-1", "0", "1")


class VocDataset(FolderDataset):
    """A VOC folder; see `open_dataset`.

    Class names come from `class_names`, else from classes.txt (a line each), else from the XML files, sorted.
    """

    def __init__(self, folder: StrPath, split: str = "", class_names: Sequence[str] = ()) -> None:
        folder = Path(folder)
        self._annotations = {path.stem: path for path in sorted((folder / "Annotations").glob("*.xml"))}
        images = folder / "JPEGImages"
        self._images = {p.stem: p for p in sorted(images.glob("*")) if p.suffix.lower() in IMAGE_SUFFIXES}
        self._folder = folder
        self._stems = _read_split(folder, split, self._annotations) if split else tuple(self._annotations)
        address = f"{folder}, split {split}" if split else str(folder)
        clean = folder / "ImageSets" / "Main" / f"{split or 'all'}-clean.txt"
        super().__init__(folder, split, address, class_names or self._own_class_names(), clean)

    def __len__(self) -> int:
        return len(self._stems)

    def annotation(self, index: int) -> Annotation:
        stem = self._stems[index]
        path = self._annotations.get(stem)
        if path is None:
            self._check_name(stem)
            raise FileNotFoundError(f"{self._folder / 'Annotations' / stem}.xml: no such file")
        found = read_voc_xml(path)
        if min(found.image_size) < 1:  # some tools write no size, or 0
            size = read_image_size(self._image_path(index))
            found = Annotation(found.boxes, found.names, found.difficult, size)
        return found

    def write_part(self, indices: Sequence[int], path: StrPath) -> None:
        with replacing(path) as temporary:
            temporary.write_text("".join(f"{self._stems[i]}\n" for i in indices), encoding="utf-8")

    def _image_path(self, index: int) -> Path:
        stem = self._stems[index]
        if stem not in self._images:
            self._check_name(stem)
        return self._images.get(stem, self._folder / "JPEGImages" / f"{stem}.jpg")

    def _check_name(self, stem: str) -> None:
        """Raises ValueError for a name of a list that would leave the folder."""
        if set(stem) & set("/\\\0"):
            raise ValueError(
                f"{self._folder}, a list: expected names of images in JPEGImages, got {stem!r:.80}"
            )

    def _own_class_names(self) -> tuple[str, ...]:
        listed = self._folder / "classes.txt"
        if listed.exists():
            lines = _lines(listed)
            return tuple(line.strip() for line in lines if line.strip())
        names = set()
        for path in self._annotations.values():
            try:
                names.update(read_voc_xml(path).names)
            except (ValueError, OSError):
                continue  # `check` names it
        return tuple(sorted(names))


def _read_split(folder: Path, split: str, known_stems: Collection[str]) -> tuple[str, ...]:
    """The stems that a list names, tuple of str, in its order."""
    lists = folder / "ImageSets" / "Main"
    path = lists / f"{split}.txt"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in lists.glob("*.txt"))) or "none"
        raise FileNotFoundError(f"{path}: no such split; there is: {known}")
    return tuple(_stem(line, known_stems) for line in _lines(path) if line.strip())


def _stem(line: str, known_stems: Collection[str]) -> str:
    """The annotation that a line of a list names: names may have blanks, columns or an image's suffix behind them."""
    words = line.split()
    name = line.strip()
    if len(words) > 1 and words[-1] in _PRESENCE:
        name = name[: -len(words[-1])].rstrip()
    readings = [line, line.strip(), name]
    readings += [_without_suffix(reading) for reading in readings]
    readings += [words[0], _without_suffix(words[0])]
    return next((reading for reading in readings if reading in known_stems), name)


def _without_suffix(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return stem if dot + suffix.lower() in IMAGE_SUFFIXES else name


def _lines(path: Path) -> list[str]:
    content = read_file(path, limits.MOST_LIST_BYTES)
    try:
        return content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None


def read_voc_xml(path: StrPath) -> Annotation:
    """The Annotation in a VOC XML file; its size is (0, 0) where the file says none.

    VOC counts pixels from 1 and includes the last: x1 = xmin - 1, y1 = ymin - 1, x2 = xmax, y2 = ymax.
    Raises FileNotFoundError, and ValueError naming the file and what is wrong.
    """
    content = read_file(path, limits.MOST_XML_BYTES)
    try:
        root = _parse_xml(content)
        objects = root.findall("object")
        boxes = np.array([_read_box(item) for item in objects], np.float64).reshape(-1, 4)
        names = tuple(_text(item, "name") for item in objects)
        difficult = np.array([item.findtext("difficult", "0").strip() == "1" for item in objects], bool)
        height, width = (int(float(root.findtext(f"size/{side}", "0") or 0)) for side in ("height", "width"))
        return Annotation(boxes - (1, 1, 0, 0), names, difficult, (height, width))
    # LookupError: of an encoding that Python does not have, or that is none of texts.
    except (ValueError, OverflowError, LookupError, expat.ExpatError) as error:
        raise ValueError(f"{path}: {error}") from None


def _parse_xml(data: bytes) -> Element:
    """The root element. A document type is refused: with it, a small file can expand to gigabytes.

    Of the standard library, and not by defusedxml: refusing every document type is one line, and leaves nothing that
    the latter would refuse.
    """
    parser, builder = expat.ParserCreate(), TreeBuilder()
    depth = 0

    def refuse(*_):
        raise ValueError("a document type (<!DOCTYPE) has no place in an annotation; remove it")

    parser.StartDoctypeDeclHandler = refuse

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > limits.MOST_XML_DEPTH:
            raise ValueError("nested too deeply for an annotation")
        builder.start(name, attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(name)

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.Parse(data, True)
    return builder.close()


def _read_box(item: Element) -> list[float]:
    return [_number(item, f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]


def _number(item: Element, key: str) -> float:
    text = _text(item, key)
    try:
        if "_" in text:  # which Python takes
            raise ValueError
        return float(text)
    except ValueError:
        raise ValueError(f"object/{key}: expected a number, got {text!r}") from None


def _text(item: Element, key: str) -> str:
    text = (item.findtext(key) or "").strip()
    if not text:
        raise ValueError(f"object/{key}: missing")
    return text
