"""A window with the annotated frames; Q or Escape ends the run."""

from __future__ import annotations

import os
import sys

import cv2

_TITLE = "edge_ssd"


class WindowSink:
    """Shows every frame. `closed` turns true when the user presses Q or Escape, or closes the window.

    Raises OSError when there is no screen, or OpenCV was built without windows.
    """

    def __init__(self):
        # Without a screen, OpenCV's window library ends the whole process instead of raising.
        if sys.platform.startswith("linux") and not (
            os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        ):
            raise OSError(
                "window: there is no screen here (DISPLAY is not set); write a file instead: --output F.mp4"
            )
        try:
            cv2.namedWindow(_TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
        except cv2.error as error:
            raise OSError(
                "window: this OpenCV was built without windows (headless); use --output F.mp4"
            ) from error
        self.closed = False
        self._sized = False

    def write(self, result):
        image = result.annotated
        if not self._sized:
            cv2.resizeWindow(_TITLE, image.shape[1], image.shape[0])
            self._sized = True
        cv2.imshow(_TITLE, image)
        key = cv2.waitKey(1) & 0xFF
        gone = cv2.getWindowProperty(_TITLE, cv2.WND_PROP_VISIBLE) < 1
        self.closed = self.closed or key in (27, ord("q"), ord("Q")) or gone

    def close(self):
        try:
            cv2.destroyWindow(_TITLE)
        except cv2.error:
            return  # the user closed it already
