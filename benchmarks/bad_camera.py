"""A network camera that misbehaves: motion JPEG over HTTP that drops the connection, stalls and sends garbage."""

from __future__ import annotations

import http.server
import multiprocessing
import queue
import random
import threading
import time
from dataclasses import dataclass

FAULTS = ("drop", "stall", "garbage")


@dataclass(frozen=True)
class Faults:
    """every_s: a fault about so often, of FAULTS in turn.   stall_s: how long nothing comes.   seed: of the times."""

    every_s: float = 15.0
    stall_s: float = 3.0
    seed: int = 0


class BadCamera:
    """The camera in a process of its own, so that its memory is not the detector's. A context manager.

    source: images it shows.   fps: frames per second.   address: http://..., open once inside.
    counts(): how often it has done each fault so far, {fault: number}.
    """

    def __init__(self, source, fps=30.0, faults=None):
        context = multiprocessing.get_context("spawn")
        self._counts = context.Array("i", len(FAULTS))
        self._port = context.Queue()
        arguments = (source, fps, faults or Faults(), self._port, self._counts)
        self._process = context.Process(target=_serve, args=arguments, daemon=True)

    def __enter__(self):
        self._process.start()
        try:
            port = self._port.get(timeout=60)
        except queue.Empty:
            self.__exit__()
            raise OSError("the camera's process does not start; what it printed says why") from None
        self.address = f"http://127.0.0.1:{port}/live"
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.join()

    def counts(self):
        """See above."""
        return dict(zip(FAULTS, self._counts))


def _serve(source, fps, faults, port, counts):
    from edge_ssd.bench.frames import load_images

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.pictures = [_jpeg(image) for image in load_images(source)]
    server.period_s, server.schedule = 1 / fps, _Schedule(faults, counts)
    port.put(server.server_port)
    server.serve_forever()


def _jpeg(image):
    import cv2

    return cv2.imencode(".jpg", image)[1].tobytes()


class _Schedule:
    """Which fault is due; of all connections together."""

    def __init__(self, faults, counts):
        self.faults, self._counts = faults, counts
        self._rng, self._lock, self._done = random.Random(faults.seed), threading.Lock(), 0
        self._next_s = time.monotonic() + faults.every_s

    def due(self):
        """The fault to do now; "" for none."""
        with self._lock:
            if time.monotonic() < self._next_s:
                return ""
            self._next_s = time.monotonic() + self.faults.every_s * self._rng.uniform(0.5, 1.5)
            number = self._done % len(FAULTS)
            self._done += 1
            self._counts[number] += 1
            return FAULTS[number]


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        number, server = 0, self.server
        try:
            while self._goes_on(server.schedule, server.pictures[number % len(server.pictures)]):
                number += 1
                time.sleep(server.period_s)
        except OSError:
            pass  # the reader has gone

    def _goes_on(self, schedule, picture):
        fault = schedule.due()
        if fault == "drop":
            self._send(picture[: len(picture) // 2])
            return False
        if fault == "stall":
            time.sleep(schedule.faults.stall_s)
        if fault == "garbage":
            noise = random.Random(0).randbytes(len(picture))
            picture = picture[: len(picture) // 4] + noise + picture[len(picture) // 2 :]
        self._send(picture)
        return True

    def _send(self, data):
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
        self.wfile.write(head.encode() + data + b"\r\n")

    def log_message(self, *_):
        pass
