"""Frames of the rendered camera as a data set."""

from __future__ import annotations

from ..sources.demo import CLASS_NAMES, DemoOptions, DemoStream
from .dataset import Annotation, Dataset


class DemoDataset(Dataset):
    """The frames of a finite demo:// address; see `edge_ssd.sources.demo`."""

    def __init__(self, address, split="", class_names=()):
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
        self._latest = -1, None

    def __len__(self):
        return len(self._stream)

    def image_name(self, index):
        return f"{self.address}#{index}"

    def image(self, index):
        return self._frame(index).image.copy()

    def annotation(self, index):
        frame = self._frame(index)
        names = tuple(CLASS_NAMES[label] for label in frame.labels)
        return Annotation(frame.boxes.astype(float), names, frame.difficult.copy(), frame.image.shape[:2])

    def scene(self, index):
        return index // self._stream.options.scene_frames

    def _frame(self, index):
        # Image and truth are mostly wanted one after the other; rendering is what takes the time.
        if self._latest[0] != index:
            self._latest = index, self._stream.render(index)
        return self._latest[1]
