"""Data sets of other tools as COCO or VOC: YOLO folders, and what Roboflow exports."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ... import limits
from ...files import StrPath, flush
from ...files.json_fields import read_json
from ..dataset import Dataset
from ..folder import FolderDataset
from . import write

__all__ = ["FORMATS", "Converted", "convert"]

FORMATS = {"coco": write.write_coco, "voc": write.write_voc}
# Roboflow's name of a split's annotations.
_ROBOFLOW = "_annotations.coco.json"
# Room that stays free on the disk.
_RESERVE_BYTES = 64 << 20


@dataclass(frozen=True)
class Converted:
    """What became of one split.

    images, boxes: written.   empty: images of these without objects.   problems: a text for each image that was not,
    and for what is wrong with the whole.
    """

    split: str
    images: int
    boxes: int
    empty: int
    problems: tuple[str, ...]


def convert(
    source: StrPath,
    out: StrPath,
    splits: Collection[str] = (),
    to: str = "coco",
    link: bool = False,
    progress: Callable[[Dataset, str], Iterable[int]] | None = None,
) -> tuple[list[Converted], list[str]]:
    """Writes the data set of another tool as COCO or VOC, whole or not at all.

    source: a YOLO folder, one that Roboflow exported (COCO, VOC or YOLO), or what `open_dataset` takes.
    out: a folder that is not there yet, or empty.   splits: those to take; default: all.   to: "coco" or "voc".
    link: hard links to the images instead of copies.   progress: the indices of a data set, behind a text.

    Returns (what became of each split, what else of the source is left out, a text for each reason).
    Raises ValueError and OSError, and then nothing is written.
    """
    if to not in FORMATS:
        raise ValueError(f"to: expected one of {', '.join(FORMATS)}, got {to!r}")
    out = Path(out)
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise ValueError(f"{out}: is there already; give a new --out, or remove it")
    found, left_out = _open(_unwrapped(Path(source)))
    if unknown := [name for name in splits if name not in found]:
        raise ValueError(f"{source}: split: expected some of {', '.join(found)}, got {', '.join(unknown)}")
    if splits:
        found = {name: dataset for name, dataset in found.items() if name in splits}
    checked = {name: _checked(dataset, progress) for name, dataset in found.items()}
    report = [_converted(name, found[name], *checked[name]) for name in found]
    left_out += [text for name in found for text in found[name].left_out]
    taken = {name: (found[name], good) for name, (good, _) in checked.items() if good}
    if not taken:
        raise ValueError(
            f"{source}: no image can be taken: {'; '.join(t for r in report for t in r.problems[:3])}"
        )
    class_names = list(dict.fromkeys(name for dataset in found.values() for name in dataset.class_names))
    with _new_folder(out) as folder:
        if not link:
            _check_room(out, taken)
        FORMATS[to](folder, taken, class_names, _linked if link else shutil.copyfile)
    return report, left_out


def _open(folder: Path) -> tuple[dict[str, FolderDataset], list[str]]:
    """The data sets of a folder by their split, and what is left out of it."""
    from .. import has_usual_layout, open_dataset
    from ..voc import VocDataset
    from ..voc_files import has_xml
    from .yolo import ALL, open_yolo

    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    exported = sorted(folder.glob(f"*/{_ROBOFLOW}")) or [*folder.glob(_ROBOFLOW)]
    if exported:
        return _open_exported(folder, exported), []
    if not has_usual_layout(folder) and not has_xml(folder):
        sets, left_out = open_yolo(folder)
        return dict(sets), left_out
    if has_usual_layout(folder):
        dataset = open_dataset(folder)
        assert isinstance(dataset, FolderDataset), folder
        return {ALL: dataset}, []
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and has_xml(path))
    if not names or any(folder.glob("*.xml")):
        return {ALL: VocDataset(folder)}, []
    return {name: VocDataset(folder / name) for name in names}, []


def _open_exported(folder: Path, files: Sequence[Path]) -> dict[str, FolderDataset]:
    """The splits that Roboflow exported as COCO; its first category, the parent of the others, is no class."""
    from ..coco import CocoDataset
    from .yolo import ALL

    sets = {(ALL if p.parent == folder else p.parent.name): CocoDataset(p.parent, file=p) for p in files}
    parents = {
        category.get("supercategory")
        for path in files
        for category in read_json(path, limits.MOST_ANNOTATION_BYTES)["categories"]
    }
    unused = {name for name in parents if not any(dataset.has_box(name) for dataset in sets.values())}
    for dataset in sets.values():
        dataset.class_names = tuple(name for name in dataset.class_names if name not in unused)
    return dict(sets)


def _unwrapped(folder: Path) -> Path:
    """The folder in which an archive was packed: the only one in it."""
    there = (
        [path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX"))]
        if folder.is_dir()
        else []
    )
    return there[0] if len(there) == 1 and there[0].is_dir() else folder


def _checked(
    dataset: FolderDataset, progress: Callable[[Dataset, str], Iterable[int]] | None
) -> tuple[list[int], tuple[str, ...]]:
    """The images that can be taken, and why each other one cannot."""
    problems, _ = dataset.findings(progress(dataset, "check") if progress else None)
    bad = {index for index, _ in problems}
    texts = [text for _, text in problems]
    for index in range(len(dataset)):
        if index not in bad and (problem := write.name_problem(dataset.image_name(index))):
            bad.add(index)
            texts.append(problem)
    return [index for index in range(len(dataset)) if index not in bad], tuple(texts)


def _converted(split: str, dataset: FolderDataset, good: Sequence[int], texts: tuple[str, ...]) -> Converted:
    counts = [len(dataset.annotation(index).names) for index in good]
    return Converted(split, len(good), sum(counts), counts.count(0), texts)


def _check_room(out: Path, taken: dict[str, tuple[FolderDataset, list[int]]]) -> None:
    needed = sum(os.path.getsize(dataset.image_name(i)) for dataset, good in taken.values() for i in good)
    free = shutil.disk_usage(out.absolute().parent).free
    if needed + _RESERVE_BYTES > free:
        raise OSError(
            f"{out}: {needed / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free; --link copies no images"
        )


def _linked(source: StrPath, target: StrPath) -> None:
    try:
        os.link(os.path.realpath(source), target)
    except OSError as error:
        raise OSError(
            f"{target}: cannot be linked to {source} ({error.strerror}); leave --link out"
        ) from error


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its place at the end; removed when the block fails."""
    folder = out.absolute().with_name(f".{out.name}.{secrets.token_hex(8)}.tmp")
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise OSError(f"{out}: cannot be written ({error.strerror})") from error
    try:
        yield folder
        if out.is_dir():
            out.rmdir()  # empty, as was checked
        os.replace(folder, out)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    flush(out.absolute().parent)
