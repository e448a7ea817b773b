"""`edge-ssd pull` from a server on this machine that has weights of torchvision's layout, and misbehaves on demand."""

from __future__ import annotations

import hashlib
import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from edge_ssd import Detector, cli  # noqa: E402
from edge_ssd.networks import build_model  # noqa: E402
from edge_ssd.spec import SsdSpec  # noqa: E402
from edge_ssd.training import download as module  # noqa: E402
from edge_ssd.training.download import download  # noqa: E402
from edge_ssd.training.published import COCO_NAMES  # noqa: E402

pytestmark = pytest.mark.torch


class Server:
    """Serves one file. breaks: how often it closes the connection after half of what it was asked for."""

    def __init__(self, content):
        self.content, self.breaks, self.ranges, self.takes_ranges = content, 0, [], True
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.answer(self)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        digest = hashlib.sha256(content).hexdigest()
        self.url = f"http://127.0.0.1:{self.http.server_port}/model-{digest[:8]}.pth"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def answer(self, request):
        asked = request.headers.get("Range")
        self.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.takes_ranges else 0
        body = self.content[start:]
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if self.breaks:
            self.breaks -= 1
            body = body[: len(body) // 2]
        request.wfile.write(body)

    def close(self):
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def serve(monkeypatch):
    """A function of the content that gives a Server."""
    monkeypatch.setattr(module, "PAUSE_S", 0.0)
    servers = []

    def start(content):
        servers.append(Server(content))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def numbers(rng):
    return rng.bytes(300_000)


def test_pulled_weights_become_a_model_of_90_classes(serve, tmp_path, monkeypatch, capsys):
    file = io.BytesIO()
    torch.manual_seed(0)
    torch.save(build_model("ssdlite320_mobilenet_v3_large", 91).state_dict(), file)
    server = serve(file.getvalue())
    monkeypatch.setenv("EDGE_SSD_CACHE", str(tmp_path / "cache"))
    command = ["pull", "ssdlite320-coco", "--out", str(tmp_path), "--url", server.url]
    assert cli.main(command) == 0
    written, start, train = capsys.readouterr().out.splitlines()
    weights = tmp_path / "cache" / server.url.rsplit("/", 1)[-1]
    assert "ssdlite320-coco.onnx and ssdlite320-coco.json" in written
    assert str(weights) in start
    assert train == f"edge-ssd train --arch ssdlite320_mobilenet_v3_large --weights {weights} ..."
    assert weights.read_bytes() == file.getvalue()
    spec = SsdSpec.load(tmp_path / "ssdlite320-coco.json")
    assert len(spec.class_names) == 90
    assert (spec.class_names[0], spec.class_names[9], spec.class_names[89]) == (
        "person",
        "traffic light",
        "toothbrush",
    )
    assert spec.class_names.count("N/A") == 10
    assert Detector.load(tmp_path / "ssdlite320-coco.onnx").class_names == COCO_NAMES
    download(server.url, tmp_path / "cache")
    assert len(server.ranges) == 1  # the second time from the cache


def test_a_broken_connection_is_gone_on_with(serve, tmp_path, numbers):
    server = serve(numbers)
    server.breaks = 2
    path = download(server.url, tmp_path)
    assert path.read_bytes() == numbers
    assert server.ranges == [None, "bytes=150000-", "bytes=225000-"]
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_server_that_knows_no_ranges_sends_all_again(serve, tmp_path, numbers):
    server = serve(numbers)
    server.breaks, server.takes_ranges = 1, False
    assert download(server.url, tmp_path).read_bytes() == numbers


def test_a_connection_that_keeps_breaking_is_an_error_and_the_part_stays(tmp_path, serve, numbers):
    server = serve(numbers)
    (tmp_path / (server.url.rsplit("/", 1)[-1] + ".part")).write_bytes(numbers[:1000])
    server.close()
    with pytest.raises(OSError, match=r"refused; run the command again to go on from there"):
        download(server.url, tmp_path)
    assert next(tmp_path.glob("*.part")).stat().st_size == 1000


def test_a_wrong_hash_is_an_error_and_nothing_stays(serve, tmp_path, numbers):
    server = serve(numbers)
    server.content = numbers[:-1] + b"?"
    with pytest.raises(
        ValueError, match=r"expected a SHA-256 that starts with [0-9a-f]{8}, got [0-9a-f]{16}"
    ):
        download(server.url, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_cached_file_that_was_changed_is_downloaded_again(serve, tmp_path, numbers):
    server = serve(numbers)
    download(server.url, tmp_path).write_bytes(b"something else")
    assert download(server.url, tmp_path).read_bytes() == numbers


def test_a_full_disk_is_said_in_one_line(serve, tmp_path, numbers, monkeypatch, capsys):
    server = serve(numbers)
    (tmp_path / (server.url.rsplit("/", 1)[-1] + ".part")).symlink_to("/dev/full")
    monkeypatch.setenv("EDGE_SSD_CACHE", str(tmp_path))
    assert cli.main(["pull", "ssd300-coco", "--out", str(tmp_path), "--url", server.url]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.endswith("No space left on device; make room and run the command again")


def test_too_little_space_is_said_before_the_first_byte(serve, tmp_path, numbers, monkeypatch):
    server = serve(numbers)
    usage = module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(OSError, match="0 MB are needed, 0 MB are free"):
        download(server.url, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["yolo"], "name: expected one of ssd300-coco, ssdlite320-coco, got 'yolo'"),
        (["ssd300-coco", "--out", "nowhere"], "nowhere: no such folder"),
        (["ssd300-coco", "--url", "http://127.0.0.1/model.pth"], "expected a name that ends in a hash"),
    ],
)
def test_wrong_use_is_one_line(arguments, message, capsys):
    assert cli.main(["pull", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_weights_of_another_network_are_refused(serve, tmp_path, monkeypatch, capsys):
    file = io.BytesIO()
    torch.save({"backbone.features.0.weight": torch.zeros(2)}, file)
    monkeypatch.setenv("EDGE_SSD_CACHE", str(tmp_path))
    command = ["pull", "ssdlite320-coco", "--out", str(tmp_path), "--url", serve(file.getvalue()).url]
    assert cli.main(command) == 1
    assert "ssdlite320_mobilenet_v3_large with 91 classes" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.onnx"))
