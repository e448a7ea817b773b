"""open_source: which address opens what, and what it says of the others."""

from __future__ import annotations

import pytest

from edge_ssd.sources import open_source


def test_the_rendered_camera():
    with open_source("demo://?frames=3&size=64x64") as source:
        assert (source.frame_count, source.fps, source.is_live) == (3, 30.0, False)
        frames = list(source)
    assert [frame.sequence for frame in frames] == [0, 1, 2]
    assert frames[0].image_size == (64, 64)
    assert frames[0].source == "demo://?frames=3&size=64x64"


def test_an_unknown_scheme_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match=r"ftp://x: unknown kind of source ftp://; known: demo, v4l2, csi"):
        open_source("ftp://x")


def test_an_unknown_policy_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="policy: expected one of newest, every, got 'latest'"):
        open_source("demo://", policy="latest")


def test_a_file_that_is_not_there():
    with pytest.raises(FileNotFoundError, match=r"nowhere\.mp4: no such file or folder"):
        open_source("nowhere.mp4")
