"""A file from an address: gone on with after a break, checked by the hash in its name, kept in a cache.

pooch is not used: after a break it begins again from the first byte, it wants the whole hash where torchvision's names
have the first eight digits, and it does not look for room on the disk. A downloader of our own inside it would be most
of this file, beside three more packages to install (requests, platformdirs, packaging).
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import BinaryIO

from ..files import StrPath, file_sha256, user_cache_folder
from ..files.terminal import progress_bar

# Seconds without a byte after which a connection counts as broken.
TIMEOUT_S = 30
# Connections that are tried one after the other without any progress, and seconds between two of them.
ATTEMPTS, PAUSE_S = 3, 1.0
_CHUNK_BYTES = 1 << 18


def cache_folder() -> Path:
    """Where downloads are kept: EDGE_SSD_CACHE, else edge_ssd in the user's cache folder."""
    given = os.environ.get("EDGE_SSD_CACHE")
    return Path(given) if given else user_cache_folder()


def download(url: str, folder: StrPath) -> Path:
    """Path of the file at `url` in `folder`, downloaded unless it is there.

    url: http or https; its name ends in -HASH.pth, the first digits of the content's SHA-256, which are checked.
    What has come before a connection breaks stays as NAME.part, and the rest is asked for.

    Raises OSError when the connection cannot be made, keeps breaking or the disk is full; ValueError when the
    content is not what its name says, or the name has no hash.
    """
    name = url.rsplit("/", 1)[-1]
    found = re.search(r"-([0-9a-f]{8,64})\.\w+$", name)
    if not found:
        raise ValueError(f"{url}: expected a name that ends in a hash, such as model-0123abcd.pth")
    path = Path(folder) / name
    if not path.is_file() or not file_sha256(path).startswith(found[1]):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{name}.part")
        _fetch(url, part)
        digest = file_sha256(part)
        if not digest.startswith(found[1]):
            part.unlink()
            raise ValueError(
                f"{url}: expected a SHA-256 that starts with {found[1]}, got {digest[:16]}; removed. Try again, or "
                "ask whoever runs the server"
            )
        os.replace(part, path)
    return path


def _fetch(url: str, part: Path) -> None:
    """Appends to `part` until it is whole."""
    failures = 0
    while True:
        before = _size(part)
        try:
            if _fetch_once(url, part):
                return
            problem = f"the connection ended after {_size(part)} bytes"
        except urllib.error.HTTPError as error:
            raise OSError(f"{url}: the server answers {error.code} {error.reason}") from None
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            problem = str(getattr(error, "reason", error)) or type(error).__name__
        failures = 1 if _size(part) > before else failures + 1
        if failures >= ATTEMPTS:
            raise OSError(f"{url}: {problem}; run the command again to go on from there")
        time.sleep(PAUSE_S)


def _fetch_once(url: str, part: Path) -> bool:
    """One connection; whether the file is now whole."""
    start = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:  # nothing behind what is there: whole, or of another file
            return True
        raise
    with response:
        if response.status != 206:  # a server that cannot go on from the middle
            start = 0
        rest = int(response.headers.get("Content-Length") or 0)
        _check_space(part, rest)
        with (
            open(part, "ab" if start else "wb") as file,
            progress_bar(desc=part.stem, initial=start, total=start + rest, unit="B", unit_scale=True) as bar,
        ):
            came = 0
            while data := response.read(_CHUNK_BYTES):
                _write(file, data, part)
                came += len(data)
                bar.update(len(data))
    return came >= rest


def _write(file: BinaryIO, data: bytes, part: Path) -> None:
    try:
        file.write(data)
        file.flush()
    except OSError as error:
        raise OSError(f"{part}: {error.strerror}; make room and run the command again") from None


def _check_space(part: Path, needed_bytes: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if free < needed_bytes:
        raise OSError(f"{part.parent}: {needed_bytes / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
