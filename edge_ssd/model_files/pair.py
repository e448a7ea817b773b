"""A model and its spec, written together: neither ever stands beside an older other one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..files import StrPath, flush, replacing
from ..spec import SsdSpec, replacing_priors_file


@contextmanager
def replacing_model(path: StrPath, spec: SsdSpec) -> Iterator[Path]:
    """A temporary path for the ONNX file at `path`, which takes its place at the end, with `spec` beside it.

    Both are on the disk before either name changes. Then an old spec that says something else goes first, the model
    comes, and the new spec: whoever is killed between these three, within a millisecond, leaves a model without a spec,
    which is refused by name. A spec beside the wrong model could fit it by its shapes, and name other classes.
    When the block or the writing fails, both old files stay.
    """
    path = Path(path)
    spec_path, text = path.with_suffix(".json"), spec.to_json()
    with (
        replacing(spec_path) as new_spec,
        # Not durable: a wait for the disk would lie between the names. The outer one waits at the end.
        replacing_priors_file(spec, path.parent, durable=False),
        replacing(path, durable=False) as new_model,
    ):
        yield new_model
        new_spec.write_text(text, encoding="utf-8")
        flush(new_spec)
        flush(new_model)
        if not _holds(spec_path, text):
            spec_path.unlink(missing_ok=True)


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_bytes() == text.encode("utf-8")
    except OSError:
        return False
