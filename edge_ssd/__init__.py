"""SSD object detection from a camera, on a Jetson, a GPU box or a plain CPU.

from edge_ssd import Detector, open_source
detector = Detector.load("ssd300.onnx")
for frame in open_source("rtsp://camera/stream"):
    for box, score, label in detector.detect(frame):
        ...
"""

import os as _os
from pathlib import Path as _Path

# OpenCV's idle threads would spin beside the network's after each resize. It reads this when it is loaded, so it takes
# effect where edge_ssd is imported before cv2; the user's own setting wins.
_os.environ.setdefault("OPENCV_THREAD_POOL_ACTIVE_WAIT_WORKER", "0")

# In a checkout, kernels/ and build_engine/ lie beside this package and are installed as its
# subpackages; this makes `edge_ssd.kernels` the same thing without installing.
_root = _Path(__file__).resolve().parent.parent
if (_root / "setup.py").exists() and (_root / "kernels").is_dir():
    __path__.append(str(_root))

from .detections import Detections  # noqa: E402  (after __path__ is complete)
from .detector import Detector  # noqa: E402
from .frames import Frame  # noqa: E402
from .loading import register_rebuild as _register_rebuild  # noqa: E402
from .model_files.manifest import EngineMismatch  # noqa: E402
from .options import UnknownClass  # noqa: E402
from .sources import open_source  # noqa: E402
from .spec import SsdSpec  # noqa: E402
from .version import __version__  # noqa: E402


def _rebuild(path):
    from .build_engine import rebuild

    rebuild(path)


_register_rebuild(_rebuild)

__all__ = [
    "Detections",
    "Detector",
    "EngineMismatch",
    "Frame",
    "SsdSpec",
    "UnknownClass",
    "__version__",
    "open_source",
]
