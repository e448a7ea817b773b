"""Sources: one address opens anything that gives frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..files import IMAGE_SUFFIXES, StrPath
from .address import check_url, is_camera, local_path, scheme_of, with_plain_scheme, without_login
from .source import POLICIES, Allocate, Reader, Source

__all__ = ["IMAGE_SUFFIXES", "POLICIES", "Allocate", "Reader", "Source", "open_source"]


def open_source(
    address: StrPath | int,
    policy: str | None = None,
    retry_seconds: float = float("inf"),
    allocate: Allocate | None = None,
) -> Source:
    """The frames at an address; iterate over it, and close it (or use `with`).

    address: 0 or "0" (camera number), /dev/video0, csi://0 (a Jetson's camera), rtsp://..., http://...,
        v4l2:///dev/video0?width=1280&height=720&fps=30&format=MJPG, a video file, an image file, a folder
        of images, or demo://?seed=0&frames=0&size=640x480&fps=30 (a rendered camera, endless with frames=0).
    policy: "newest": always the latest frame, those in between are dropped and counted; the default of
        cameras and live streams.   "every": no frame is left out; the default of files.
    retry_seconds: how long a live source that stopped is tried again, with growing pauses.
    allocate: called with the shape of a frame, returns a C-contiguous uint8 array of it to read the frame
        into (memory that the GPU reads, say), or None when it has none; called in the thread that reads.
        With it, a camera that gives YUYV, UYVY, NV12 or I420 is not converted to BGR on the CPU.

    Raises FileNotFoundError, ValueError or OSError when the source cannot be opened, ImportError when
    OpenCV is missing.
    """
    if policy not in (None, *POLICIES):
        raise ValueError(f"policy: expected one of {', '.join(POLICIES)}, got {policy!r}")
    address = with_plain_scheme(str(address))
    if not address.strip():
        raise ValueError("source: is empty; expected a camera's number, an address, a file or a folder")
    return Source(_opener(address, allocate), without_login(address), policy, retry_seconds)


def _opener(address: str, allocate: Allocate | None) -> Callable[[], Reader]:
    """A function that opens the reader of an address; called again when a live source stopped."""
    scheme = scheme_of(address)
    if scheme == "demo":
        from .demo import DemoOptions
        from .demo.reader import DemoReader

        options = DemoOptions.from_uri(address)
        return lambda: DemoReader(options, address, allocate)
    if is_camera(address):
        from .camera import CameraOptions, open_camera

        options = CameraOptions.from_address(address)
        return lambda: open_camera(options, allocate)
    if scheme in ("rtsp", "rtsps", "http", "https", "udp", "tcp", "rtmp", "srt"):
        from .video import open_stream

        check_url(address)
        return lambda: open_stream(address, allocate)
    if scheme and scheme != "file":
        known = "demo, v4l2, csi, rtsp, http, https, udp, tcp, rtmp, srt, file"
        raise ValueError(f"{without_login(address)}: unknown kind of source {scheme}://; known: {known}")
    return _file_opener(local_path(address), allocate)


def _file_opener(path: Path, allocate: Allocate | None) -> Callable[[], Reader]:
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    if path.is_dir():
        from .images import ImageFolderReader

        return lambda: ImageFolderReader(path, allocate)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        from .images import ImageReader

        return lambda: ImageReader(path, allocate)
    from .video import open_video

    return lambda: open_video(path, allocate)
