"""What the address of a source says, before anything is opened."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

from ..files import IMAGE_SUFFIXES

_SCHEME = re.compile(r"([a-z0-9]+)://", re.IGNORECASE)
# A camera's number or device, with options or without.
_CAMERA = re.compile(r"(\d+|/dev/(video|v4l/).+?)(\?|$)")
_LOGIN = re.compile(r"(?<=://)[^/?#]*@")


def scheme_of(address: str) -> str:
    """ "rtsp" of "rtsp://..." and of "RTSP://..."; "" for a path or a camera's number."""
    found = _SCHEME.match(address)
    return found.group(1).lower() if found else ""


def with_plain_scheme(address: str) -> str:
    """The address with its scheme in small letters, as FFmpeg wants it."""
    scheme = scheme_of(address)
    return scheme + address[len(scheme) :]


def without_login(address: str) -> str:
    """The address as it may be shown and logged: a camera's user name and password are left out."""
    return _LOGIN.sub("", address)


def is_camera(address: str) -> bool:
    """Whether it is that of a local camera."""
    return scheme_of(address) in ("v4l2", "csi") or bool(_CAMERA.match(address))


def local_path(address: str) -> Path:
    """The path of a file or a folder, given as such or as file://..."""
    path = unquote(address[len("file://") :]) if scheme_of(address) == "file" else address
    return Path(path).expanduser()


def has_all_frames(address: str) -> bool:
    """Whether it is that of a video file or a folder of images on this machine: many frames, there from the start."""
    if scheme_of(address) not in ("", "file") or is_camera(address):
        return False
    return local_path(address).suffix.lower() not in IMAGE_SUFFIXES
