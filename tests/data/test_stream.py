"""Streams of images of many shapes: order, bounds, and what becomes of bad ones."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import resource_sharer
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sppcls._util.files import one_at_a_time
from sppcls.data import FileSource, JoinedSource, image_files
from sppcls.data.stream import (
    MAX_RESIZED_PIXELS,
    begin_worker,
    in_chunks,
    load_each,
    resize_whole,
    same_shape_batches,
)
from sppcls.errors import DataError, ImageError


def read(index: int) -> int:
    if index % 5 == 3:
        raise ImageError(f"{index}: bad")
    return index * index


@pytest.mark.parametrize("workers", [0, 2])
def test_everything_comes_in_order_with_the_reason_of_what_is_missing(workers) -> None:
    loaded = list(load_each(read, 30, workers))
    assert [item.index for item in loaded] == list(range(30))
    assert [item.value for item in loaded] == [None if i % 5 == 3 else i * i for i in range(30)]
    assert [item.error for item in loaded if item.error] == [f"{i}: bad" for i in range(3, 30, 5)]
    assert [item.index for item in load_each(read, 30, workers, [7, 2, 9])] == [7, 2, 9]


def test_an_error_that_is_not_the_images_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        list(load_each(lambda i: 1 // i, 3))


def test_reading_draws_no_random_numbers() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(load_each(read, 9))
    assert torch.equal(before, torch.get_rng_state())


@given(st.lists(st.integers(0, 200 << 20), max_size=40))
def test_chunks_are_bounded_and_lose_nothing(sizes) -> None:
    chunks = list(in_chunks(range(len(sizes)), sizes.__getitem__))
    assert [i for chunk in chunks for i in chunk] == list(range(len(sizes)))
    for chunk in chunks:
        assert sum(sizes[i] for i in chunk[:-1]) < 256 << 20  # full at the latest with its last
        assert len(chunk) <= 512


def test_long_chunks_are_cut() -> None:
    assert [len(c) for c in in_chunks(range(1100), lambda i: 0)] == [512, 512, 76]


@given(
    st.lists(st.tuples(st.sampled_from([50, 256, 900]), st.sampled_from([60, 384])), max_size=60),
    st.integers(1, 9),
)
@settings(deadline=None)
def test_batches_hold_one_shape_and_every_item_once(shapes, batch_size) -> None:
    batches = list(same_shape_batches(range(len(shapes)), shapes.__getitem__, batch_size))
    assert sorted(i for batch in batches for i in batch) == list(range(len(shapes)))
    full = {}
    for batch in batches:
        (shape,) = {shapes[i] for i in batch}
        assert len(batch) <= batch_size
        assert len(batch) == 1 or len(batch) * shape[0] * shape[1] <= batch_size * 256 * 384
        assert full.get(shape, True)  # only the last batch of a shape may be short
        full[shape] = len(batch) == max(1, min(batch_size, batch_size * 256 * 384 // (shape[0] * shape[1])))


@pytest.mark.parametrize(
    ("shape", "side", "expected"),
    [
        ((300, 400), 256, (256, 341)),
        ((400, 300), 256, (341, 256)),
        ((20, 10), 100, (200, 100)),
        ((33, 77), None, (33, 77)),
        ((256, 300), 256, (256, 300)),
    ],
)
def test_whole_images_keep_their_aspect(shape, side, expected) -> None:
    image = torch.randint(0, 256, (3, *shape), dtype=torch.uint8)
    whole = resize_whole(image, side)
    assert whole.shape == (3, *expected)
    if expected == shape:
        assert torch.equal(whole, image)


@pytest.mark.parametrize(("shape", "side"), [((2, 40_000), 256), ((3000, 4000), None), ((3000, 4000), 2999)])
def test_what_would_be_too_large_is_made_as_large_as_allowed(shape, side) -> None:
    whole = resize_whole(torch.zeros(3, *shape, dtype=torch.uint8), side)
    pixels = whole.shape[1] * whole.shape[2]
    assert 0.9 * MAX_RESIZED_PIXELS < pixels < 1.1 * MAX_RESIZED_PIXELS
    assert whole.shape[2] / whole.shape[1] == pytest.approx(shape[1] / shape[0], rel=0.1)


def test_files_of_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "b" / "deep").mkdir(parents=True)
    for name in ("b/2.jpg", "b/1.PNG", "b/deep/ä b.webp", "b/notes.txt", "b/.hidden.jpg", "lone.dat"):
        (tmp_path / name).write_bytes(b"x")
    found = image_files([tmp_path / "lone.dat", tmp_path / "b"])
    assert [os.fspath(path.relative_to(tmp_path)) for path in found] == [
        "lone.dat",
        "b/1.PNG",
        "b/2.jpg",
        "b/deep/ä b.webp",
    ]
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        image_files([tmp_path / "b", tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: no image in this folder \(looked for JPEG, PNG"):
        image_files([tmp_path / "empty"])


def test_joined_sources(tmp_path: Path) -> None:
    for number in range(3):
        Image.fromarray(np.full((4, 5, 3), number, np.uint8)).save(tmp_path / f"{number}.png")
    one = FileSource(tmp_path, ["0.png"], [1], ["a", "b"])
    two = FileSource(tmp_path, ["1.png", "2.png"], [0, 1], ["a", "b"])
    both = JoinedSource({"train": one, "val": two})
    assert len(both) == 3
    assert both.targets == [1, 0, 1]
    assert [both.name(i) for i in range(3)] == ["train/0.png", "val/1.png", "val/2.png"]
    assert [int(both.image(i)[0, 0, 0]) for i in range(3)] == [0, 1, 2]
    with pytest.raises(IndexError):
        both.image(3)


def _hand_over(parent: Connection) -> None:
    """As a loader process does with a batch: its memory is a descriptor that the main process is to fetch."""
    begin_worker(0)
    parent.send(resource_sharer.DupFd(os.open(os.devnull, os.O_RDONLY)))  # type: ignore[attr-defined]
    parent.recv()


def _raise_in_a_thread(parent: Connection) -> None:
    begin_worker(0)
    thread = threading.Thread(target=int, args=["no number"])
    threading.excepthook = lambda told: sys.excepthook(*told[:3])  # type: ignore[arg-type,misc]
    thread.start()
    thread.join()


def _started(body: Callable[[Connection], None]) -> tuple[Any, Connection]:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=body, args=[theirs])
    process.start()
    return process, ours


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_batch_that_a_main_process_which_stops_does_not_fetch_is_no_traceback(capfd) -> None:
    process, loader = _started(_hand_over)
    address, _ = loader.recv()._id
    Client(address, authkey=multiprocessing.current_process().authkey).close()
    loader.send(None)
    process.join()
    assert (process.exitcode, capfd.readouterr().err) == (0, "")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_other_errors_beside_the_reading_are_told_of(capfd) -> None:
    process, _ = _started(_raise_in_a_thread)
    process.join()
    assert "ValueError: invalid literal" in capfd.readouterr().err


def _read_for_ever(lock: Path) -> None:
    with one_at_a_time(lock, lambda: None):
        for _ in load_each(lambda index: bytes(1 << 20), 100, 1):
            lock.with_name("begun").touch()
            time.sleep(60)


def test_a_loader_ends_with_a_main_process_that_was_killed_and_gives_up_its_lock(tmp_path: Path) -> None:
    """Its pipe is full, and it has inherited the lock."""
    lock = tmp_path / "lock"
    process = multiprocessing.get_context("fork").Process(target=_read_for_ever, args=(lock,))
    process.start()
    deadline = time.monotonic() + 60
    while not (tmp_path / "begun").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.join()
    with open(lock, "a+b") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                assert time.monotonic() < deadline
                time.sleep(0.05)


def test_a_loader_that_a_failed_run_has_left_does_not_keep_the_program() -> None:
    code = """if True:
        import sys
        from torch.utils.data import DataLoader
        from sppcls.data.datamodule import _begin_worker
        kept = iter(DataLoader(range(100), num_workers=1, worker_init_fn=_begin_worker))
        next(kept)  # it hears SIGTERM no more
        sys.exit(3)
    """
    # Referred to, as the traceback of an error refers to it, it is there when Python ends.
    code = code.replace("sys.exit(3)", "sys.modules['kept'] = kept; sys.exit(3)")
    assert subprocess.run([sys.executable, "-c", code], timeout=100).returncode == 3
