"""Addresses that are none, and logins in them, which nothing shows."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("cv2")
pytest.importorskip("tqdm")

from tests.hostile.command_line import assert_refused, edge_ssd
from tests.media import encoded, picture
from tests.stream_server import StreamServer


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["run", "--source", "~no_such_user/x.mp4", "--output", "null"],
            "~no_such_user/x.mp4: there is no such user",
        ),
        (
            ["run", "--source", "demo://?frames=1", "--output", "~no_such_user/x.jsonl"],
            "~no_such_user/x.jsonl: there is no such user",
        ),
        (
            ["data", "stats", "demo://?frames=99999999999999999999"],
            "frames: expected a whole number of at most 1000000000",
        ),
        (["data", "stats", "demo://?frames=1e20"], "frames: expected a whole number, got '1e20'"),
        (["run", "--camera", "٣", "--output", "null"], "٣: no such file or folder"),
        (["run", "--camera", "9" * 5000, "--output", "null"], "expected a camera such as 0"),
        (["run", "--source", "x" * 5000, "--output", "null"], "File name too long"),
        *(
            (["run", "--source", f"rtsp://u:{password}@h/x", "--output", "null"], text)
            for password in ("s3cret#x", "1#s3cret", "s3cret/x", "s3cret?x")
            for text in ("rtsp://h/x: expected", "write %23 for #, %2F for /, %3F for ?, %40 for @")
        ),
        (["run", "--source", "http://u:s3cret@h:x/?pwd=s3cret", "--output", "null"], "http://h:x/?pwd=***: "),
    ],
)
def test_address_that_cannot_be_one(tmp_path, arguments, said):
    ended = edge_ssd(*arguments, cwd=tmp_path)
    assert_refused(ended, said)
    assert "s3cret" not in ended.err


def test_login_is_in_no_output(tmp_path):
    query = "user=admin&pwd=s3cret&x=1"
    with StreamServer() as server:
        server.files[f"/a.png?{query}"] = "image/png", encoded(picture(), ".png")
        address = server.address
        source = f"{address.replace('://', '://admin:s3cret@')}/a.png?{query}"
        ended = edge_ssd("run", "--source", source, "--output", "o.jsonl", cwd=tmp_path)
    assert ended.code == 0, ended
    (line,) = (tmp_path / "o.jsonl").read_text().splitlines()
    assert json.loads(line)["source"] == f"{address}/a.png?user=***&pwd=***&x=1"
    for text in (line, ended.out, ended.err):
        assert "s3cret" not in text
    ended = edge_ssd("run", "--source", f"http://127.0.0.1:9/x?{query}", cwd=tmp_path)
    assert_refused(ended, "http://127.0.0.1:9/x?user=***&pwd=***&x=1: no video stream there")
