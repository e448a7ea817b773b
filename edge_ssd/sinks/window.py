"""A window with the annotated frames; Q or Escape ends the run."""

from __future__ import annotations

import os
import subprocess
import sys

import cv2

from .sink import FrameResult

_TITLE = "edge_ssd"
_FLAGS = cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL  # no tool bar


class WindowSink:
    """Shows every frame. `closed` turns true when the user presses Q or Escape, or closes the window.

    Raises OSError when there is no screen, or OpenCV was built without windows.
    """

    def __init__(self) -> None:
        os.environ.setdefault("QT_LOGGING_RULES", "default.warning=false")  # of fonts that it does not find
        problem = _window_problem()
        if problem:
            raise OSError(f"window: OpenCV cannot open one here ({problem}); write a file: --output F.mp4")
        cv2.namedWindow(_TITLE, _FLAGS)
        self.closed = False
        self._sized = False

    def write(self, result: FrameResult) -> None:
        image = result.annotated
        if not self._sized:
            cv2.resizeWindow(_TITLE, image.shape[1], image.shape[0])
            self._sized = True
        cv2.imshow(_TITLE, image)
        key = cv2.waitKey(1) & 0xFF
        gone = cv2.getWindowProperty(_TITLE, cv2.WND_PROP_VISIBLE) < 1
        self.closed = self.closed or key in (27, ord("q"), ord("Q")) or gone

    def close(self) -> None:
        try:
            cv2.destroyWindow(_TITLE)
        except cv2.error:
            return  # the user closed it already


def _window_problem() -> str:
    """Why no window can be opened, as text; empty when one can.

    Without a screen, OpenCV's window library ends the whole process, so that another one tries.
    """
    trial = "import cv2; cv2.namedWindow('edge_ssd'); cv2.destroyAllWindows()"
    done = subprocess.run([sys.executable, "-c", trial], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    if sys.platform.startswith("linux") and not {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ):
        return "DISPLAY is not set"
    if "not implemented" in done.stderr:
        return "it was built without windows: opencv-python-headless"
    return f"no answer from the screen {os.environ.get('DISPLAY', '')}".strip()
