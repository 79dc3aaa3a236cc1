"""``sppcls predict``: against a plain loop over the images, and as a user meets it in a shell."""

from __future__ import annotations

import csv
import gc
import io
import json
import os
import random
import resource
import signal
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import Loaded, Program
from PIL import Image
from torchvision.transforms.v2 import functional as F

from sppcls import load_classifier
from sppcls.cli.main import main
from sppcls.errors import ConfigError, DataError
from sppcls.inference.predict import Prediction, predict
from sppcls.inference.predict_text import as_csv, as_json, as_table
from sppcls.nn import LevelLargerThanMapWarning, SPPClassifier, build_classifier
from sppcls.runs.checkpoint import make_model_info

ROOT = Path(__file__).resolve().parent.parent.parent
CLASSES = ["red", "green", "blue", "grey", "花, \"cut\"", "other"]  # fmt: skip
MEAN, STD = [0.48, 0.46, 0.40], [0.25, 0.24, 0.26]


def save_checkpoint(path: Path, levels: list[int] | None, size: int = 56) -> Path:
    """A small network with weights so large that its answers differ clearly from image to image."""
    architecture = {
        "backbone": {"name": "zf5", "width": 0.0625, "norm": "batch"},
        "pyramid": {"levels": levels},
        "head": {"name": "fc", "hidden": [16], "dropout": 0.5},
        "num_classes": len(CLASSES),
        "input_size": [size, size],
        "init": "modern",
    }
    torch.manual_seed(1)
    net = build_classifier(**{**architecture, "input_size": (size, size)})
    with torch.no_grad():
        *_, weight, _ = net.head.parameters()
        weight.mul_(20)
    model_info = make_model_info(
        architecture=architecture, classes=CLASSES, mean=MEAN, std=STD, train_sizes=[(size, size), (48, 48)],
        val_sizes=[(size, size), (48, 48)], config={},
    )  # fmt: skip
    state = {f"net.{name}": value for name, value in net.state_dict().items()}
    torch.save({"sppcls": model_info, "state_dict": state}, path)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("spp") / "best.ckpt", [3, 2, 1])


@pytest.fixture(scope="module")
def net(checkpoint: Path) -> SPPClassifier:
    return load_classifier(checkpoint)


@pytest.fixture(scope="module")
def no_pyramid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("plain") / "best.ckpt", None)


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Soft blobs of colour."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


SHAPES = [(70, 50), (50, 70), (64, 64), (200, 60), (70, 50), (90, 131), (64, 64), (33, 300), (640, 480)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 images of 7 shapes, in shuffled order, some in a folder below."""
    place = tmp_path_factory.mktemp("images")
    (place / "more").mkdir()
    shapes = SHAPES * 4
    random.Random(3).shuffle(shapes)
    for i, (width, height) in enumerate(shapes):
        picture(width, height, i).save(place / ("more" if i % 5 == 0 else "") / f"{i:02d}.png")
    return place


def by_hand(net: SPPClassifier, image: Image.Image, shorter_side: int | None) -> torch.Tensor:
    """Probabilities of one image, as one would write it down."""
    pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    if shorter_side is not None:
        scale = shorter_side / min(image.size)
        pixels = F.resize(pixels, [round(image.height * scale), round(image.width * scale)], antialias=True)
    x = (pixels / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", LevelLargerThanMapWarning)
        return net(x[None])[0].softmax(0)


def same(got: list[Prediction], expected: list[Prediction]) -> bool:
    by_path = {p.path: p for p in got}
    assert len(by_path) == len(got) == len(expected)
    return all(
        by_path[p.path].error == p.error
        and by_path[p.path].classes == p.classes
        and np.allclose(by_path[p.path].probabilities, p.probabilities, rtol=0, atol=1e-5)
        for p in expected
    )


# -- what comes out ----------------------------------------------------------------------------------------------------


# 256 of 224 is 64 of 56, the size that the checkpoint was validated at first.
@pytest.mark.parametrize(("asked", "side"), [(None, 64), (40, 40), ("native", None)])
def test_the_answers_are_those_of_a_plain_loop(net: SPPClassifier, folder: Path, asked, side) -> None:
    got = list(predict(net, folder, top=3, shorter_side=asked))
    assert [p.path for p in got] == sorted(folder.rglob("*.png"), key=lambda p: str(p.relative_to(folder)))
    answers = set()
    for p in got:
        expected = by_hand(net, Image.open(p.path), side)
        values, order = expected.topk(3)
        assert p.error is None
        assert list(p.classes) == [CLASSES[i] for i in order]
        assert np.allclose(p.probabilities, values, rtol=0, atol=1e-5)
        answers.add(p.classes)
    assert len(answers) >= 4  # a network that answers the same to everything would prove nothing


def test_neither_batch_nor_workers_nor_order_matter(net: SPPClassifier, folder: Path) -> None:
    files = sorted(folder.rglob("*.png"))
    expected = list(predict(net, files, top=6, batch_size=1))
    for batch_size, workers in [(3, 0), (1000, 2), (32, 1)]:
        got = list(predict(net, files, top=6, batch_size=batch_size, workers=workers))
        assert [p.path for p in got] == files
        assert same(got, expected)
    random.Random(0).shuffle(files)
    got = list(predict(net, [*files[:9], str(files[9]), *files[10:]], top=6))
    assert [p.path for p in got] == files
    assert same(got, expected)


def test_a_network_of_one_size_sees_the_centre(no_pyramid: Path, tmp_path: Path) -> None:
    net = load_classifier(no_pyramid)
    assert net.fixed_size == (56, 56)
    image = picture(80, 64)  # its shorter side is 64 already: the centre is cut, nothing resized
    image.save(tmp_path / "wide.png")
    (p,) = predict(net, [tmp_path / "wide.png"], top=6)
    expected = by_hand(net, image.crop((12, 4, 68, 60)), None)
    assert np.allclose(p.probabilities, expected.sort(descending=True)[0], rtol=0, atol=1e-5)
    with pytest.raises(ConfigError, match="shorter side 64: this network has no pyramid"):
        predict(net, [tmp_path / "wide.png"], shorter_side=64)


def test_results_come_while_the_rest_is_still_to_be_read(net: SPPClassifier, tmp_path: Path) -> None:
    data = io.BytesIO()
    picture(60, 50).save(data, "PNG")
    for i in range(64):
        (tmp_path / f"{i:02d}.png").write_bytes(data.getvalue())
    os.mkfifo(tmp_path / "pipe.png")  # whoever reads this waits until somebody writes it
    for workers in (0, 2):
        results = predict(net, tmp_path, workers=workers)
        first = [next(results).path.name for _ in range(32)]
        assert first == [f"{i:02d}.png" for i in range(32)]
        writer = threading.Thread(target=(tmp_path / "pipe.png").write_bytes, args=(data.getvalue(),))
        writer.start()
        rest = list(results)
        writer.join()
        assert len(rest) == 33
        assert rest[-1].path.name == "pipe.png"
        assert rest[-1].classes == rest[0].classes


def test_few_open_files_are_enough(net: SPPClassifier, tmp_path: Path) -> None:
    for i in range(120):
        picture(40 + i, 40, i).save(tmp_path / f"{i}.bmp")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = len(os.listdir("/dev/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 40, hard))
    try:
        got = list(predict(net, tmp_path, workers=2))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [p.error for p in got] == [None] * 120


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from /proc")
def test_one_huge_photo(net: SPPClassifier, tmp_path: Path) -> None:
    picture(12_000, 8_000).save(tmp_path / "huge.jpg", quality=60)  # 275 MiB of RGB

    def peak(name: str) -> float:
        """MiB of memory that classifying took at most."""
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
        before = memory("VmRSS")
        (p,) = predict(net, tmp_path / name)
        assert p.error is None
        return memory("VmHWM") - before

    picture(120, 80).save(tmp_path / "small.jpg")
    assert peak("small.jpg") < 60
    assert 250 < peak("huge.jpg") < 2 * 275


def memory(what: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) / 1024


# -- bad and odd images ------------------------------------------------------------------------------------------------


def png_header(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    end = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + end


def odd_kinds(place: Path) -> dict[str, Image.Image]:
    """Files of every kind, with the RGB image that each is."""
    plain = picture(90, 60, 7)
    grey = plain.convert("L")
    palette = plain.quantize(64)
    wide = np.asarray(grey).astype(np.uint16) * 257
    cut_out = plain.convert("RGBA")
    cut_out.paste((0, 0, 0, 0), (20, 20, 60, 50))
    on_white = plain.copy()
    on_white.paste((255, 255, 255), (20, 20, 60, 50))
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its left side: to be turned clockwise
    cmyk = plain.convert("CMYK")

    plain.save(place / "plain.png")
    grey.save(place / "grey.png")
    palette.save(place / "palette.png")
    Image.fromarray(wide).save(place / "sixteen.png")
    cut_out.save(place / "alpha.png")
    plain.transpose(Image.Transpose.ROTATE_90).save(place / "turned.png", exif=exif)
    cmyk.save(place / "cmyk.tif")
    plain.save(place / "two words, \"quoted\".png")  # fmt: skip
    plain.save(place / "写真 é.png")
    plain.save(place / "new\nline.png")
    plain.save(place / "carriage\rreturn.png")
    plain.save(os.fsencode(place) + b"/\xff.png")
    return {
        "plain.png": plain, "grey.png": grey, "palette.png": palette, "sixteen.png": grey, "alpha.png": on_white,
        "turned.png": plain, "cmyk.tif": cmyk.convert("RGB"), 'two words, "quoted".png': plain,
        "写真 é.png": plain, "new\nline.png": plain, "carriage\rreturn.png": plain, os.fsdecode(b"\xff.png"): plain,
    }  # fmt: skip


def bad_kinds(place: Path) -> dict[str, str]:
    """Files that cannot be classified, with the reason."""
    data = io.BytesIO()
    picture(90, 60).save(data, "JPEG")
    for name, content in {
        "empty.png": b"",
        "cut.jpg": data.getvalue()[:-700],
        "bomb.png": png_header(60_000, 60_000),
        "text.jpg": b"these are words",
        "bad\nname.gif": b"GIF",
    }.items():
        (place / name).write_bytes(content)
    # Enlarged to the most pixels that are allowed, it is still thinner than the network can take.
    Image.new("RGB", (60_000, 1), "red").save(place / "strip.png")
    return {
        "empty.png": "empty file",
        "cut.jpg": "damaged image",
        "bomb.png": "pixels",
        "text.jpg": "not an image",
        "bad\nname.gif": "not an image",
        "strip.png": "too elongated: resized to 12x709",
    }


def shown(name: str) -> str:
    """A path as JSON and CSV have it."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def test_every_kind_of_image(
    net: SPPClassifier, checkpoint: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    (tmp_path / "odd").mkdir()
    monkeypatch.chdir(tmp_path)
    good, bad = odd_kinds(Path("odd")), bad_kinds(Path("odd"))
    words = ["predict", str(checkpoint), "odd", "--top", "2", "--workers", "0"]

    found = {p.path.name: p for p in predict(net, "odd", top=6)}
    assert found.keys() == good.keys() | bad.keys()
    for name, image in good.items():
        values, order = by_hand(net, image, 64).sort(descending=True)
        assert found[name].error is None, name
        assert found[name].classes == tuple(CLASSES[i] for i in order), name
        assert np.allclose(found[name].probabilities, values, rtol=0, atol=1e-5), name
    for name, reason in bad.items():
        assert (found[name].classes, found[name].probabilities) == ((), ())
        assert reason in (found[name].error or "")
        assert name not in (found[name].error or "")

    assert main([*words, "--format", "json"]) == 1
    output, errors = capsys.readouterr()
    rows = json.loads(output)
    assert [row["path"] for row in rows] == [shown(f"odd/{name}") for name in found]
    for row, p in zip(rows, found.values(), strict=True):
        assert row["error"] == p.error
        assert [part["class"] for part in row["predictions"]] == list(p.classes[:2])
        assert np.allclose(
            [part["probability"] for part in row["predictions"]], p.probabilities[:2], atol=1e-6
        )
    lines = errors.splitlines()
    assert len(lines) == len(bad) + 1
    assert lines[-1] == f"sppcls: {len(bad)} of {len(good) + len(bad)} images could not be classified"
    for name in bad:
        printed = name.replace("\n", "\\n")
        assert sum(line.startswith(f"sppcls: odd/{printed}: ") for line in lines) == 1

    assert main([*words, "--format", "csv", "--out", "odd.csv"]) == 1
    assert capsys.readouterr().out == ""
    with open("odd.csv", newline="", encoding="utf-8") as file:
        header, *table = csv.reader(file)
    assert header == ["path", "class1", "probability1", "class2", "probability2", "error"]
    assert [row[0] for row in table] == [row["path"] for row in rows]
    for cells, row in zip(table, rows, strict=True):
        pairs = [value for part in row["predictions"] for value in (part["class"], str(part["probability"]))]
        assert cells[1:5] == (pairs or [""] * 4)
        assert cells[5] == (row["error"] or "")

    assert main(words) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(rows)
    assert sum(line.endswith("not classified") for line in lines) == len(bad)
    assert (
        sum(
            line.startswith((r"odd/new\nline.png  ", r"odd/carriage\rreturn", r"odd/\xff.png "))
            for line in lines
        )
        == 3
    )
    assert sum("写真 é.png" in line for line in lines) == 1


def test_tiny_images_at_their_own_size(net: SPPClassifier, tmp_path: Path) -> None:
    least = net.min_input_size
    for side in (least - 1, least, 1):
        picture(100, side).save(tmp_path / f"{side:03d}.png")
    got = {p.path.name: p.error for p in predict(net, tmp_path, shorter_side="native")}
    assert got[f"{least:03d}.png"] is None
    for side in (1, least - 1):
        assert (
            got[f"{side:03d}.png"]
            == f"too small: {side}x100 for the network, which takes {least}x{least} at least"
        )
    # Enlarged, all of them can be classified.
    assert [p.error for p in predict(net, tmp_path)] == [None] * 3


def test_a_network_that_diverged_gives_errors_not_nan(checkpoint: Path, folder: Path) -> None:
    net = load_classifier(checkpoint)
    with torch.no_grad():
        next(net.head.parameters()).fill_(float("nan"))
    errors = [p.error or "" for p in predict(net, folder)]
    assert len(errors) == 36
    assert all("not finite" in error for error in errors)


def test_what_does_not_fit_into_memory_is_tried_in_smaller_batches(checkpoint: Path, tmp_path: Path) -> None:
    for i in range(5):
        picture(64, 64, i).save(tmp_path / f"{i}.png")
    picture(640, 64).save(tmp_path / "wide.png")
    net = load_classifier(checkpoint)
    expected = list(predict(net, tmp_path))
    sizes = []

    def limit(_: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:  # as of a small GPU
        if not inputs[0].is_meta and inputs[0][:, 0].numel() > 2 * 64 * 64:
            sizes.append(len(inputs[0]))
            raise torch.OutOfMemoryError

    net.backbone.register_forward_pre_hook(limit)
    *narrow, wide = predict(net, tmp_path)
    assert same(narrow, expected[:5])
    assert wide.error == "too large: 64x640 for the network, beyond the memory of the device"
    assert sizes == [5, 3, 1]


# -- mistakes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{ckpt}"], "IMAGE|FOLDER: missing"),
        (["nothing.ckpt", "{folder}"], "nothing.ckpt: no such checkpoint"),
        (["{ckpt}", "nothing.jpg"], "nothing.jpg: no such file or folder"),
        (["{ckpt}", "{folder}", "--top", "0"], "--top 0: must be a whole number of at least 1"),
        (["{ckpt}", "{folder}", "--shorter-side", "5"], "shorter side 5: this network takes 23 to 2896 pixels"),
        (["{ckpt}", "{folder}", "--shorter-side", "9000"], "shorter side 9000: this network takes 23 to 2896"),
        (["{ckpt}", "{folder}", "--shorter-side", "big"], "big: must be a whole number of at least 1, or native"),
        (["{plain}", "{folder}", "--shorter-side", "native"], "central 56x56 of an image only"),
        (["{ckpt}", "{folder}", "--device", "abacus"], "--device abacus: choose from auto, cpu"),
        (["{ckpt}", "{folder}", "--format", "xml"], "--format xml: choose from table, json, csv"),
        (["{ckpt}", "{folder}", "--out", "{ckpt}"], "exists already; name another file, or add --overwrite"),
        (["{ckpt}", "{folder}", "--out", "no/where.csv"], "there is no folder no"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_before_any_work(
    words, message, checkpoint, no_pyramid, folder, tmp_path, capsys, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = checkpoint.read_bytes()
    assert (
        main(["predict", *(w.format(ckpt=checkpoint, plain=no_pyramid, folder=folder) for w in words)]) == 1
    )
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith("sppcls: error: ")
    assert message in errors
    assert errors.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    assert checkpoint.read_bytes() == before


def test_mistakes_in_python_are_told_at_the_call(net: SPPClassifier, checkpoint: Path, folder: Path) -> None:
    for name, value in (("top", 0), ("batch_size", 0), ("workers", -1)):
        with pytest.raises(ConfigError, match=f"{name}={value}: must be at least"):
            predict(net, folder, **{name: value})
    with pytest.raises(DataError, match="nowhere: no such file"):
        predict(net, "nowhere")
    with pytest.raises(ConfigError, match="training mode"):
        predict(load_classifier(checkpoint).train(), folder)
    bare = load_classifier(checkpoint)
    del bare.model_info
    with pytest.raises(ConfigError, match="no model_info"):
        predict(bare, folder)


def test_overwriting_on_demand(checkpoint: Path, folder: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out.json"
    out.write_text("x" * 100_000)
    words = ["predict", str(checkpoint), str(folder), "--workers", "0", "--format", "json", "--out", str(out)]
    assert main(words) == 1
    assert out.read_text() == "x" * 100_000
    assert main([*words, "--overwrite"]) == 0
    assert len(json.loads(out.read_text())) == 36
    assert {len(row["predictions"]) for row in json.loads(out.read_text())} == {5}


# -- text --------------------------------------------------------------------------------------------------------------


TWO = [
    Prediction(Path("a.jpg"), ("red", "花"), (0.98765432, 1e-9)),
    Prediction(Path("much longer.jpg"), error="damaged"),
]


def test_json_is_complete_whenever_it_ends() -> None:
    assert json.loads("".join(as_json([]))) == []
    assert json.loads("".join(as_json(TWO))) == [
        {
            "path": "a.jpg",
            "predictions": [{"class": "red", "probability": 0.9876543}, {"class": "花", "probability": 1e-9}],
            "error": None,
        },
        {"path": "much longer.jpg", "predictions": [], "error": "damaged"},
    ]
    assert "".join(as_csv(TWO, 2)) == (
        "path,class1,probability1,class2,probability2,error\n"
        "a.jpg,red,0.9876543,花,1e-09,\n"
        "much longer.jpg,,,,,damaged\n"
    )


@pytest.mark.parametrize("columns", [None, 42])
def test_the_table_in_lines(columns: int | None) -> None:
    # 15 columns of path, two of two blanks, twice 3 + 8 of class and per cent: 41.
    text = "".join(as_table(TWO, [p.path for p in TWO], ["red", "花"], 2, columns))
    assert text == "a.jpg            red  98.8 %  花    0.0 %\nmuch longer.jpg  not classified\n"


def test_the_table_in_a_narrow_terminal() -> None:
    text = "".join(as_table(TWO, [p.path for p in TWO], ["red", "花"], 2, 40))
    assert text == "a.jpg\n    red  98.8 %\n    花    0.0 %\nmuch longer.jpg\n    not classified\n"


# -- in a shell --------------------------------------------------------------------------------------------------------


@pytest.fixture
def endless_prediction(loaded: Loaded, checkpoint: Path, endless: Path) -> Iterator[Program]:
    """A program that predicts ``endless`` with two loader processes."""
    words = ["-m", "sppcls.cli.main", "predict", checkpoint, endless, "--format", "csv", "--workers", "2"]
    process = loaded.start([str(word) for word in words], start_new_session=True, errors=True)
    yield process
    process.close()


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """A folder whose last image never comes."""
    for i in range(40):
        picture(60, 50, i).save(tmp_path / f"{i:02d}.png")
    os.mkfifo(tmp_path / "pipe.png")
    return tmp_path


@pytest.mark.run
def test_a_closed_pipe_ends_quietly(endless_prediction: Program, endless: Path) -> None:
    process = endless_prediction
    assert process.stderr is not None
    for _ in range(33):
        assert process.stdout.readline()
    process.stdout.close()
    (endless / "pipe.png").write_bytes((endless / "00.png").read_bytes())  # now there is more to write
    assert process.stderr.read() == ""
    assert process.wait(60) == 141


@pytest.mark.run
def test_ctrl_c_is_one_line(endless_prediction: Program) -> None:
    process = endless_prediction
    for _ in range(33):
        assert process.stdout.readline()  # the header, and the first chunk
    os.killpg(process.pid, signal.SIGINT)  # as the terminal does: to all processes
    _, errors = process.communicate(timeout=120)
    assert errors == "sppcls: stopped\n"
    assert process.returncode == 130


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line(checkpoint: Path, folder: Path, capsys) -> None:
    words = ["predict", str(checkpoint), str(folder), "--workers", "0", "--out", "/dev/full", "--overwrite"]
    assert main(words) == 1
    assert capsys.readouterr().err == (
        "sppcls: error: /dev/full: the results cannot be written (No space left on device)\n"
    )
