"""PASCAL VOC folders: Annotations/*.xml, JPEGImages, ImageSets/Main/<split>.txt."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import numpy as np

from .. import limits
from ..files import IMAGE_SUFFIXES, OTHER_IMAGE_SUFFIXES, StrPath, read_file, read_text, replacing
from ..files.image import read_image_size
from .dataset import Annotation
from .folder import FolderDataset
from .voc_files import by_last, find_voc_files

# What tools write for an object that is difficult, and for one that is not.
_DIFFICULT = {**dict.fromkeys(("1", "true", "yes"), True), **dict.fromkeys(("", "0", "false", "no"), False)}

# A class's list has a second column: the class is not there, there but difficult, there.
_PRESENCE = ("-1", "0", "1")


class VocDataset(FolderDataset):
    """A VOC folder; see `open_dataset`.

    Class names come from `class_names`, else from classes.txt (a line each), else from the XML files, sorted.
    """

    def __init__(self, folder: StrPath, split: str = "", class_names: Sequence[str] = ()) -> None:
        folder = Path(folder)
        self._places, self._annotations, self._images, left_out = find_voc_files(folder)
        self._folder = folder
        self._names = _read_split(folder, split, self._annotations) if split else tuple(self._annotations)
        address = f"{folder}, split {split}" if split else str(folder)
        clean = folder / "ImageSets" / "Main" / f"{split or 'all'}-clean.txt"
        super().__init__(folder, split, address, class_names or self._own_class_names(), clean)
        self.left_out = () if split else left_out

    def __len__(self) -> int:
        return len(self._names)

    def annotation(self, index: int) -> Annotation:
        name = self._names[index]
        path = self._annotations.get(name)
        if path is None:
            self._check_name(name)
            raise FileNotFoundError(f"{self._places[0] / name}.xml: no such file")
        found = read_voc_xml(path)
        if min(found.image_size) < 1:  # some tools write no size, or 0
            size = read_image_size(self._image_path(index))
            found = Annotation(found.boxes, found.names, found.difficult, size)
        return found

    def write_part(self, indices: Sequence[int], path: StrPath) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text("".join(f"{self._names[i]}\n" for i in indices), encoding="utf-8")

    def _image_path(self, index: int) -> Path:
        name = self._names[index]
        if name in self._images:
            return self._images[name]
        self._check_name(name)
        path = self._places[1] / name
        unread = (path.with_name(path.name + suffix) for suffix in OTHER_IMAGE_SUFFIXES)
        return next(filter(Path.exists, unread), path.with_name(f"{path.name}.jpg"))

    def _check_name(self, name: str) -> None:
        """Raises ValueError for a name of a list that would leave the folder."""
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or set(name) & set("\\\0"):
            raise ValueError(
                f"{self._folder}, a list: expected names of images in JPEGImages, got {name!r:.80}"
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


def _read_split(folder: Path, split: str, known: Collection[str]) -> tuple[str, ...]:
    """The names of a split, tuple of str: those that its list has, in that order, or those of a sub-folder."""
    places = [folder / "ImageSets" / "Main", folder / "ImageSets", folder]
    lists = [place / f"{split}.txt" for place in places]
    path = next((path for path in lists if path.is_file()), None)
    if path:
        last = by_last(known)
        return tuple(_listed_name(line, known, last) for line in _lines(path) if line.strip())
    below = tuple(name for name in known if name.startswith(f"{split}/"))
    if below:
        return below
    there = {path.stem for path in (*places[0].glob("*.txt"), *places[1].glob("*.txt"))}
    there |= {name.partition("/")[0] for name in known if "/" in name}
    raise FileNotFoundError(f"{lists[0]}: no such split; there is: {', '.join(sorted(there)) or 'none'}")


def _listed_name(line: str, known: Collection[str], last: Mapping[str, str]) -> str:
    """The annotation that a line of a list names: names may have blanks, columns, an image's suffix, quotes, other
    slashes, or the path of the image on the machine that wrote them.   last: `by_last` of the known names."""
    words = line.split()
    name = line.strip()
    if len(words) > 1 and words[-1] in _PRESENCE:
        name = name[: -len(words[-1])].rstrip()
    readings = [line, line.strip(), name, name.strip('"')]
    readings += [_without_suffix(reading) for reading in readings]
    readings += [words[0], _without_suffix(words[0])]
    readings += [reading.replace("\\", "/") for reading in readings if "\\" in reading]
    found = next((reading for reading in readings if reading in known), None)
    if found is None and ".." not in re.split(r"[/\\]", name):
        parts = (PurePosixPath(reading.replace("\\", "/")).name for reading in readings)
        found = next((last[part] for part in parts if last.get(part)), None)
    return name if found is None else found


def _without_suffix(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return stem if dot + suffix.lower() in IMAGE_SUFFIXES else name


def _lines(path: Path) -> list[str]:
    return read_text(path, limits.MOST_LIST_BYTES, "UTF-8 text").splitlines()


def read_voc_xml(path: StrPath) -> Annotation:
    """The Annotation in a VOC XML file; its size is (0, 0) where the file says none.

    VOC counts pixels from 1 and includes the last: x1 = xmin - 1, y1 = ymin - 1, x2 = xmax, y2 = ymax.
    Raises FileNotFoundError, and ValueError naming the file and what is wrong.
    """
    content = read_file(path, limits.MOST_XML_BYTES)
    try:
        root = _parse_xml(content)
        objects = root.findall("object")
        if root.tag != "annotation" and not objects:
            raise ValueError(f"expected <annotation> with <object>s as VOC has, got <{root.tag:.60}>")
        boxes = np.array([_read_box(item) for item in objects], np.float64).reshape(-1, 4)
        names = tuple(_text(item, "name") for item in objects)
        difficult = np.array([_is_difficult(item) for item in objects], bool)
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


def _is_difficult(item: Element) -> bool:
    text = (item.findtext("difficult") or "").strip()
    if text.lower() not in _DIFFICULT:
        raise ValueError(f"object/difficult: expected 0 or 1, got {text!r:.80}")
    return _DIFFICULT[text.lower()]


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
