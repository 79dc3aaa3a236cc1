"""Small photos in class folders for tests of shards, and a server of files that knows ranges."""

from __future__ import annotations

import http.server
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image


def write_photos(root: Path, train: int = 40, val: int = 12, classes: int = 3, side: int = 40) -> Path:
    """``root/train/CLASS/*`` and ``root/val/CLASS/*``: JPEG files, and some PNG, of different sizes and odd names."""
    draw = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for i in range(count):
            pixels = draw.integers(0, 255, (side + i % 7, side + i % 5, 3), np.uint8)
            folder = root / split / f"class {i % classes}"
            folder.mkdir(parents=True, exist_ok=True)
            end = "png" if i % 10 == 9 else "JPG"
            Image.fromarray(pixels).save(folder / f"photo.{i} ü.{end}", "PNG" if end == "png" else "JPEG")
    return root


@contextmanager
def serving(folder: Path, ranges: bool = True, pause: float = 0.0) -> Iterator[tuple[str, list[str]]]:
    """An HTTP server of the files in a folder: its address, and the requests as they come in.

    Args:
        folder: what it serves.
        ranges: whether it gives parts of files.
        pause: seconds before each answer, as of a server that is far away.
    """
    requests: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            time.sleep(pause)
            wanted = self.headers.get("Range")
            requests.append(f"{self.command} {self.path} {wanted or ''}".strip())
            path = folder / self.path.lstrip("/")
            if not path.is_file():
                self.send_response(404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            size = path.stat().st_size
            begin, end = 0, size
            if wanted and ranges:
                first, last = wanted.removeprefix("bytes=").split("-")
                begin, end = int(first), min(size, int(last) + 1) if last else size
                if begin >= size:
                    self.send_response(416)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{size}")
            else:
                self.send_response(200)
            if ranges:
                self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(end - begin))
            self.end_headers()
            if body:
                with open(path, "rb") as file:
                    self.wfile.write(os.pread(file.fileno(), end - begin, begin))

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
