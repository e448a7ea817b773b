"""The networks by the name that programs import them by; they live in `edge_ssd.networks`."""

from __future__ import annotations

from ..networks import ARCHITECTURES, build_model

__all__ = ["ARCHITECTURES", "build_model"]
