"""A draft of the spec of an ONNX model from elsewhere: what the model itself tells, and what it cannot."""

from .draft import draft_spec
from .options import DraftOptions

__all__ = ["DraftOptions", "draft_spec"]
