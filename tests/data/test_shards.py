"""Shards: what is written is what was there, readable by others, and whatever is broken is named."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from shard_photos import serving, write_photos

from sppcls.cli.main import main
from sppcls.data.folder import folder_sources
from sppcls.data.shards import INDEX, shards, write_shards
from sppcls.data.shards.scan import index_folder
from sppcls.data.shards.write import Preparation
from sppcls.errors import ConfigError, DataError, ImageError


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def packed(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "out"
    assert main(["shards", str(photos), str(out), "--size", "30kB", "--workers", "0"]) == 0
    return out


@pytest.fixture
def own(photos: Path, packed: Path, tmp_path: Path) -> Path:
    """A copy of the shards that a test may break."""
    for path in packed.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_images_names_and_classes_are_those_of_the_folder(photos: Path, packed: Path) -> None:
    folder, found = folder_sources(photos), shards(str(packed))
    for there, here in ((folder.train, found.train), (folder.val, found.val)):
        assert list(here.targets) == list(there.targets)
        assert here.classes == there.classes
        assert [here.name(i) for i in range(len(here))] == [there.name(i) for i in range(len(there))]
        assert all(torch.equal(here.image(i), there.image(i)) for i in range(len(there)))
        assert [here.data(i) for i in range(len(here))] == [
            (there.root / there.name(i)).read_bytes() for i in range(len(there))
        ]
    assert len(list(packed.glob("train-*.tar"))) > 3
    assert all(path.stat().st_size <= 30_000 for path in packed.glob("*.tar"))


def test_a_shard_holds_several_classes(packed: Path) -> None:
    """Readers that go through a shard from its beginning would otherwise see one class for a long time."""
    with tarfile.open(packed / "train-000000.tar") as tar:
        labels = {tar.extractfile(m).read() for m in tar if m.name.endswith(".cls")}
    assert len(labels) == 3


def test_the_tar_files_are_plain_ones_with_the_checksums_of_the_index(packed: Path) -> None:
    content = json.loads((packed / INDEX).read_text())
    members = 0
    for shard in content["shards"]:
        data = (packed / shard["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == shard["sha256"]
        assert len(data) == shard["bytes"]
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            names = tar.getnames()
        assert len(names) == 2 * shard["images"]
        members += len(names)
    assert members == 2 * 52


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it leaves files open
def test_webdataset_reads_them(photos: Path, packed: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    urls = sorted(map(str, packed.glob("train-*.tar")))
    pairs = sorted(
        (
            int(sample["__key__"]),
            int(sample["cls"]),
            next(v for k, v in sample.items() if k in ("jpg", "png")),
        )
        for sample in webdataset.WebDataset(urls, shardshuffle=False)
    )
    train = folder_sources(photos).train
    assert [(key, label) for key, label, _ in pairs] == list(enumerate(train.targets))
    assert [data for *_, data in pairs] == [(train.root / train.name(i)).read_bytes() for i in range(40)]


def test_reduced_images_are_pillows_and_small_ones_stay(tmp_path: Path) -> None:
    root = write_photos(tmp_path / "photos", 12, 6, side=40)
    coarse = Image.fromarray(np.random.default_rng(1).integers(0, 255, (6, 8, 3), np.uint8))
    big = coarse.resize((120, 90), Image.Resampling.BICUBIC)
    big.save(root / "train" / "class 0" / "big.png")
    assert (
        main(["shards", str(root), str(tmp_path / "out"), "--resize-shorter-side", "60", "--workers", "0"])
        == 0
    )
    train = shards(str(tmp_path / "out")).train
    names = [train.name(i) for i in range(len(train))]
    at = names.index("class 0/big.png")
    with Image.open(io.BytesIO(train.data(at))) as reduced:
        assert (reduced.format, reduced.size) == ("JPEG", (80, 60))
        # Another library's reduction, and JPEG's loss besides.
        other = big.resize((80, 60), Image.Resampling.BILINEAR)
        assert np.abs(np.asarray(reduced, float) - np.asarray(other, float)).mean() < 4
    for i, name in enumerate(names):
        if i != at:
            assert train.data(i) == (root / "train" / name).read_bytes()


def test_a_writer_that_was_stopped_goes_on_and_writes_the_same_bytes(
    photos: Path, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = folder_sources(photos)
    sources = {"train": splits.train, "val": splits.val}
    said: list[str] = []

    class Stop(Exception):
        pass

    replaced = 0
    real = os.replace

    def stopping(source: str, target: str) -> None:
        nonlocal replaced
        replaced += 1
        if replaced == 6:
            raise Stop
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stopping)
        with pytest.raises(Stop):
            write_shards(sources, tmp_path / "out", shard_bytes=30_000, say=said.append)
    left = sorted(path.name for path in (tmp_path / "out").glob("*.tar"))
    assert left == ["train-000000.tar", "train-000001.tar"]
    (tmp_path / "out" / ".train-000002.1-ab.tmp.tar").write_bytes(b"half a shard")
    times = [(tmp_path / "out" / name).stat().st_mtime_ns for name in left]
    with pytest.raises(ConfigError, match="other images or settings \\(shorter_side"):
        write_shards(sources, tmp_path / "out", shard_bytes=30_000, preparation=Preparation(30))
    write_shards(sources, tmp_path / "out", shard_bytes=30_000, workers=1, say=said.append)
    assert any("resuming behind 2 shards" in line for line in said)
    assert [(tmp_path / "out" / name).stat().st_mtime_ns for name in left] == times
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        path.name for path in packed.iterdir()
    )
    for path in packed.iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes(), path.name


def test_unreadable_images_are_left_out_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_photos(tmp_path / "photos", 12, 6)
    (root / "train" / "class 1" / "page.jpg").write_text("<html>not found</html>")
    assert main(["shards", str(root), str(tmp_path / "out"), "--workers", "0"]) == 1
    assert "left out: class 1/page.jpg: an HTML page" in capsys.readouterr().err
    assert len(shards(str(tmp_path / "out")).train) == 12


@pytest.mark.parametrize("place", ["file", "memory", "http"])
def test_any_address_gives_the_same(packed: Path, place: str) -> None:
    here = shards(str(packed))

    def same(address: str) -> None:
        there = shards(address)
        assert there.found == here.found
        there.train.fetch([3, 1, 3, 2])
        for i in (1, 2, 3, 3, 39):
            assert torch.equal(there.train.image(i), here.train.image(i))

    if place == "file":
        same(f"file://{packed}")
    elif place == "memory":
        fsspec = pytest.importorskip("fsspec")
        for path in packed.iterdir():
            fsspec.filesystem("memory").pipe(f"/shards/{path.name}", path.read_bytes())
        same("memory://shards")
    else:
        pytest.importorskip("aiohttp")
        with serving(packed) as (address, requests):
            same(address)
        assert all("bytes=" in line for line in requests if line.startswith("GET") and INDEX not in line)


def test_addresses_that_do_not_work_are_one_line(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("aiohttp")
    monkeypatch.setattr("sppcls.data.shards.storage._PAUSES", (0.01,))
    with pytest.raises(DataError, match=r"^http://127.0.0.1:9: cannot be reached \("):
        shards("http://127.0.0.1:9")
    with pytest.raises(DataError, match=r"nosuch://x: cannot be read \(Protocol not known: nosuch"):
        shards("nosuch://x")
    with (
        serving(tmp_path) as (address, _),
        pytest.raises(DataError, match=f"{address}: there is no index.json"),
    ):
        shards(address)
    with serving(packed, ranges=False) as (address, _), pytest.raises(DataError, match="must know ranges"):
        shards(address)


def test_broken_shards_are_named_before_work_and_their_images_while_it_goes_on(own: Path) -> None:
    whole = shards(str(own)).train
    path = own / "train-000001.tar"
    data = path.read_bytes()
    of_it = [i for i in range(40) if whole.shards[whole.records.shard[i]].file == path.name]
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(
        DataError, match=r"1 of \d+ shards are broken .*: train-000001.tar: [\d,]+ bytes instead of"
    ):
        shards(str(own))
    train = shards(str(own), check=False).train
    bad: dict[int, str] = {}
    for i in range(40):
        try:
            train.image(i)
        except ImageError as error:
            bad[i] = str(error)
    assert bad
    assert set(bad) < set(of_it)
    assert all("train-000001.tar: class" in e and "the shard is cut off" in e for e in bad.values())
    path.unlink()
    with pytest.raises(DataError, match=r"train-000001.tar: no such file"):
        shards(str(own))
    with pytest.raises(ImageError, match=r"train-000001.tar: class .*: no such file"):
        shards(str(own), check=False).train.image(of_it[0])


def test_a_flipped_bit_is_noticed(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = shards(str(own)).train
    file, offset, size = train._piece(7)
    data = bytearray((own / file).read_bytes())
    data[offset + size - 3] ^= 1
    (own / file).write_bytes(data)
    with pytest.raises(ImageError, match=rf"{file}: {train.name(7)}: damaged"):
        train.image(7)
    train.image(8)
    assert main(["shards", "--check", str(own)]) == 1
    assert f"broken: {own / file}: damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda c: c.update(format="other"), "no index of shards"),
        (lambda c: c.update(version=3), "version 3; this sppcls reads 1 and 2"),
        (lambda c: c.pop("classes"), "no 'classes'"),
        (lambda c: c["classes"].pop(), "has label 2, for 2 classes"),
        (lambda c: c["shards"].pop(), "images in shard"),
        (lambda c: c["shards"][0].update(file="../secret.tar"), "is not below its folder"),
        (lambda c: c["shards"][0].update(file="/etc/passwd"), "is not below its folder"),
        (lambda c: c["shards"][0].update(bytes=1000), "ends behind its shard"),
        (lambda c: c["shards"][0].update(bytes=2**70), "damaged"),
        (lambda c: c["splits"]["train"].update(images=41), "is not that of 41 images"),
        (lambda c: c["splits"]["train"].update(images=10**15), "images: 1000000000000000"),
        (lambda c: c["splits"]["train"].update(name=c["splits"]["val"]["name"]), "12 names for 40 images"),
        (lambda c: c["splits"].pop("train"), "no training images"),
        (lambda c: c["splits"]["train"].update(size="AAAA"), "damaged"),
    ],
)  # fmt: skip
def test_an_index_that_contradicts_itself_is_refused(own: Path, change, line: str) -> None:
    content = json.loads((own / INDEX).read_text())
    change(content)
    (own / INDEX).write_text(json.dumps(content))
    with pytest.raises(DataError) as caught:
        shards(str(own))
    assert line in str(caught.value)
    assert str(own / INDEX) in str(caught.value)


def test_a_small_index_cannot_fill_the_memory(own: Path) -> None:
    content = json.loads((own / INDEX).read_text())
    count, train = 1_000_000, content["splits"]["train"]
    for name, width in {"shard": 4, "offset": 8, "size": 4, "crc32": 4, "label": 4, "name": 1}.items():
        train[name] = base64.b64encode(zlib.compress(bytes(count * width), 9)).decode()
    train["images"] = count
    (own / INDEX).write_text(json.dumps(content))
    assert (own / INDEX).stat().st_size < 100_000
    with pytest.raises(DataError, match="damaged .images: 1000000"):
        shards(str(own))


# --- tar files of others


def add(tar: tarfile.TarFile, name: str, data: bytes, **kind: object) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in kind.items():
        setattr(info, key, value)
    tar.addfile(info, io.BytesIO(data))


def jpeg(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (9, 8, 3), np.uint8)).save(file, "JPEG")
    return file.getvalue()


def foreign(folder: Path, name: str, labels: list[str], first: int = 0) -> None:
    with tarfile.open(folder / name, "w", format=tarfile.PAX_FORMAT) as tar:
        add(tar, "./", b"", type=tarfile.DIRTYPE)
        for i, label in enumerate(labels, first):
            add(tar, f"./long/{'x' * 150}/ü{i}.cls", label.encode())
            add(tar, f"./long/{'x' * 150}/ü{i}.jpg", jpeg(i))
            add(tar, f"./long/{'x' * 150}/ü{i}.json", b"{}")


@pytest.mark.parametrize(
    ("labels", "line"),
    [
        ([[], [], []], "no image has a label"),
        ([["a"], ["b", " "], ["a"]], "1 images have no label, KEY.cls: '?1"),
    ],
)
def test_a_list_without_a_label_is_no_class(tmp_path: Path, labels: list[list[str]], line: str) -> None:
    with tarfile.open(tmp_path / "train-0.tar", "w") as tar:
        for i, found in enumerate(labels):
            add(tar, f"{i}.jpg", jpeg(i))
            add(tar, f"{i}.json", json.dumps({"labels": found}).encode())
    with pytest.raises(DataError, match=line):
        index_folder(tmp_path, say=lambda line: None)


def test_tar_files_of_others_get_an_index(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    foreign(tmp_path, "pets-train-00.tar", ["1", "0", "1"])
    foreign(tmp_path, "pets-train-01.tar", ["0"], 3)
    foreign(tmp_path, "pets-val-00.tar", ["1", "0"], 4)
    with pytest.raises(DataError, match="there is no index.json there; .*`sppcls shards --index FOLDER`"):
        shards(str(tmp_path))
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    assert main(["shards", "--index", str(tmp_path), "--classes", str(tmp_path / "names.txt")]) == 0
    found = shards(str(tmp_path))
    assert (found.train.classes, list(found.train.targets), list(found.val.targets)) == (
        ["cat", "dog"], [1, 0, 1, 0], [1, 0],
    )  # fmt: skip
    assert [found.train.data(i) for i in range(4)] == [jpeg(i) for i in range(4)]
    assert [found.val.data(i) for i in range(2)] == [jpeg(4), jpeg(5)]
    assert found.train.records.crc32.tolist() == [zlib.crc32(jpeg(i)) for i in range(4)]
    assert not found.held_out
    (tmp_path / "names.txt").unlink()
    assert main(["shards", "--index", str(tmp_path)]) == 0
    assert shards(str(tmp_path)).train.classes == ["cat", "dog"]  # which the tar files do not say
    capsys.readouterr()
    (tmp_path / "names.txt").write_text("cat\n")
    assert main(["shards", "--index", str(tmp_path), "--classes", str(tmp_path / "names.txt")]) == 1
    assert capsys.readouterr().err == f"sppcls: error: {tmp_path}: label '1', for 1 classes\n"


def test_other_pictures_of_a_sample_are_passed_over(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for i in range(10):
            add(tar, f"{i}.cls", str(i % 2).encode())
            add(tar, f"{i}.seg.png", jpeg(100 + i))
            add(tar, f"{i}.jpg", jpeg(i))
    assert main(["shards", "--index", str(tmp_path)]) == 0
    found = shards(str(tmp_path))
    there = [source.data(i) for source in (found.train, found.val) for i in range(len(source))]
    assert sorted(there) == sorted(jpeg(i) for i in range(10))


def test_without_a_split_some_are_held_out(tmp_path: Path) -> None:
    foreign(tmp_path, "000.tar", ["cat", "dog"] * 10)
    assert main(["shards", "--index", str(tmp_path), "--val-fraction", "0.3"]) == 0
    found = shards(str(tmp_path))
    assert found.held_out
    assert [list(found.val.targets).count(label) for label in (0, 1)] == [3, 3]
    names = [source.name(i) for source in found[:2] for i in range(len(source))]
    assert len(set(names)) == 20


def pickled(folder: Path) -> None:
    with tarfile.open(folder / "a.tar", "w") as tar:
        add(tar, "1.jpg", jpeg(1))
        add(tar, "1.pyd", b"cos\nsystem\n(S'touch hacked'\ntR.")


def linked(folder: Path) -> None:
    with tarfile.open(folder / "a.tar", "w") as tar:
        add(tar, "1.jpg", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(tar, "1.cls", b"0")
        add(tar, "2.jpg", b"", type=tarfile.LNKTYPE, linkname="/etc/passwd")


def unlabelled(folder: Path) -> None:
    with tarfile.open(folder / "a.tar", "w") as tar:
        add(tar, "../../1.jpg", jpeg(1))


def cut_off(folder: Path) -> None:
    foreign(folder, "a.tar", ["0", "1"])
    data = (folder / "a.tar").read_bytes()
    (folder / "a.tar").write_bytes(data[: data.rindex(b"\xff\xd9")])


def no_tar(folder: Path) -> None:
    (folder / "a.tar").write_bytes(b"no tar file at all" * 100)


def compressed(folder: Path) -> None:
    with tarfile.open(folder / "a.tar.gz", "w:gz") as tar:
        add(tar, "1.jpg", jpeg(1))


def twice(folder: Path) -> None:
    with tarfile.open(folder / "a.tar", "w") as tar:
        for _ in range(2):
            add(tar, "1.jpg", jpeg(1))
            add(tar, "1.cls", b"0")


def dotted(folder: Path) -> None:
    with tarfile.open(folder / "a.tar", "w") as tar:
        add(tar, "1.small.jpg", jpeg(1))
        add(tar, "1.cls", b"0")


def no_file(folder: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (pickled, "'1.pyd' is a pickle, which can run code"),
        (linked, "no image in train"),
        (unlabelled, "1 images have no label, KEY.cls: '../../1'"),
        (cut_off, "a.tar: cut off within"),
        (no_tar, "a.tar: damaged or cut off"),
        (compressed, "compressed"),
        (twice, "two members '1.jpg'"),
        (
            dotted,
            "1 labels have no image: one is KEY.jpg or of another kind, with no other dot, and '1.small.jpg' is not",
        ),
        (no_file, "there is no .tar file"),
    ],
)
def test_what_is_odd_in_a_tar_file_is_one_line(
    make, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path)
    assert main(["shards", "--index", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert line in error
    assert not (tmp_path / INDEX).exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["{photos}"], "FOLDER and OUT are needed"),
        (["{photos}", "{photos}"], "is the folder whose images are to be read; name a new folder"),
        (["{photos}", "{photos}/deep/er"], "whose images are to be read; name a new folder"),
        (["{photos}", "{photos}/.."], "is not empty"),
        (["{photos}/none", "out"], "no such file or folder"),
        (["{photos}", "out", "--size", "3"], "must be a size of at least 10kB"),
        (["{photos}", "out", "--quality", "101"], "a whole number from 1 to 100"),
        (["--index", "{photos}", "--check", "{photos}"], "each take one folder"),
        (["--check", "{photos}"], "there is no index.json there"),
    ],
)
def test_wrong_words_are_one_line(
    photos: Path, words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["shards", *(word.format(photos=photos) for word in words)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert line in error


def test_hidden_files_of_others_are_passed_over(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "train-0.tar", "w") as tar:
        for i in range(4):
            add(tar, f"photos/{i}.jpg", jpeg(i))
            add(tar, f"photos/._{i}.jpg", b"what macOS packs beside a file")
            add(tar, f"photos/{i}.cls", b"0")
        add(tar, "a/" * 50_000 + ".", b"")  # takes no time
    assert main(["shards", "--index", str(tmp_path), "--val-fraction", "0.5"]) == 0
    found = shards(str(tmp_path))
    assert sorted(s.name(i) for s in found[:2] for i in range(2)) == [f"photos/{i}" for i in range(4)]
