"""Archives of every kind and data set: what they hold comes out, and nothing lands outside of the folder."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image
from torchvision import datasets

from sppcls.data.archives import unpack
from sppcls.data.sources import build_sources
from sppcls.errors import DataError

NOWHERE = "http://127.0.0.1:9/"  # the discard port: nobody listens
TAR = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.xz": "w:xz"}
# What a value stands for, beside the content of a file: a link of either kind, a folder, a pipe.
SYMLINK, HARDLINK, FOLDER, PIPE = "symlink:", "hardlink:", "folder:", "pipe:"

Entries = Mapping[str, bytes | str]


def pack(path: Path, entries: Entries) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in entries.items():
                info = zipfile.ZipInfo(name + "/" * (content == FOLDER))
                info.compress_type = zipfile.ZIP_DEFLATED
                kind = content.partition(":")[0] if isinstance(content, str) else ""
                mode = {"symlink": stat.S_IFLNK, "folder": stat.S_IFDIR, "pipe": stat.S_IFIFO}
                info.external_attr = (mode.get(kind, stat.S_IFREG) | 0o644) << 16
                data = content.partition(":")[2] if isinstance(content, str) else content
                archive.writestr(info, data)
        return path
    with tarfile.open(path, TAR["".join(path.suffixes)]) as archive:
        for name, content in entries.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
                continue
            kind, _, member.linkname = content.partition(":")
            member.type = {
                "symlink": tarfile.SYMTYPE,
                "hardlink": tarfile.LNKTYPE,
                "folder": tarfile.DIRTYPE,
                "pipe": tarfile.FIFOTYPE,
            }[kind]
            archive.addfile(member)
    return path


def content_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("suffix", [*TAR, ".zip"])
def test_what_is_packed_comes_out(suffix: str, tmp_path: Path) -> None:
    entries: dict[str, bytes | str] = {"a/b/c.txt": b"deep" * 900_000, "a/empty": FOLDER, "top.txt": b""}
    archive = pack(tmp_path / f"x{suffix}", entries)
    unpack(archive, tmp_path / "new" / "out")
    assert content_of(tmp_path / "new" / "out") == {"a/b/c.txt": b"deep" * 900_000, "top.txt": b""}
    assert (tmp_path / "new" / "out" / "a" / "empty").is_dir()
    assert sorted(os.listdir(tmp_path / "new" / "out")) == ["a", "top.txt"]


def test_links_within_an_archive_become_copies(tmp_path: Path) -> None:
    entries: dict[str, bytes | str] = {
        "a/one.txt": b"1",
        "a/two.txt": HARDLINK + "a/one.txt",
        "a/three.txt": SYMLINK + "one.txt",
        "b/four.txt": SYMLINK + "../a/one.txt",
    }
    unpack(pack(tmp_path / "x.tar", entries), tmp_path / "out")
    assert content_of(tmp_path / "out") == dict.fromkeys(entries, b"1")
    assert not any(path.is_symlink() or path.stat().st_nlink > 1 for path in (tmp_path / "out").glob("*/*"))


OUT = {
    "parent": ({"../escaped": b"x"}, "leads out"),
    "parent below": ({"a/../../escaped": b"x"}, "leads out"),
    "absolute": ({"ABSOLUTE/escaped": b"x"}, "leads out"),
    "Windows drive": ({"C:/escaped": b"x"}, "leads out"),
    "Windows parent": ({"..\\escaped": b"x"}, "leads out"),
    "folder": ({"../escaped": FOLDER}, "leads out"),
    "pipe": ({"pipe": PIPE}, "neither a file nor a folder"),
}
LINKS = {
    "symlink out": ({"link": SYMLINK + "ABSOLUTE", "link/escaped": b"x"}, "links to"),
    "relative symlink out": ({"link": SYMLINK + "../outside", "link/escaped": b"x"}, "links to"),
    "symlink to a folder": ({"a/f": b"x", "link": SYMLINK + "a"}, "links to"),
    "hardlink out": ({"link": HARDLINK + "ABSOLUTE/kept", "link2": b"x"}, "links to"),
    "relative hardlink out": ({"link": HARDLINK + "../outside/kept"}, "links to"),
    "symlink to itself": ({"link": SYMLINK + "link"}, "links to"),
    "symlink to what comes later": ({"link": SYMLINK + "f", "f": b"x"}, "links to"),
}
CASES = [(name, ".tar.gz") for name in {**OUT, **LINKS}] + [(name, ".zip") for name in OUT]


@pytest.mark.parametrize(("name", "suffix"), CASES)
def test_nothing_is_written_outside_and_nothing_of_such_an_archive_stays(
    name: str, suffix: str, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_bytes(b"old")
    entries, reason = {**OUT, **LINKS}[name]
    entries = {
        key.replace("ABSOLUTE", str(outside)): value.replace("ABSOLUTE", str(outside))
        if isinstance(value, str)
        else value
        for key, value in {"before.txt": b"x", **entries}.items()
    }
    archive = pack(tmp_path / f"x{suffix}", entries)
    with pytest.raises(DataError, match=reason) as caught:
        unpack(archive, tmp_path / "out")
    assert str(archive) in str(caught.value)
    assert os.listdir(tmp_path / "out") == []
    assert content_of(outside) == {"kept": b"old"}
    assert sorted(os.listdir(tmp_path)) == sorted([archive.name, "out", "outside"])


def test_a_symlink_in_a_zip_is_refused(tmp_path: Path) -> None:
    archive = pack(tmp_path / "x.zip", {"link": SYMLINK + str(tmp_path), "link/escaped": b"x"})
    with pytest.raises(DataError, match="'link' is neither a file nor a folder"):
        unpack(archive, tmp_path / "out")
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize("suffix", [".tar.gz", ".zip"])
def test_a_bomb_is_refused_before_it_fills_the_disk(suffix: str, tmp_path: Path) -> None:
    archive = pack(tmp_path / f"x{suffix}", {f"{n}.bin": bytes(40_000_000) for n in range(3)})
    assert archive.stat().st_size < 1_000_000
    with pytest.raises(DataError, match="20 times its size"):
        unpack(archive, tmp_path / "out")
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".zip"])
def test_nothing_of_an_archive_that_is_cut_short_stays(suffix: str, tmp_path: Path) -> None:
    entries = {f"{n}.bin": os.urandom(50_000) for n in range(4)}
    archive = pack(tmp_path / f"x{suffix}", entries)
    archive.write_bytes(archive.read_bytes()[:120_000])
    with pytest.raises((OSError, EOFError, tarfile.TarError, zipfile.BadZipFile)):
        unpack(archive, tmp_path / "out")
    assert os.listdir(tmp_path / "out") == []


def test_other_files_of_the_folder_stay(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "a").mkdir(parents=True)
    (out / "a" / "mine.txt").write_bytes(b"mine")
    (out / "a" / "half.txt").write_bytes(b"ha")
    unpack(pack(tmp_path / "x.tar", {"a/half.txt": b"half", "b/c.txt": b"c"}), out)
    assert content_of(out) == {"a/mine.txt": b"mine", "a/half.txt": b"half", "b/c.txt": b"c"}


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (6, 4), "red").save(file, "JPEG")
    return file.getvalue()


def imagenette() -> dict[str, Entries]:
    names = [f"imagenette2/{s}/{w}/a.JPEG" for s in ("train", "val") for w in ("n01440764", "n03028079")]
    return {"imagenette2.tgz": dict.fromkeys(names, jpeg())}


def food101() -> dict[str, Entries]:
    files: dict[str, bytes | str] = {f"food-101/images/{n}.jpg": jpeg() for n in ("a/1", "a/2", "b/1", "b/2")}
    for split, number in (("train", 1), ("test", 2)):
        table = {name: [f"{name}/{number}"] for name in ("a", "b")}
        files[f"food-101/meta/{split}.json"] = json.dumps(table).encode()
    return {"food-101.tar.gz": files}


def pets() -> dict[str, Entries]:
    images = {f"images/{name}_{n}.jpg": jpeg() for name in ("a", "b") for n in (1, 2)}
    lists = {
        f"annotations/{split}.txt": f"a_{n} 1 1 1\nb_{n} 2 2 1\n".encode()
        for split, n in (("trainval", 1), ("test", 2))
    }
    return {"images.tar.gz": images, "annotations.tar.gz": lists}


def caltech101(tmp_path: Path) -> dict[str, Entries]:
    names = [f"101_ObjectCategories/{c}/image_{n:04d}.jpg" for c in ("Faces", "ant") for n in range(4)]
    inner = pack(tmp_path / "inner.tar.gz", dict.fromkeys(names, jpeg()))
    return {"caltech-101.zip": {"caltech-101/101_ObjectCategories.tar.gz": inner.read_bytes()}}


def place(
    name: str, archives: Mapping[str, Entries], root: Path, monkeypatch: pytest.MonkeyPatch
) -> list[Path]:
    """Put archives where they belong, and their checksums into the lists; the network is out of reach."""
    below = {"flowers102": "flowers-102", "caltech101": "caltech101", "pets": "oxford-iiit-pet"}
    folder = root / below.get(name, "")
    folder.mkdir(parents=True, exist_ok=True)
    placed = [pack(folder / file, entries) for file, entries in archives.items()]
    listed = [(NOWHERE + path.name, hashlib.md5(path.read_bytes()).hexdigest()) for path in placed]
    url, md5 = listed[0]
    if name == "imagenette":
        monkeypatch.setattr(datasets.Imagenette, "_ARCHIVES", {"full": listed[0]})
    elif name == "flowers102":
        table = {**datasets.Flowers102._file_dict, "image": (placed[0].name, md5)}
        monkeypatch.setattr(datasets.Flowers102, "_file_dict", table)
        monkeypatch.setattr(datasets.Flowers102, "_download_url_prefix", NOWHERE)
    elif name == "caltech101":
        monkeypatch.setattr("sppcls.data.downloads._CALTECH101", listed[0])
    elif name == "food101":
        monkeypatch.setattr(datasets.Food101, "_URL", url)
        monkeypatch.setattr(datasets.Food101, "_MD5", md5)
    elif name == "cifar10":
        monkeypatch.setattr(datasets.CIFAR10, "url", url)
        monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5)
    else:
        monkeypatch.setattr(datasets.OxfordIIITPet, "_RESOURCES", listed)
    return placed


@pytest.mark.parametrize("name", ["imagenette", "food101", "pets", "caltech101"])
def test_an_archive_placed_by_hand_is_unpacked_and_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archives = caltech101(tmp_path) if name == "caltech101" else globals()[name]()
    placed = place(name, archives, tmp_path / "root", monkeypatch)
    train, val, *_ = build_sources(name, tmp_path / "root", download=True)
    assert len(train.classes) == 2
    assert {train.classes[target] for target in train.targets} == set(train.classes)
    assert tuple(train.image(0).shape) == tuple(val.image(0).shape) == (3, 4, 6)
    for path in placed:
        path.write_bytes(b"")  # nothing asks for them again
    assert len(build_sources(name, tmp_path / "root", download=True).train) == len(train)


FIRST = {
    "imagenette": "imagenette2.tgz",
    "flowers102": "102flowers.tgz",
    "caltech101": "caltech-101.zip",
    "food101": "food-101.tar.gz",
    "cifar10": "cifar-10-python.tar.gz",
    "pets": "images.tar.gz",
}


@pytest.mark.parametrize("kind", ["parent", "symlink"])
@pytest.mark.parametrize("name", FIRST)
def test_no_set_is_unpacked_outside_of_its_folder(
    name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    root = tmp_path / "deep" / "root"
    bad: dict[str, bytes | str] = (
        {"../" * 9 + str(outside)[1:] + "/escaped": b"x"}
        if kind == "parent"
        else {"link": SYMLINK + str(outside), "link/escaped": b"x"}
    )
    entries: Entries = bad
    if name == "caltech101":  # the tar file in the zip file
        inner = pack(tmp_path / "inner.tar.gz", bad)
        entries = {"caltech-101/101_ObjectCategories.tar.gz": inner.read_bytes()}
    (archive,) = place(name, {FIRST[name]: entries}, root, monkeypatch)
    with pytest.raises(
        DataError, match=rf"^data\.download: {name} could not be fetched \(.*(leads out|links to)"
    ):
        build_sources(name, root, download=True)
    assert list(outside.iterdir()) == []
    assert [path for path in root.rglob("[!.]*") if path.is_file()] == [archive]
    assert not list(root.rglob(".unpacking-*"))


def test_an_unpacking_that_was_killed_is_not_taken_for_a_whole_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place("food101", food101(), tmp_path, monkeypatch)
    child = os.fork()
    if child == 0:
        write = Path.mkdir

        def die(path: Path, *args: object, **options: object) -> None:
            if path.name == "b":  # in the middle of the images
                os._exit(9)
            write(path, *args, **options)  # type: ignore[arg-type]

        Path.mkdir = die  # type: ignore[method-assign]
        build_sources("food101", tmp_path, download=True)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    with pytest.raises(DataError, match="food101 is not there"):
        build_sources("food101", tmp_path)
    train, *_ = build_sources("food101", tmp_path, download=True)
    assert train.classes == ["a", "b"]
