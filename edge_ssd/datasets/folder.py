"""What the folders of images and annotations have in common."""

from __future__ import annotations

import shlex
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ..files import StrPath
from ..files.image import read_image
from .check import inspect
from .dataset import Dataset, Finding


class FolderDataset(Dataset):
    """Images in files. Pixels are read as stored, whatever a file's orientation tag says: boxes are marked on those."""

    def __init__(
        self, folder: StrPath, split: str, address: str, class_names: Sequence[str], clean: Path
    ) -> None:
        """folder, split: as given to `open_dataset`.   clean: path that a part of these images could be written to."""
        super().__init__(address, class_names)
        self._command = shlex.join(
            ["edge-ssd", "data", "check", str(folder), *(["--split", split] if split else [])]
        )
        self._clean = clean

    @abstractmethod
    def _image_path(self, index: int) -> Path:
        """The path of an image's file, there or not."""

    def image_name(self, index: int) -> str:
        return str(self._image_path(index))

    def image(self, index: int) -> np.ndarray:
        try:
            return read_image(self._image_path(index), turned=False)
        except (ValueError, FileNotFoundError) as error:
            # The check of headers before a training does not decode: this is the first to see a broken middle.
            kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
            raise kind(f"{error}; `{self._command}` names every such file") from error

    def findings(self, indices: Iterable[int] | None = None) -> tuple[list[Finding], list[Finding]]:
        problems, remarks = inspect(self, self._image_path, indices)
        return problems, [*((None, f"left out: {text}") for text in self.left_out), *remarks]

    def fix_hint(self) -> str:
        split = self._clean.stem.removeprefix("instances_")
        command = f"{self._command} --clean {shlex.quote(str(self._clean))}"
        return f"`{command}` lists the images that are good, for --split {shlex.quote(split)}"
