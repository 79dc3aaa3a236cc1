"""Disks, files, loaders and memory that fail in the middle of a run: one clear line, and the run can be gone on with."""

from __future__ import annotations

import csv
import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import Loaded
from killing import STATEFUL, Runs, differences
from PIL import Image
from tiny_runs import TINY

from sppcls import load_classifier
from sppcls.data.stream import LOADERS_BEGIN
from sppcls.engine.user_errors import as_user_error

WORDS = [*TINY, *STATEFUL, "trainer.max_epochs=3", "ckpt_path=auto"]


def error_of(output: str) -> str:
    """The line of the error; nothing of a traceback is in the output."""
    assert "Traceback" not in output
    assert "Error:" not in output
    lines = [line for line in output.splitlines() if line.startswith("sppcls: error: ")]
    assert len(lines) == 1, output
    assert output.rstrip().endswith(lines[0]), output
    return lines[0]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of one MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_costs_nothing_that_was_written(runs: Runs, whole: Path, small_disk: Path) -> None:
    words = [*WORDS, f"runs_dir={small_disk}", "run_name=run"]
    folder = small_disk / "shapes" / "run"
    for left in (0, 20_000):  # full to the last byte, and full in the middle of a checkpoint
        process = runs.begin(words)
        runs.wait_for((folder / ("metrics.csv" if left else "last.ckpt")).exists, process)
        with open(small_disk / "filler", "wb", buffering=0) as filler:
            try:
                while filler.write(bytes(4096)):
                    pass
            except OSError:
                filler.truncate(filler.tell() - left // 4096 * 4096)
        ended = runs.end()
        assert ended.status == 1, ended.output
        assert "No space left on device" in error_of(ended.output) or "written" in error_of(ended.output)
        assert str(folder) in error_of(ended.output)
        load_classifier(folder / "last.ckpt")
        (small_disk / "filler").unlink()
    ended = runs.start(words)
    assert ended.status == 0, ended.output
    assert differences(whole, folder) == []


def test_a_folder_that_becomes_read_only(runs: Runs, whole: Path, tmp_path: Path) -> None:
    words = [*WORDS, f"runs_dir={tmp_path / 'runs'}", "run_name=run"]
    folder = tmp_path / "runs" / "shapes" / "run"
    process = runs.begin(words, powerless=True)
    runs.wait_for((folder / "last.ckpt").exists, process)
    folder.chmod(0o555)
    try:
        ended = runs.end()
        assert ended.status == 1, ended.output
        assert "Permission denied" in error_of(ended.output)
        assert str(folder) in error_of(ended.output)
        again = runs.start(words, powerless=True)
        assert again.status == 1, again.output
        assert error_of(again.output) == f"sppcls: error: {folder}: cannot write there (Permission denied)"
    finally:
        folder.chmod(0o755)
    ended = runs.start(words, powerless=True)
    assert ended.status == 0, ended.output
    assert differences(whole, folder) == []


def test_a_run_folder_that_is_deleted_is_one_line(runs: Runs, tmp_path: Path) -> None:
    folder = tmp_path / "shapes" / "run"
    process = runs.begin([*WORDS, f"runs_dir={tmp_path}", "run_name=run"])
    runs.wait_for((folder / "last.ckpt").exists, process)
    folder.rename(tmp_path / "gone")
    ended = runs.end()
    assert ended.status == 1, ended.output
    assert error_of(ended.output) == (
        f"sppcls: error: {folder}: the run folder was removed or renamed while it was in use; training stopped"
    )
    assert not folder.exists()


def test_the_event_file_may_be_deleted(runs: Runs, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shapes" / "run"
    process = runs.begin([*WORDS, f"runs_dir={tmp_path}", "run_name=run"])
    runs.wait_for((folder / "last.ckpt").exists, process)
    for path in folder.glob("events.*"):
        path.unlink()
    ended = runs.end()
    assert ended.status == 0, ended.output
    assert differences(whole, folder) == []


def children(process: int) -> list[int]:
    return [int(n) for n in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def test_a_loader_that_is_killed_ends_the_run_in_one_line(runs: Runs, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shapes" / "run"
    words = [*WORDS, f"runs_dir={tmp_path}", "run_name=run", "data.workers=2"]
    process = runs.begin(words)
    runs.wait_for((folder / "last.ckpt").exists, process)
    os.kill(children(process)[0], 9)
    ended = runs.end()
    assert ended.status == 1, ended.output
    assert "a loader process died" in error_of(ended.output)
    ended = runs.start(words)
    assert ended.status == 0, ended.output
    assert differences(whole, folder) == []


def make_photos(root: Path) -> None:
    rng = np.random.default_rng(1)
    for split, count in (("train", 24), ("val", 8)):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 255, (80, 90, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.jpg")


@pytest.mark.parametrize("on_error", ["skip", "raise"])
def test_images_that_vanish_and_change_in_a_run(runs: Runs, tmp_path: Path, on_error: str) -> None:
    make_photos(tmp_path / "photos")
    words = [word for word in WORDS if not word.startswith(("data.num", "data=", "trainer.max_epochs"))]
    words += ["data=folder", f"data.root={tmp_path / 'photos'}", f"data.on_error={on_error}", "trainer.max_epochs=8",
              f"runs_dir={tmp_path}", "run_name=run", "data.workers=1"]  # fmt: skip
    folder = tmp_path / "folder" / "run"
    process = runs.begin(words)
    runs.wait_for((folder / "last.ckpt").exists, process)
    cat, dog = (tmp_path / "photos" / "train" / name for name in ("cat", "dog"))
    (cat / "3.jpg").unlink()
    (dog / "5.jpg").write_bytes((dog / "5.jpg").read_bytes()[:500])
    (dog / "7.jpg").write_bytes(b"")
    Image.new("RGB", (200, 120)).save(dog / "8.jpg")  # another picture is no error
    ended = runs.end()
    if on_error == "raise":
        assert ended.status == 1, ended.output
        assert any(name in error_of(ended.output) for name in ("3.jpg", "5.jpg", "7.jpg"))
        return
    assert ended.status == 0, ended.output
    assert "3 images could not be read and were left out" in ended.output
    assert f"{cat / '3.jpg'}: cannot be read (No such file or directory)" in ended.output
    assert f"{dog / '5.jpg'}: damaged image" in ended.output
    assert f"{dog / '7.jpg'}: empty file" in ended.output
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
        seen = [int(row["images_seen"]) for row in csv.DictReader(file)]
    assert seen[-1] - seen[-2] == 48 - 3


def test_an_error_in_a_loader_is_not_the_death_of_one(tmp_path: Path) -> None:
    def messages() -> Iterator[str]:
        for body in (lambda: 1 / 0, lambda: os.kill(os.getpid(), 9)):
            loader = torch.utils.data.DataLoader(
                Broken(body), num_workers=1, multiprocessing_context=LOADERS_BEGIN
            )
            with pytest.raises((RuntimeError, ZeroDivisionError)) as caught:
                list(loader)
            yield str(caught.value)

    error, death = (as_user_error(RuntimeError(text), tmp_path) for text in messages())
    assert error is None
    assert "a loader process died" in str(death)
    assert "was removed or renamed" in str(as_user_error(RuntimeError(), tmp_path / "gone"))
    assert as_user_error(RuntimeError(), None) is None  # of a process that does not write


class Broken(torch.utils.data.Dataset):
    def __init__(self, body: Callable[[], object]) -> None:
        self.body = body

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> object:
        return self.body()


def test_a_step_none_of_whose_images_can_be_read_is_left_out_of_the_curves(
    runs: Runs, tmp_path: Path
) -> None:
    make_photos(tmp_path / "photos")
    for name in ("cat", "dog"):
        for i in range(0, 24, 2):
            (tmp_path / "photos" / "train" / name / f"{i}.jpg").write_bytes(b"")
    words = [word for word in TINY if not word.startswith(("data.num", "data=", "data.batch", "trainer.max"))]
    words += ["data=folder", f"data.root={tmp_path / 'photos'}", "data.check=false", "data.on_error=skip",
              "data.batch_size=1", "log.every_n_steps=1", "trainer.max_epochs=1",
              f"runs_dir={tmp_path}", "run_name=run"]  # fmt: skip
    ended = runs.start(words)
    assert ended.status == 0, ended.output
    assert "24 images could not be read and were left out" in ended.output


# Trains with a /dev/shm of its own, as small as in many a container; status 77 where nobody may mount one.
_WITH_SHARED_MEMORY = """
import ctypes, sys
size = sys.argv.pop(1).encode()
c = ctypes.CDLL(None)
new_space, private = 0x20000, 0x44000  # CLONE_NEWNS, MS_REC | MS_PRIVATE
if c.unshare(new_space) or c.mount(b"none", b"/", None, ctypes.c_ulong(private), None):
    sys.exit(77)
if c.mount(b"tmpfs", b"/dev/shm", b"tmpfs", ctypes.c_ulong(0), b"size=" + size):
    sys.exit(77)
from sppcls.cli.main import train_main
sys.exit(train_main())
"""


@pytest.mark.parametrize(
    ("size", "line"),
    [
        ("64k", "loader processes need 0.4 MiB of shared memory at least, and /dev/shm has 0.1 MiB free: "),
        ("1m", "the shared memory (/dev/shm), through which loader processes pass their batches, is full: "),
    ],
)
def test_a_small_shared_memory_is_one_line(loaded: Loaded, tmp_path: Path, size: str, line: str) -> None:
    words = [*TINY, "data.num_train=96", "data.workers=2", f"runs_dir={tmp_path}"]
    ended = loaded.run(["-c", _WITH_SHARED_MEMORY, size, *words])
    if ended.returncode == 77:
        pytest.skip("no mount namespace to be had")
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert line in error_of(ended.stdout + ended.stderr)
    assert "set data.workers=0 (--workers 0), or give a container more of it" in ended.stderr
    if size == "64k":
        assert not list(tmp_path.iterdir()), "refused before anything is written"


def test_few_open_files_are_made_more(loaded: Loaded, tmp_path: Path) -> None:
    words = [*TINY, "data.workers=4", "data.val_batch_size=2", f"runs_dir={tmp_path}"]
    code = (
        "import resource, sys; _, most = resource.getrlimit(resource.RLIMIT_NOFILE); "
        "resource.setrlimit(resource.RLIMIT_NOFILE, (50, most)); "
        "from sppcls.cli.main import train_main; sys.exit(train_main())"
    )
    ended = loaded.run(["-c", code, *words])
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_too_many_open_files_are_told(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").touch()
    try:
        try:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        finally:
            raise RuntimeError("Please call `iter(combined_loader)` first.")  # Lightning's, which hides it
    except RuntimeError as error:
        told = as_user_error(error, tmp_path)
    assert str(told).startswith("too many open files for the loader processes (a process may open ")
    assert str(told).endswith("; ckpt_path=auto resumes from the last checkpoint")
