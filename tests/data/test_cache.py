"""A cache against the images it was made of: the same pixels, the same crops, and no file that is half of one."""

from __future__ import annotations

import csv
import os
import pickle
import shutil
import signal
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms.v2 import functional as V

from sppcls import compose, train
from sppcls.data.cache import ImageCache, cache_folders, open_cache
from sppcls.data.datamodule import ImageDataModule
from sppcls.data.dataset import ImageDataset, collate
from sppcls.data.files import FileSource
from sppcls.data.geometry import box_in_reduced, reduced_size, resized_size
from sppcls.data.sizes import make_schedule
from sppcls.data.transforms import EvalTransform, TrainTransform
from sppcls.errors import ConfigError, DataError, ImageError

REGION = (64, 64)
SHAPES = [(150, 200), (200, 130), (73, 73), (60, 90), (40, 45), (300, 70), (74, 400), (240, 240)]
BAD = 3


def photo(height, width, seed):
    """uint8 (H, W, 3), smooth as photos are, with some grain."""
    draw = np.random.default_rng(seed)
    coarse = Image.fromarray(draw.integers(0, 255, (6, 8, 3), np.uint8)).resize(
        (width, height), Image.BICUBIC
    )
    return (
        (np.asarray(coarse, np.int16) + draw.integers(-4, 5, (height, width, 1)))
        .clip(0, 255)
        .astype(np.uint8)
    )


def write_photos(folder):
    folder.mkdir(parents=True)
    for number, shape in enumerate(SHAPES):
        Image.fromarray(photo(*shape, number)).save(folder / f"{number}.jpg", quality=92)
    (folder / f"{BAD}.jpg").write_bytes((folder / f"{BAD}.jpg").read_bytes()[:300])


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos") / "all"
    write_photos(folder)
    return folder


def source_of(folder):
    names = sorted(path.name for path in folder.glob("*.jpg"))
    return FileSource(folder, names, [0] * len(names), ["a"])


def open_in(folder, source, transform, **options):
    said = []
    cache = open_cache(source, transform, [folder], "folder/train", say=said.append, **options)
    return cache, said


# --- the same images


@pytest.mark.parametrize("workers", [0, 2])
def test_stored_are_the_images_resized_once(photos, tmp_path, workers):
    source, transform = source_of(photos), TrainTransform(REGION)
    cache, _ = open_in(tmp_path, source, transform, workers=workers)
    assert cache.unreadable == 1
    for index in reversed(range(len(SHAPES))):
        if index == BAD:
            continue
        image, size = cache.read(index)
        whole = source.image(index)
        assert size == SHAPES[index]
        if min(size) > 73:  # 64 * 256 / 224
            scale = 73 / min(size)
            whole = V.resize(whole, [round(size[0] * scale), round(size[1] * scale)], antialias=True)
        assert torch.equal(image, whole), SHAPES[index]


@pytest.mark.parametrize("crop", ["five", "anywhere", "center"])
def test_regions_are_those_of_the_whole_resized_image(photos, tmp_path, crop):
    """Exactly what `cut` stands for: resize the whole image, then cut; and the same place, mirror and lighting as
    without a cache."""
    source, transform = source_of(photos), TrainTransform(REGION, crop=crop)
    cache, _ = open_in(tmp_path, source, transform)
    plain, cached = ImageDataset(source, transform, 5), ImageDataset(source, transform, 5, cache)
    for index in set(range(len(SHAPES))) - {BAD}:
        for number in range(4):
            key = (0, 0, number, index)
            a, b = plain[key], cached[key]
            assert torch.equal(a.lighting, b.lighting)
            if min(SHAPES[index]) <= 73:
                assert torch.equal(a.image, b.image)
                continue
            # `cut` resizes a part, and may be half a pixel off; another place or mirror would be far more.
            difference = (a.image.float() - b.image.float()).abs().mean()
            assert difference < 1.5, (SHAPES[index], number, difference)
            assert (a.image.float() - b.image.flip(-1).float()).abs().mean() > 3 * max(difference, 1)


def test_regions_of_a_reduced_image_are_cuts_of_it(photos, tmp_path):
    source, transform = source_of(photos), TrainTransform(REGION, crop="anywhere", flip=False)
    cache, _ = open_in(tmp_path, source, transform)
    whole = V.resize(source.image(0), [73, 97], antialias=True)
    cuts = whole.unfold(1, 64, 1).unfold(2, 64, 1).permute(1, 2, 0, 3, 4).flatten(0, 1)
    places = set()
    for seed in range(30):
        got = transform(*cache.read(0)[:1], seed, SHAPES[0])[0]
        places |= {int(place) for place in (cuts == got).flatten(1).all(1).nonzero()}
    assert len(places) > 15


def test_validation_is_the_same_bit_for_bit(photos, tmp_path):
    source, transform = source_of(photos), EvalTransform((96, 64))
    cache, _ = open_in(tmp_path, source, transform)
    plain, cached = ImageDataset(source, transform, 0), ImageDataset(source, transform, 0, cache)
    for index in range(len(SHAPES)):
        a, b = plain[index], cached[index]
        assert a.bad == b.bad
        assert index == BAD or torch.equal(a.image, b.image)


def test_resized_boxes_lose_no_detail_by_default_and_the_places_stay(photos, tmp_path):
    source = source_of(photos)
    default = TrainTransform(REGION, crop="resized", scale=(0.25, 1))
    assert default.cache_side == 128  # half of it is the region
    small = TrainTransform(REGION, crop="resized", scale=(0.25, 1), cache_side=80)
    for transform, most in ((default, 2.0), (small, 6.0)):
        cache, _ = open_in(tmp_path, source, transform)
        plain, cached = ImageDataset(source, transform, 5), ImageDataset(source, transform, 5, cache)
        for index in set(range(len(SHAPES))) - {BAD}:
            for number in range(4):
                a, b = plain[0, 0, number, index].image, cached[0, 0, number, index].image
                if min(SHAPES[index]) <= transform.cache_side:
                    assert torch.equal(a, b)
                assert (a.float() - b.float()).abs().mean() < most


@given(height=st.integers(1, 900), width=st.integers(1, 900), side=st.integers(60, 300),
       region=st.sampled_from([(48, 48), (60, 40), (40, 60)]))  # fmt: skip
@settings(deadline=None, max_examples=200)
def test_a_reduced_image_is_not_reduced_again(height, width, side, region):
    reduced = reduced_size(height, width, side, region)
    whole = resized_size(height, width, side, region)
    assert resized_size(*reduced, side, region) == whole
    assert reduced in (whole, (height, width))
    assert reduced[0] <= height
    assert reduced[1] <= width


@given(st.data())
@settings(deadline=None, max_examples=200)
def test_boxes_stay_inside_a_reduced_image(data):
    height, width = data.draw(st.integers(1, 500)), data.draw(st.integers(1, 500))
    reduced = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    box = top, left, data.draw(st.integers(1, height - top)), data.draw(st.integers(1, width - left))
    y, x, h, w = box_in_reduced(box, (height, width), reduced)
    assert 0 <= y <= reduced[0] - h
    assert 0 <= x <= reduced[1] - w
    assert min(h, w) >= 1
    assert abs(y / reduced[0] - top / height) <= 1 / reduced[0]
    # Half a pixel of rounding, and a whole one where less than one would be left.
    assert abs((x + w) / reduced[1] - (left + box[3]) / width) <= 1.5 / reduced[1]
    assert box_in_reduced(box, (height, width), (height, width)) == box


def test_a_bad_image_is_named_as_without_a_cache(photos, tmp_path):
    source = source_of(photos)
    cache, _ = open_in(tmp_path, source, TrainTransform(REGION))
    with pytest.raises(ImageError) as plain:
        source.image(BAD)
    with pytest.raises(ImageError) as cached:
        cache.read(BAD)
    assert str(cached.value) == str(plain.value)


def test_a_cache_survives_pickling(photos, tmp_path):
    cache, _ = open_in(tmp_path, source_of(photos), TrainTransform(REGION))
    assert torch.equal(pickle.loads(pickle.dumps(cache)).read(1)[0], cache.read(1)[0])


def test_a_pickled_cache_does_not_read_what_took_its_place(tmp_path):
    write_photos(tmp_path / "all")
    place, transform = tmp_path / "cache", TrainTransform(REGION)
    cache, _ = open_in(place, source_of(tmp_path / "all"), transform)
    pickled = pickle.dumps(cache)
    Image.fromarray(photo(*SHAPES[0], 99)).save(tmp_path / "all" / "0.jpg", quality=92)
    open_in(place, source_of(tmp_path / "all"), transform)
    again = pickle.loads(pickled)
    with pytest.raises(DataError) as error:
        again.read(1)
    assert str(error.value) == (
        f"data.cache=disk: {cache.path}: made of other images than those of this run; start again, and it is built anew"
    )
    cache.path.write_bytes(b"x" * 1000)
    with pytest.raises(DataError, match=rf"^data.cache=disk: {cache.path}: damaged; remove it$"):
        pickle.loads(pickled).read(1)
    cache.path.unlink()
    with pytest.raises(DataError, match=rf"^data.cache=disk: {cache.path}: cannot be read \(No such file"):
        pickle.loads(pickled).read(1)


def test_a_cache_that_is_cut_is_no_bad_image(photos, tmp_path):
    source, transform = source_of(photos), TrainTransform(REGION)
    cache, _ = open_in(tmp_path, source, transform)
    dataset = ImageDataset(source, transform, 5, cache)
    os.truncate(cache.path, int(cache._opened.begins[-1]))
    batch = collate([dataset[0, 0, 0, index] for index in range(len(SHAPES))])
    assert [line.split(":")[0] for line in batch.bad] == [str(photos / f"{BAD}.jpg")]
    assert batch.fault == f"data.cache=disk: {cache.path}: cut short since it was opened; remove it"
    assert collate([dataset[0, 0, 0, 0]]).fault == ""


@pytest.mark.parametrize("workers", [0, 1])
def test_a_cache_that_is_cut_ends_the_run_in_one_line(photos, tmp_path, workers):
    source, train_transform, eval_transform = source_of(photos), TrainTransform(REGION), EvalTransform(REGION)
    cache, _ = open_in(tmp_path, source, eval_transform)
    module = ImageDataModule(
        source, source, make_schedule("single", [64], seed=0, epochs=1), batch_size=4, workers=workers,
        train_transform=train_transform, eval_transform=eval_transform, caches=(None, cache),
    )  # fmt: skip
    os.truncate(cache.path, 100)
    batch = next(iter(module.val_dataloader()))
    with pytest.raises(DataError) as error:
        module.on_before_batch_transfer(batch, 0)
    assert str(error.value) == f"data.cache=disk: {cache.path}: cut short since it was opened; remove it"


# --- built once, and again when need be


def test_built_once_and_again_when_an_image_changes(tmp_path):
    write_photos(tmp_path / "all")
    place, transform = tmp_path / "cache", TrainTransform(REGION)
    _, said = open_in(place, source_of(tmp_path / "all"), transform)
    assert len(said) == 1
    files = sorted(place.glob("train-*.images"))
    cache, said = open_in(place, source_of(tmp_path / "all"), transform)
    assert said == []
    before = cache.read(0)[0]
    Image.fromarray(photo(*SHAPES[0], 99)).save(tmp_path / "all" / "0.jpg", quality=92)
    again, said = open_in(place, source_of(tmp_path / "all"), transform)
    assert len(said) == 1
    assert sorted(place.glob("train-*.images")) == files  # the old one is replaced ...
    assert not torch.equal(again.read(0)[0], before)
    assert torch.equal(cache.read(0)[0], before)  # ... and whoever reads it goes on reading
    (tmp_path / "all" / "7.jpg").unlink()
    _, said = open_in(place, source_of(tmp_path / "all"), transform)
    assert len(said) == 1
    assert sorted(place.glob("train-*.images")) == files


def test_another_shorter_side_is_another_cache(photos, tmp_path):
    open_in(tmp_path, source_of(photos), TrainTransform(REGION))
    _, said = open_in(tmp_path, source_of(photos), TrainTransform(REGION, shorter_side=100))
    assert len(said) == 1
    assert len(list(tmp_path.glob("train-*.images"))) == 2


FOOTER = 36
INDEX = 16 * len(SHAPES)


def signed(rows, start, made_of, mark=b"sppcls 2"):
    """An index and its footer as another program would write them, with a checksum that fits."""
    tail = mark + struct.pack("<Q", start) + made_of
    return rows + tail + struct.pack("<I", zlib.crc32(rows + tail + bytes(4)))


def row_changed(content, column, value):
    start = len(content) - FOOTER - INDEX
    rows = np.frombuffer(content[start:-FOOTER], "<i4").reshape(-1, 4).copy()
    rows[0, column] = value
    return content[:start] + signed(rows.tobytes(), start, content[-20:-4])


DAMAGES = {
    "cut": lambda content: content[:-50],
    "other": lambda content: b"x" * 1000,
    "empty": lambda content: b"",
    "zeros": lambda content: bytes(len(content) - FOOTER) + content[-FOOTER:],
    "tail only": lambda content: content[-FOOTER:],
    "negative": lambda content: row_changed(content, 2, -1),
    "other lengths": lambda content: row_changed(content, 0, 5),
    "version before": lambda content: content[:-FOOTER] + b"sppcls 1" + content[-28:],
    "no images": lambda content: signed(b"", 0, content[-20:-4]),
    "one image": lambda content: bytes(3) + signed(struct.pack("<4i", 1, 1, 1, 1), 3, content[-20:-4]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_is_no_cache_is_built_anew(photos, tmp_path, damage):
    cache, _ = open_in(tmp_path, source_of(photos), TrainTransform(REGION))
    content = cache.path.read_bytes()
    cache.path.write_bytes(DAMAGES[damage](content))
    again, said = open_in(tmp_path, source_of(photos), TrainTransform(REGION))
    assert len(said) == 1
    assert again.path.read_bytes() == content
    assert (
        row_changed(content, 2, SHAPES[0][0]) == content
    )  # what this test writes is refused for what it says


def test_any_flipped_bit_of_the_index_is_noticed(photos, tmp_path):
    source, transform = source_of(photos), TrainTransform(REGION)
    path = open_in(tmp_path, source, transform)[0].path
    content = path.read_bytes()
    made_of = content[-20:-4]
    assert ImageCache(path, source, transform, made_of)
    file = os.open(path, os.O_WRONLY)
    for place in range(len(content) - FOOTER - INDEX, len(content)):
        for bit in range(8):
            os.pwrite(file, bytes([content[place] ^ 1 << bit]), place)
            with pytest.raises(DataError, match="damaged"):
                ImageCache(path, source, transform, made_of)
        os.pwrite(file, content[place : place + 1], place)
    os.close(file)
    assert ImageCache(path, source, transform, made_of)


BUILD = """
import sys, time
from pathlib import Path
from sppcls.data.cache import open_cache
from sppcls.data.files import FileSource
from sppcls.data.transforms import TrainTransform
names = sorted(path.name for path in Path(sys.argv[1]).glob("*.jpg"))
source = FileSource(sys.argv[1], names, [0] * len(names), ["a"])
image = source.image
def slowly(index):
    time.sleep(0.2)
    return image(index)
source.image = slowly
print("ready", flush=True)
sys.stdin.readline()
cache = open_cache(source, TrainTransform((64, 64)), [Path(sys.argv[2])], "folder/train",
                   say=lambda line: print(line, flush=True))
print("bytes", cache.bytes, flush=True)
"""


@pytest.fixture
def builder(photos, loaded):
    """Start processes that build a slow cache once they are told to, by the end of what they read."""
    started = []

    def start(place):
        reads, tells = os.pipe()
        process = loaded.start(["-c", BUILD, photos, place], stdin=reads)
        os.close(reads)
        started.append(process)
        return process, tells

    yield start
    for process in started:
        process.close()


@pytest.mark.run
def test_two_at_once_one_builds_and_a_killed_build_is_no_cache(builder, tmp_path):
    processes = [builder(tmp_path) for _ in range(3)]
    for process, _ in processes:
        assert process.stdout.readline() == "ready\n"
    killed, tells = processes.pop()
    os.close(tells)
    assert killed.stdout.readline().startswith("Building the image cache")
    while not list(tmp_path.glob(".*.tmp.images")):
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not list(tmp_path.glob("train-*.images"))
    for _, tells in processes:
        os.close(tells)
    said = [process.communicate(timeout=120)[0] for process, _ in processes]
    assert sorted("Building" in lines for lines in said) == [False, True]
    assert sum("Waiting for another process" in lines for lines in said) == 1
    assert len({lines.splitlines()[-1] for lines in said}) == 1
    assert [path.suffix for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == [".images"]


@pytest.mark.run
def test_too_little_room_is_said_before_and_while_building(photos, loaded, tmp_path, monkeypatch):
    source, transform = source_of(photos), TrainTransform(REGION)
    room = shutil._ntuple_diskusage(10**9, 10**9 - 100_000, 100_000)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: room)
        with pytest.raises(ConfigError) as error:
            open_in(tmp_path, source, transform)
    readable = [shape for index, shape in enumerate(SHAPES) if index != BAD]
    scales = [min(1, 73 / min(shape)) for shape in readable]
    stored = [3 * round(h * s) * round(w * s) for (h, w), s in zip(readable, scales, strict=True)]
    estimate = sum(stored) / len(stored) * len(SHAPES) / 1e6
    assert f"{tmp_path}: about {estimate:.1f} MB are needed and 0.1 MB are free; set data.cache_dir" in str(
        error.value
    )
    # A limit on the size of files, as a full disk would.
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
    ) + BUILD.replace("    time.sleep(0.2)\n", "")
    done = loaded.run(["-c", code, photos, tmp_path])
    last = done.stderr.strip().splitlines()[-1]
    assert "ConfigError: data.cache=disk:" in last
    assert "cannot be written (File too large)" in last
    assert not list(tmp_path.glob("train-*.images"))
    assert not list(tmp_path.glob(".*.tmp.images"))
    assert open_in(tmp_path, source, transform)[0].unreadable == 1


def test_where_it_lies(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert cache_folders("x", tmp_path) == [Path("x")]
    assert cache_folders(None, tmp_path) == [tmp_path / ".sppcls-cache"]
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    assert cache_folders(None, tmp_path) == [tmp_path / ".sppcls-cache", tmp_path / "home" / "sppcls"]


# --- in a run


@pytest.fixture(scope="module")
def class_folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for number in range(60):
        folder = root / f"class{number % 2}"
        folder.mkdir(exist_ok=True)
        Image.fromarray(photo(100 + number, 130, number)).save(folder / f"{number}.jpg")
    (root / "class0" / "0.jpg").write_bytes(b"\xff\xd8 no jpeg")
    return root


def test_a_run_with_a_cache_is_the_run_without_where_nothing_is_reduced(class_folders, tiny, capfd):
    words = tiny("data=folder", f"data.root={class_folders}", "data.check=false", "augment.shorter_side=160",
                 "data.batch_size=8", "augment.crop=anywhere")  # fmt: skip
    figures = []
    for more in ([], ["data.cache=disk"], ["data.cache=disk", "data.workers=2"]):
        result = train(compose([*words, *more]))
        with open(Path(result["folder"]) / "metrics.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        figures.append(
            [{k: v for k, v in row.items() if "second" not in k and k != "images_per_s"} for row in rows]
        )
    assert figures[0] == figures[1] == figures[2]
    output = capfd.readouterr().out
    assert output.count("Building the image cache") == 2  # training and validation images, once
    assert "1 unreadable images" in output
    assert len(list((class_folders / ".sppcls-cache").glob("[!.]*.images"))) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.cache=disk"], "data.cache=disk: data=shapes has no image files; type data.cache=none"),
        (["data.cache_dir=x"], "data.cache_dir=x: there is no cache; add data.cache=disk"),
        (["data=folder", "data.root=x", "data.cache=disk", "data.cache_shorter_side=300"],
         "data.cache_shorter_side=300: only for augment.crop=resized (add augment=resized); with crop=five the images are reduced to the "
         "side that it cuts from"),
        (["data=folder", "data.root=x", "data.cache=disk", "data.cache_shorter_side=200", "augment=resized"],
         "data.cache_shorter_side=200: must be at least the region's 224; type data.cache_shorter_side=224"),
        (["data.cache=ram"], "data.cache=ram: choose from none, disk"),
    ],
)  # fmt: skip
def test_impossible_keys(words, message):
    with pytest.raises(ConfigError) as error:
        compose(words)
    assert str(error.value) == message
