"""Frames of the rendered camera as a data set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..sources.demo import CLASS_NAMES, DemoFrame, DemoOptions, DemoStream
from .dataset import Annotation, Dataset


class DemoDataset(Dataset):
    """The frames of a finite demo:// address; see `edge_ssd.sources.demo`."""

    def __init__(self, address: str, split: str = "", class_names: Sequence[str] = ()) -> None:
        options = DemoOptions.from_uri(address)
        if not options.frames:
            raise ValueError(f"{address}: a data set is finite; add frames=N")
        if split:
            raise ValueError(f"{address}: split: demo:// has none, got {split!r}; use another seed")
        missing = [name for name in CLASS_NAMES if class_names and name not in class_names]
        if missing:
            raise ValueError(
                f"{address}: class_names: expected all of {', '.join(CLASS_NAMES)}; "
                f"missing: {', '.join(missing)}"
            )
        super().__init__(address, class_names or CLASS_NAMES)
        self._stream = DemoStream(options)
        self._latest: tuple[int, DemoFrame] | None = None

    def __len__(self) -> int:
        return len(self._stream)

    def image_name(self, index: int) -> str:
        return f"{self.address}#{index}"

    def image(self, index: int) -> np.ndarray:
        return self._frame(index).image.copy()

    def annotation(self, index: int) -> Annotation:
        frame = self._frame(index)
        names = tuple(CLASS_NAMES[label] for label in frame.labels)
        height, width = frame.image.shape[:2]
        return Annotation(frame.boxes.astype(float), names, frame.difficult.copy(), (height, width))

    def scene(self, index: int) -> int:
        return index // self._stream.options.scene_frames

    def _frame(self, index: int) -> DemoFrame:
        # Image and truth are mostly wanted one after the other; rendering is what takes the time.
        if self._latest is None or self._latest[0] != index:
            self._latest = index, self._stream.render(index)
        return self._latest[1]
