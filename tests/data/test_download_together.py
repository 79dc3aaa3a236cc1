"""Several processes that want one data set at the same time, as torchrun starts them."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from test_archives import food101, pack
from torchvision import datasets

from sppcls.data.archives import unpack
from sppcls.data.sources import build_sources


class Server(ThreadingHTTPServer):
    """Hands out one file, slowly enough for others to come in between; ``count`` is that of the requests."""

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.count = content, 0


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.count += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        half = len(self.server.content) // 2
        self.wfile.write(self.server.content[:half])
        self.wfile.flush()
        time.sleep(0.3)
        self.wfile.write(self.server.content[half:])

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    content = pack(tmp_path / "food-101.tar.gz", food101()["food-101.tar.gz"]).read_bytes()
    with Server(content) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/food-101.tar.gz"
        monkeypatch.setattr(datasets.Food101, "_URL", address)
        monkeypatch.setattr(datasets.Food101, "_MD5", hashlib.md5(content).hexdigest())
        for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(proxy, raising=False)
        yield server
        server.shutdown()


def in_processes(task: Callable[[], None], number: int) -> list[int]:
    """Exit statuses of processes that do the same at the same time: 0 where it went well."""
    children = []
    for _ in range(number):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                task()
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def test_one_process_fetches_and_the_others_wait(served: Server, tmp_path: Path) -> None:
    build_sources("food101", tmp_path / "alone", download=True)
    alone, served.count, root = served.count, 0, tmp_path / "root"

    def task() -> None:
        train, *_ = build_sources("food101", root, download=True)
        assert train.classes == ["a", "b"]

    assert in_processes(task, 3) == [0, 0, 0]
    assert served.count == alone
    assert sorted(os.listdir(root)) == [".download.lock", "food-101", "food-101.tar.gz"]


def test_what_a_killed_unpacking_left_is_removed(served: Server, tmp_path: Path) -> None:
    left = [tmp_path / "root" / name for name in (".unpacking-x", "caltech101/.unpacking-y")]
    for folder in left:
        (folder / "food-101").mkdir(parents=True)
    build_sources("food101", tmp_path / "root", download=True)
    assert not any(folder.exists() for folder in left)


def test_processes_that_unpack_at_the_same_time_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a file system without locks: all are about to move the same folder.
    entries = {f"set/{name}.txt": b"x" * 100 for name in "abc"}
    archive, out = pack(tmp_path / "set.tar", entries), tmp_path / "out"
    together, replace = multiprocessing.get_context("fork").Barrier(3, timeout=30), os.replace

    def wait_and_replace(old: Path, new: Path) -> None:
        if old.name == "set":
            together.wait()
        replace(old, new)

    monkeypatch.setattr(os, "replace", wait_and_replace)
    assert in_processes(lambda: unpack(archive, out), 3) == [0, 0, 0]
    assert sorted(path.name for path in out.rglob("*")) == ["a.txt", "b.txt", "c.txt", "set"]
