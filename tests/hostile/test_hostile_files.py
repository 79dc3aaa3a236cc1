"""Files made to do harm: nothing in them runs, nothing is written elsewhere, and what is said is one line."""

from __future__ import annotations

import copy
import hashlib
import io
import os
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from sppcls.cli.main import main
from sppcls.data.sources import build_sources
from sppcls.errors import DataError

NOWHERE = "http://127.0.0.1:9/imagenette2.tgz"  # the discard port: nobody listens


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.marker), "w")


def evil_files(folder: Path, marker: Path) -> list[Path]:
    """Pickles, and what torch makes of them: alone, in its old format, and within a checkpoint of ours."""
    evil = Evil(marker)
    (folder / "plain.ckpt").write_bytes(pickle.dumps(evil))
    (folder / "old.ckpt").write_bytes(pickle.dumps(evil, 0))
    torch.save(evil, folder / "zip.ckpt")
    torch.save(evil, folder / "legacy.ckpt", _use_new_zipfile_serialization=False)
    torch.save({"sppcls": {"format": 1, "classes": evil}, "state_dict": {}}, folder / "model_info.ckpt")
    torch.save({"state_dict": {"net.x": evil}, "sppcls": {}}, folder / "weights.ckpt")
    return sorted(folder.glob("*.ckpt"))


COMMANDS = {
    "train": ["train", "ckpt_path=CKPT"],
    "weights": ["train", "data.num_train=40", "data.num_val=40", "trainer=cpu", "backbone.weights=CKPT"],
    "evaluate": ["evaluate", "CKPT"],
    "ensemble": ["ensemble", "CKPT", "CKPT"],
    "predict": ["predict", "CKPT", "photo.png"],
    "features": ["features", "CKPT", ".", "--out", "out.npz"],
    "transfer": ["transfer", "CKPT", "--data", "."],
    "export": ["export", "CKPT", "--format", "torch", "--out", "out.pt2"],
    "explain": ["explain", "CKPT", "photo.png"],
}


def one_error(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert error.startswith("sppcls: error: ")
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize("command", COMMANDS)
def test_a_checkpoint_that_holds_code_is_refused(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (120, 100)).save("photo.png")
    marker = tmp_path / "it-ran"
    files = evil_files(tmp_path, marker)
    pickle.loads((tmp_path / "plain.ckpt").read_bytes()).close()
    assert marker.exists()  # so the file does what it is made for, where it is let
    marker.unlink()
    before = set(tmp_path.iterdir())
    for file in files:
        words = [word.replace("CKPT", file.name) for word in COMMANDS[command]]
        assert main(words) == 1
        assert file.name in one_error(capsys)
        assert not marker.exists()
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("command", COMMANDS)
def test_a_checkpoint_that_is_no_file_or_has_an_impossible_name_is_one_line(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Image.new("RGB", (120, 100)).save("photo.png")
    os.mkfifo("../pipe.ckpt")
    Path("../around.ckpt").symlink_to("around.ckpt")
    for name, reason in (
        ("../pipe.ckpt", "not a regular file"),
        ("/dev/zero", "not a regular file"),
        ("x" * 300, "File name too long"),
        ("../around.ckpt", "Too many levels of symbolic links"),
    ):
        assert main([word.replace("CKPT", name) for word in COMMANDS[command]]) == 1
        error = one_error(capsys)
        assert name in error
        assert reason in error


def packed_bomb(path: Path, members: int, compression: int) -> None:
    """A checkpoint that stands for far more memory than it has bytes: packed, or one part under many names."""
    torch.save({"sppcls": {}, "state_dict": {"net.x": torch.zeros(2_000_000)}}, path)
    with zipfile.ZipFile(path) as archive:
        parts = {part.filename: archive.read(part) for part in archive.infolist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
        largest = max(archive.infolist(), key=lambda part: part.file_size)
        for number in range(members):
            part = copy.copy(largest)
            part.filename = f"{largest.filename}{number}"
            archive.filelist.append(part)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_small_checkpoint_that_stands_for_much_memory_is_refused(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (120, 100)).save("photo.png")
    packed_bomb(tmp_path / "packed.ckpt", 0, zipfile.ZIP_DEFLATED)
    assert (tmp_path / "packed.ckpt").stat().st_size < 100_000
    packed_bomb(tmp_path / "overlapping.ckpt", 50, zipfile.ZIP_STORED)
    for name, reason in (("packed", "its parts are compressed"), ("overlapping", "larger than the file")):
        assert main([word.replace("CKPT", f"{name}.ckpt") for word in COMMANDS[command]]) == 1
        error = one_error(capsys)
        assert f"{name}.ckpt" in error
        assert reason in error


def test_predictions_that_hold_code_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    marker = tmp_path / "it-ran"
    evil = np.array([Evil(marker)], dtype=object)
    np.savez(tmp_path / "a.npz", path=evil, label=evil, top_class=evil)
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as file:
        for name in ("path", "label", "top_class"):
            file.writestr(f"{name}.npy", pickle.dumps(Evil(marker)))
    for name in ("a.npz", "b.npz"):
        assert main(["compare", str(tmp_path / name), str(tmp_path / name)]) == 1
        assert ("are not arrays" if name == "b.npz" else "cannot be read") in one_error(capsys)
    assert not marker.exists()


def test_a_cifar_batch_that_is_not_the_original_is_not_unpickled(tmp_path: Path) -> None:
    marker = tmp_path / "it-ran"
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name, _ in [*datasets.CIFAR10.train_list, *datasets.CIFAR10.test_list, ["batches.meta", ""]]:
        (folder / name).write_bytes(pickle.dumps(Evil(marker)))
    with pytest.raises(DataError, match="cifar10 is incomplete or damaged"):
        build_sources("cifar10", tmp_path)
    assert not marker.exists()


def tar_of(members: dict[str, tuple[bytes, str]]) -> bytes:
    """A .tgz of name: (content, what it links to, if it is a link)."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, (content, link) in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            if link:
                member.type, member.linkname = tarfile.SYMTYPE, link
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


@pytest.mark.parametrize(
    "members",
    [
        {"../escaped": (b"x", "")},
        {"ABSOLUTE/escaped": (b"x", "")},
        {"imagenette2": (b"", "ABSOLUTE"), "imagenette2/escaped": (b"x", "")},
    ],
)
def test_an_archive_that_leaves_its_folder_is_refused(
    members: dict[str, tuple[bytes, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    put = {name.replace("ABSOLUTE", str(outside)): (content, link.replace("ABSOLUTE", str(outside))) for name, (content, link) in members.items()}  # fmt: skip
    root = tmp_path / "deep" / "root"
    root.mkdir(parents=True)
    archive = root / "imagenette2.tgz"
    archive.write_bytes(tar_of(put))
    # Even with the checksum that torchvision expects, which only the original has.
    md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    monkeypatch.setattr(datasets.Imagenette, "_ARCHIVES", {"full": (NOWHERE, md5)})
    with pytest.raises(DataError, match="imagenette could not be fetched"):
        build_sources("imagenette", root, download=True)
    assert list(outside.iterdir()) == []
    assert not (tmp_path / "deep" / "escaped").exists()


def test_an_archive_with_another_checksum_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "imagenette2.tgz").write_bytes(tar_of({"imagenette2/train/a.txt": (b"x", "")}))
    monkeypatch.setattr(datasets.Imagenette, "_ARCHIVES", {"full": (NOWHERE, "0" * 32)})
    with pytest.raises(DataError, match="could not be fetched"):
        build_sources("imagenette", tmp_path, download=True)
    assert not (tmp_path / "imagenette2").exists()


def bomb(width: int, height: int) -> bytes:
    """A valid PNG of that size in a few hundred bytes per megapixel: its rows are all zero."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * ((width + 7) // 8 + 1) * height, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def put_classes(root: Path) -> Path:
    for number, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for i in range(5):
            Image.new("RGB", (40, 30), (100 * number, 20 * i, 0)).save(root / name / f"{i}.png")
    return root


def test_bombs_links_in_circles_and_endless_files_are_named_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = put_classes(tmp_path / "photos")
    (root / "cat" / "around").symlink_to(root, target_is_directory=True)
    (root / "cat" / "itself.png").symlink_to(root / "cat" / "itself.png")
    assert main(["sizes", "data=folder", f"data.root={root}"]) == 1
    assert "Too many levels of symbolic links" in one_error(capsys)
    (root / "cat" / "itself.png").unlink()
    (root / "dog" / "bomb.png").write_bytes(bomb(20_000, 20_000))
    (root / "dog" / "endless.png").symlink_to("/dev/zero")
    os.mkfifo(root / "dog" / "pipe.png")
    assert main(["sizes", "data=folder", f"data.root={root}"]) == 1
    error = one_error(capsys)
    assert "3 files are not readable images" in error
    assert "dog/bomb.png: more than the 178,956,970 pixels allowed" in error
    assert "dog/endless.png: not a regular file" in error
    assert "dog/pipe.png: not a regular file" in error
    train, val, *_ = build_sources("folder", root)
    assert len(train) + len(val) == 10 + 3  # nothing twice by way of `around`
