"""`edge-ssd pull` from a server on this machine that has weights of torchvision's layout, and misbehaves on demand."""

from __future__ import annotations

import hashlib
import io
import shutil
import ssl
import subprocess
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from edge_ssd import (  # noqa: E402
    Detector,
    cli,
    limits,
)
from edge_ssd.networks import build_model  # noqa: E402
from edge_ssd.spec import SsdSpec  # noqa: E402
from edge_ssd.training import download as module  # noqa: E402
from edge_ssd.training.download import download, shown_url  # noqa: E402
from edge_ssd.training.published import COCO_NAMES, PUBLISHED, Published, checked_sha256, weights_path  # noqa: E402

pytestmark = pytest.mark.torch


class Server:
    """Serves one file. breaks: how often it closes the connection after half of what it was asked for.

    logins: what came as such.   leads_on: {path: address that is given instead}.   tls: an SSLContext for https.
    """

    def __init__(self, content, tls=None):
        self.content, self.breaks, self.ranges, self.takes_ranges = content, 0, [], True
        self.logins, self.leads_on = [], {}
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.answer(self)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        digest = hashlib.sha256(content).hexdigest()
        if tls:
            self.http.socket = tls.wrap_socket(self.http.socket, server_side=True)
        self.address = f"{'https' if tls else 'http'}://127.0.0.1:{self.http.server_port}"
        self.url = f"{self.address}/model-{digest[:8]}.pth"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def answer(self, request):
        asked = request.headers.get("Range")
        self.ranges.append(asked)
        self.logins.append(request.headers.get("Authorization"))
        if request.path in self.leads_on:
            request.send_response(302)
            request.send_header("Location", self.leads_on[request.path])
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
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
    """A function of the content that gives a Server. What is not about https is tested without it."""
    monkeypatch.setattr(module, "PAUSE_S", 0.0)
    monkeypatch.setattr(module, "SCHEMES", ("https", "http"))
    servers = []

    def start(content, tls=None):
        servers.append(Server(content, tls))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def publish(monkeypatch):
    """A function that makes a Server's file the published one of a name."""

    def publish(name, server, sha256=""):
        published = Published(PUBLISHED[name].arch, server.url, sha256)
        monkeypatch.setitem(PUBLISHED, name, published)
        return published

    return publish


@pytest.fixture
def numbers(rng):
    return rng.bytes(300_000)


def test_pulled_weights_become_a_model_of_90_classes(serve, publish, tmp_path, monkeypatch, capsys):
    file = io.BytesIO()
    torch.manual_seed(0)
    torch.save(build_model("ssdlite320_mobilenet_v3_large", 91).state_dict(), file)
    server = serve(file.getvalue())
    publish("ssdlite320-coco", server)
    monkeypatch.setenv("EDGE_SSD_CACHE", str(tmp_path / "cache"))
    command = ["pull", "ssdlite320-coco", "--out", str(tmp_path), "--url", server.url]
    assert cli.main(command) == 0
    written, digest, start, train = capsys.readouterr().out.splitlines()
    weights = tmp_path / "cache" / server.url.rsplit("/", 1)[-1]
    assert "ssdlite320-coco.onnx and ssdlite320-coco.json" in written
    assert digest == f"SHA-256 of the download: {hashlib.sha256(file.getvalue()).hexdigest()}"
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


def test_a_full_disk_is_said_in_one_line(serve, publish, tmp_path, numbers, monkeypatch, capsys):
    server = serve(numbers)
    publish("ssd300-coco", server)
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
        (
            ["ssd300-coco", "--url", "http://127.0.0.1/model.pth"],
            "expected an address that begins with https://",
        ),
        (["ssd300-coco", "--url", "file:///etc/passwd"], "expected an address that begins with https://"),
        (["ssd300-coco", "--url", "model.pth"], "model.pth: expected an address that begins with https://"),
        (["ssd300-coco", "--url", "https:///model.pth"], "expected an address that begins with https://"),
        (
            ["ssd300-coco", "--url", "https://u:se@cret@host:x/m"],
            "error: https://host:x/m: expected an address",
        ),
    ],
)
def test_wrong_use_is_one_line(arguments, message, capsys):
    assert cli.main(["pull", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_weights_of_another_network_are_refused(serve, publish, tmp_path, monkeypatch, capsys):
    file = io.BytesIO()
    torch.save({"backbone.features.0.weight": torch.zeros(2)}, file)
    monkeypatch.setenv("EDGE_SSD_CACHE", str(tmp_path))
    server = serve(file.getvalue())
    publish("ssdlite320-coco", server)
    command = ["pull", "ssdlite320-coco", "--out", str(tmp_path), "--url", server.url]
    assert cli.main(command) == 1
    assert "ssdlite320_mobilenet_v3_large with 91 classes" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.onnx"))


@pytest.mark.parametrize(
    "name", ["model.pth", "model-0123.pth", "", "x-01234567", "a%2f..%2fb-01234567.pth%00"]
)
def test_a_name_without_a_hash_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="expected a name that ends in a hash"):
        download(f"https://127.0.0.1/{name}", tmp_path)


def test_another_address_must_give_the_published_file(serve, publish, tmp_path, numbers, monkeypatch, capsys):
    """The digits in a name that a stranger gives are a stranger's."""
    publish("ssd300-coco", serve(numbers))
    other = serve(numbers[::-1])
    monkeypatch.setenv("EDGE_SSD_CACHE", str(tmp_path / "cache"))
    command = ["pull", "ssd300-coco", "--out", str(tmp_path), "--url", other.url]
    assert cli.main(command) == 1
    assert "expected a SHA-256 that starts with" in capsys.readouterr().err.splitlines()[-1]
    assert list((tmp_path / "cache").iterdir()) == []


def test_another_address_may_give_any_name(serve, tmp_path, numbers):
    server = serve(numbers)
    path = download(f"{server.address}/download?file=5", tmp_path, server.url.rsplit("/", 1)[-1])
    assert path.read_bytes() == numbers


def test_all_of_a_hash_is_checked_where_it_is_known(serve, publish, tmp_path, numbers):
    server, whole = serve(numbers), hashlib.sha256(numbers).hexdigest()
    published = publish("ssd300-coco", server, whole)
    assert published.digest == whole
    assert download(server.url, tmp_path / "a", published.file, whole).read_bytes() == numbers
    wrong = whole[:8] + "0" * 56
    with pytest.raises(ValueError, match=f"expected a SHA-256 {wrong}, got {whole}; removed"):
        download(server.url, tmp_path / "b", published.file, wrong)


def test_published_hashes_are_those_of_the_names():
    for published in PUBLISHED.values():
        assert published.url.startswith("https://")
        assert published.digest.startswith(replace(published, sha256="").digest)
        assert len(published.digest) in (8, 64)


def test_a_file_that_shares_the_first_digits_is_refused_later(serve, publish, tmp_path, numbers, monkeypatch):
    """Eight digits can be met by trying; the whole hash of the first download is noted."""
    server = serve(numbers)
    published = publish("ssd300-coco", server)
    monkeypatch.setenv("EDGE_SSD_CACHE", str(tmp_path))
    path = download(server.url, tmp_path)
    digest = hashlib.sha256(numbers).hexdigest()
    assert checked_sha256(path) == digest
    assert path.with_name(f"{path.name}.sha256").read_text() == f"{digest}\n"
    assert (checked_sha256(path), weights_path("ssd300-coco")) == (digest, path)
    path.write_bytes(b"another")
    for check in (lambda: checked_sha256(tmp_path / published.file), lambda: weights_path("ssd300-coco")):
        with pytest.raises(
            ValueError, match=f"noted at the first download, {digest} .*got {'[0-9a-f]' * 64}; find"
        ):
            check()


def test_no_login_and_no_token_is_shown(serve, tmp_path, monkeypatch, numbers):
    server = serve(numbers)
    url = server.url.replace("://", "://me:pass%40word@") + "?token=secret#secret"
    server.close()
    with pytest.raises(OSError, match="refused; run the command again") as error:
        download(url, tmp_path)
    assert str(error.value).startswith(f"{server.url}: ")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://a:b@host/x?y=z#w", "https://host/x"),
        ("https://a@b:c@host:8/x", "https://host:8/x"),
        ("https://host?token=x", "https://host"),
        ("a:b@host/x\x1b[2J", "host/x\\x1b[2J"),
        ("https://host/@x", "https://host/@x"),
    ],
)
def test_what_is_shown_of_an_address(url, shown):
    assert shown_url(url) == shown


def test_a_login_is_sent_to_the_server_that_was_named_alone(serve, tmp_path, numbers):
    first, second = serve(numbers), serve(numbers)
    path = second.url.rsplit("/", 1)[-1]
    first.leads_on[f"/{path}"] = second.url
    url = first.url.replace("://", "://me:pass%40word@")
    assert download(url, tmp_path).read_bytes() == numbers
    assert (first.logins, second.logins) == (["Basic bWU6cGFzc0B3b3Jk"], [None])


def test_more_than_any_file_of_weights_is_not_taken(serve, tmp_path, numbers, monkeypatch):
    monkeypatch.setattr(limits, "MOST_CHECKPOINT_BYTES", 1000)
    with pytest.raises(ValueError, match=r"expected at most 0\.0 GB of weights, more come"):
        download(serve(numbers).url, tmp_path)


@pytest.fixture
def tls(tmp_path, monkeypatch):
    """An SSLContext of a server that this process trusts."""
    if not shutil.which("openssl"):
        pytest.skip("there is no openssl, which makes a certificate for the test")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    options = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1"
    command = ["openssl", "req", *options.split(), "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    return context


@pytest.fixture
def https_alone(serve, monkeypatch):
    monkeypatch.setattr(module, "SCHEMES", ("https",))


def test_https_is_followed_to_https(serve, tls, https_alone, tmp_path, numbers):
    server = serve(numbers, tls)
    server.leads_on["/latest"] = server.url
    name = server.url.rsplit("/", 1)[-1]
    assert download(f"{server.address}/latest", tmp_path / "cache", name).read_bytes() == numbers


@pytest.mark.parametrize(
    ("scheme", "error", "said"),
    [
        ("http", ValueError, "/latest: leads on to http://127.* begins with https://"),
        ("ftp", ValueError, "/latest: leads on to ftp://127.* begins with https://"),
        ("file", OSError, "/latest: the server answers 302, and leads on to where nothing can be fetched"),
    ],
)
def test_https_is_not_followed_to_anything_else(
    serve, tls, https_alone, tmp_path, numbers, scheme, error, said
):
    server, other = serve(numbers, tls), serve(numbers)
    name = server.url.rsplit("/", 1)[-1]
    server.leads_on["/latest"] = other.url.replace("http://", f"{scheme}://me:secret@") + "?token=secret"
    with pytest.raises(error, match=said) as caught:
        download(f"{server.address}/latest", tmp_path / "cache", name)
    assert "secret" not in str(caught.value)
    assert other.ranges == []
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_server_that_nobody_vouches_for_is_refused(serve, tls, https_alone, tmp_path, numbers, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", "/dev/null")
    monkeypatch.setattr(module, "ATTEMPTS", 1)
    with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
        download(serve(numbers, tls).url, tmp_path / "cache")
