"""What the address of a source says, before anything is opened."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from .. import limits
from ..files import IMAGE_SUFFIXES, user_path

_SCHEME = re.compile(r"([a-z0-9]+)://", re.IGNORECASE)
# A camera's number or device, with options or without.
_CAMERA = re.compile(r"([0-9]+|/dev/(video|v4l/).+?)(\?|$)")

# What cameras and servers call a login in a query, and some in a path (rtsp://CAMERA/user=NAME_password=WORD_...); a
# key that holds one of these words. Rather too much is hidden than a password shown.
_SECRET_WORDS = "pass|pwd|psw|token|key|auth|user|usr|login|secret|sign|cred|session|account"
_SECRET = re.compile(rf".*({_SECRET_WORDS}).*|pw|sid|sig|u|p", re.IGNORECASE)
_SECRET_IN_PATH = re.compile(
    rf"((?:^|[/_&;,])[a-z.-]*(?:{_SECRET_WORDS})[a-z.-]*=).*?(?=[/&;]|_[a-z]+=|$)", re.IGNORECASE
)
_HIDDEN = "***"
# What ends a login, or begins a query, where it is part of a password.
_ESCAPES = "in a user name or a password write %23 for #, %2F for /, %3F for ?, %40 for @"


def scheme_of(address: str) -> str:
    """ "rtsp" of "rtsp://..." and of "RTSP://..."; "" for a path or a camera's number."""
    found = _SCHEME.match(address)
    return found.group(1).lower() if found else ""


def with_plain_scheme(address: str) -> str:
    """The address with its scheme in small letters, as FFmpeg wants it."""
    scheme = scheme_of(address)
    return scheme + address[len(scheme) :]


def without_login(address: str) -> str:
    """The address as it may be shown and logged: a user name and a password before the host are left out, and values
    of a query that may be such are hidden."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        return address
    if len(rest) > limits.MOST_URL_LENGTH:
        return f"{scheme}://..."
    place, mark, query = _without_user(rest).partition("?")
    host, slash, path = place.partition("/")
    path = _SECRET_IN_PATH.sub(rf"\1{_HIDDEN}", path)
    query = "&".join(map(_without_value, query.split("&")))
    return f"{scheme}{separator}{host}{slash}{path}{mark}{query}"


def _without_user(rest: str) -> str:
    """What follows the scheme, without NAME:PASSWORD@."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        return rest[authority.rindex("@") + 1 :]
    port = authority.rpartition(":")[2]
    ends_early = rest[len(authority) : len(authority) + 1] in ("#", "?")
    if ":" in authority and "@" in rest and port and (ends_early or not re.fullmatch(r"[0-9]+|.*\]", port)):
        return rest[
            rest.rindex("@") + 1 :
        ]  # a password with one of /?# in it, which should have been escaped
    return rest


def _without_value(part: str) -> str:
    """A part of a query, KEY=VALUE, of some servers KEY=VALUE;KEY=VALUE: from the first secret value on, hidden."""
    shown = []
    for item in part.split(";"):
        key, equals, _ = item.partition("=")
        if equals and _SECRET.fullmatch(unquote(key)):
            return ";".join([*shown, f"{key}={_HIDDEN}"])
        shown.append(item)
    return part


def login_hint(address: str) -> str:
    """What may be wrong with the login in an address, for the end of a message; empty where nothing is."""
    rest = address.partition("://")[2]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    return f"; {_ESCAPES}" if ":" in authority and "@" in rest[len(authority) :] else ""


def check_url(address: str) -> None:
    """Raises ValueError for a network address that cannot be one, without its login."""
    shown = without_login(address)
    if len(address) > limits.MOST_URL_LENGTH:
        raise ValueError(f"{shown}: expected an address of at most {limits.MOST_URL_LENGTH} characters")
    if re.search(r"[\x00-\x1f\x7f]", address):
        raise ValueError(f"{shown}: expected an address without control characters")
    try:
        urlsplit(address).port  # noqa: B018 - it is read for its error
        if "#" in address and login_hint(address):  # no stream has a fragment
            raise ValueError
    except ValueError:  # whose text may hold the password
        raise ValueError(
            f"{shown}: expected {scheme_of(address)}://HOST or HOST:PORT, with a port up to 65535{login_hint(address)}"
        ) from None


def is_camera(address: str) -> bool:
    """Whether it is that of a local camera."""
    return scheme_of(address) in ("v4l2", "csi") or bool(_CAMERA.match(address))


def local_path(address: str) -> Path:
    """The path of a file or a folder, given as such or as file://..."""
    path = unquote(address[len("file://") :]) if scheme_of(address) == "file" else address
    return user_path(path)


def has_all_frames(address: str) -> bool:
    """Whether it is that of a video file or a folder of images on this machine: many frames, there from the start."""
    if scheme_of(address) not in ("", "file") or is_camera(address):
        return False
    return local_path(address).suffix.lower() not in IMAGE_SUFFIXES
