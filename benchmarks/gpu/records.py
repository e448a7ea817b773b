"""What gpu-check found, row by row: on disk as soon as it is known, so that a crash loses one row and no more."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

# ok: measured.   missing: what it needs is not on this machine.   skipped: no time was left.   failed: an error.
STATUSES = ("ok", "missing", "skipped", "failed")


@dataclass(frozen=True)
class Record:
    """One row of the report.

    section: the table it is in.   name: its first column.   status: of STATUSES.   reason: why it is not "ok",
    one line.   values: {column: number or text}; a column's name ends in its unit.
    """

    section: str
    name: str
    status: str = "ok"
    reason: str = ""
    values: dict[str, Any] = field(default_factory=dict)


class Records:
    """The rows in a file of JSON lines, one section's process after the other's.

    path: the file; made when the first row comes.
    """

    def __init__(self, path):
        self._path = Path(path)

    def add(self, record):
        """Writes one Record."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(record)) + "\n")

    def clear(self):
        """Forgets the rows of an earlier run."""
        self._path.unlink(missing_ok=True)

    def read(self):
        """List of Records so far."""
        if not self._path.exists():
            return []
        lines = self._path.read_text(encoding="utf-8").splitlines()
        return [Record(**json.loads(line)) for line in lines]

    def value(self, section, name, column):
        """One number of another section; None when it is not there."""
        return value_of(self.read(), section, name, column)

    @contextmanager
    def row(self, section, name):
        """A dict to fill with values; then the row is written, whatever happened.

        An error becomes the row's reason and goes no further, so that the next row has its chance.
        """
        values = {}
        try:
            yield values
        except ImportError as error:
            self.add(Record(section, name, "missing", one_line(error), values))
        except Exception as error:
            self.add(Record(section, name, "failed", f"{type(error).__name__}: {one_line(error)}", values))
        else:
            self.add(Record(section, name, values=values))


def value_of(records, section, name, column):
    """One value of a list of Records; None when it is not there."""
    for record in records:
        if (record.section, record.name) == (section, name) and column in record.values:
            return record.values[column]
    return None


def one_line(error):
    """An error's text as one line of at most 200 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:197]}..."
