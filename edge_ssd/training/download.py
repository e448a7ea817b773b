"""A file from an address: over https alone, gone on with after a break, checked by its hash, kept in a cache.

pooch is not used: after a break it begins again from the first byte, it wants the whole hash where torchvision's names
have the first eight digits, and it does not look for room on the disk. A downloader of our own inside it would be most
of this file, beside three more packages to install (requests, platformdirs, packaging).
"""

from __future__ import annotations

import base64
import http.client
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Any, BinaryIO
from urllib.parse import unquote, urlsplit

from .. import limits
from ..files import StrPath, file_sha256, flush, make_cache_folder
from ..files.only_writer import only_writer
from ..files.terminal import printable, progress_bar

# What is asked, and what a server may lead on to.
SCHEMES = ("https",)
# Seconds without a byte after which a connection counts as broken.
TIMEOUT_S = 30
# Connections that are tried one after the other without any progress, and seconds between two of them.
ATTEMPTS, PAUSE_S = 3, 1.0
_CHUNK_BYTES = 1 << 18
_NAME = re.compile(r"[\w.+-]+-([0-9a-f]{8,64})\.\w+", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{8,64}")


def download(url: str, folder: StrPath, name: str = "", digest: str = "") -> Path:
    """Path of the file at `url` in `folder`, downloaded unless it is there.

    url: https, as are all addresses that the server leads on to; a login in it is sent to that server alone.
    name: what the file is called; default: as in the address.   digest: its SHA-256, or the first digits of it;
    default: those that the name ends in, as in model-0123abcd.pth.
    What has come before a connection breaks stays as NAME.part, and the rest is asked for.

    Raises OSError when the connection cannot be made, keeps breaking or the disk is full; ValueError for an address
    that is not https, when the content has another hash, the name has none, or another process downloads it.
    """
    check_url(url)
    name = name or unquote(urlsplit(url).path).rsplit("/", 1)[-1]
    found = _NAME.fullmatch(name)
    if not found:
        raise ValueError(f"{shown_url(url)}: expected a name that ends in a hash, such as model-0123abcd.pth")
    digest = digest or found[1]
    assert _DIGEST.fullmatch(digest), digest
    path = Path(folder) / name
    if not path.is_file() or not file_sha256(path).startswith(digest):
        make_cache_folder(path.parent)
        with only_writer(path, "another process downloads this file", "run the command again"):
            _fetch_checked(url, path, digest)
    return path


def _fetch_checked(url: str, path: Path, digest: str) -> None:
    part = path.with_name(f"{path.name}.part")
    _fetch(url, part)
    found = file_sha256(part)
    if not found.startswith(digest):
        part.unlink()
        wanted = digest if len(digest) == len(found) else f"that starts with {digest}"
        raise ValueError(
            f"{shown_url(url)}: expected a SHA-256 {wanted}, got {found[: max(16, len(digest))]}; removed. Try again, "
            "or ask whoever runs the server"
        )
    flush(part)
    os.replace(part, path)
    flush(path.parent)


def check_url(url: str) -> None:
    """Raises ValueError unless an address is https, with a host."""
    try:
        parts = urlsplit(url)
        is_fine = parts.scheme in SCHEMES and bool(parts.hostname)
        parts.port  # noqa: B018  raises ValueError for one that is no number
    except ValueError:
        is_fine = False
    if not is_fine or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(f"{shown_url(url)}: expected an address that begins with https://")


def shown_url(url: str) -> str:
    """An address for messages: without its login and its query, in which tokens stand."""
    without_query = url.partition("?")[0].partition("#")[0]
    scheme, mark, rest = without_query.partition("://")
    if not mark:
        return printable(without_query.rpartition("@")[2])
    host, slash, path = rest.partition("/")
    return printable(f"{scheme}://{host.rpartition('@')[2]}{slash}{path}")


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
            raise OSError(f"{shown_url(url)}: the server answers {_answer(error)}") from None
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            problem = printable(str(getattr(error, "reason", error)))[:200] or type(error).__name__
        failures = 1 if _size(part) > before else failures + 1
        if failures >= ATTEMPTS:
            raise OSError(f"{shown_url(url)}: {problem}; run the command again to go on from there")
        time.sleep(PAUSE_S)


def _answer(error: urllib.error.HTTPError) -> str:
    """What a server answers, for a message: not the address that it leads on to, which may hold a login."""
    if 300 <= error.code < 400:
        return f"{error.code}, and leads on to where nothing can be fetched"
    return f"{error.code} {printable(str(error.reason))[:100]}"


class _HttpsAlone(urllib.request.HTTPRedirectHandler):
    """Follows a server to https alone: what is fetched on the way could be changed by anybody otherwise."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        try:
            check_url(newurl)
        except ValueError as error:
            raise LedAstray(f"{shown_url(req.full_url)}: leads on to {error}") from None
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class LedAstray(ValueError):
    """A server leads on to an address that is not https."""


def _open(url: str, start: int) -> Any:
    """The response to a request for the content from byte `start` on."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    headers = {"Range": f"bytes={start}-"} if start else {}
    request = urllib.request.Request(parts._replace(netloc=host, fragment="").geturl(), headers=headers)
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        # Not to another server that this one leads on to.
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(login).decode('ascii')}")
    return urllib.request.build_opener(_HttpsAlone).open(request, timeout=TIMEOUT_S)


def _fetch_once(url: str, part: Path) -> bool:
    """One connection; whether the file is now whole."""
    start = _size(part)
    try:
        response = _open(url, start)
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:  # nothing behind what is there: whole, or of another file
            return True
        raise
    with response:
        if response.status != 206:  # a server that cannot go on from the middle
            start = 0
        rest = _length(response)
        _check_size(url, start + rest)
        _check_space(part, rest)
        with (
            open(part, "ab" if start else "wb") as file,
            progress_bar(desc=part.stem, initial=start, total=start + rest, unit="B", unit_scale=True) as bar,
        ):
            came = 0
            while data := response.read(_CHUNK_BYTES):
                _write(file, data, part)
                came += len(data)
                _check_size(url, start + came)
                bar.update(len(data))
    return came >= rest


def _length(response: Any) -> int:
    """Bytes that a server says will come; 0 where it says nothing that can be understood."""
    text = response.headers.get("Content-Length") or ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


def _check_size(url: str, size: int) -> None:
    if size > limits.MOST_CHECKPOINT_BYTES:
        raise ValueError(
            f"{shown_url(url)}: expected at most {limits.MOST_CHECKPOINT_BYTES / 1e9:.1f} GB of weights, more come"
        )


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
