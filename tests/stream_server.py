"""A web server on this machine that hands out files and a camera's motion JPEG."""

from __future__ import annotations

import http.server
import threading
import time

from tests.media import encoded, picture


class StreamServer:
    """`address`/live is an endless motion JPEG at 100 FPS; other paths are in `files`.

    files: {path: (content type, bytes)}.   burst: frames of /live before it stops.   visits: times that
    /live was asked for. A context manager.
    """

    def __init__(self):
        self.files, self.burst, self.visits = {}, 1_000_000, 0
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.owner = self
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        serve = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        serve.start()
        return self

    def __exit__(self, *_):
        self.burst = 0
        self._server.shutdown()
        self._server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        kind, data = self.server.owner.files.get(self.path, ("", b""))
        if self.path == "/live":
            self._stream(self.server.owner)
        elif not kind:
            self.send_error(404)
        else:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    def _stream(self, owner):
        owner.visits += 1
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        image = encoded(picture(), ".jpg")
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(image)}\r\n\r\n".encode()
        sent = 0
        try:
            while sent < owner.burst:
                self.wfile.write(head + image + b"\r\n")
                sent += 1
                time.sleep(0.01)
        except OSError:
            pass  # the reader has gone

    def log_message(self, *_):
        pass
