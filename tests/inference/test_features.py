"""Features against the network called by hand, image by image."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from forked import Loaded
from saved_nets import MEAN, SIZE, STD, save_net, write_photo
from torch import Tensor
from torchvision.transforms.v2 import functional as tvf

from sppcls import load_classifier
from sppcls.cli.main import main
from sppcls.data import EvalTransform, read_image
from sppcls.errors import ConfigError, DataError
from sppcls.inference.feature_stream import stream_features
from sppcls.inference.features import extract_features, write_features
from sppcls.inference.layers import layer_lengths, layer_names, map_layers, read_layers
from sppcls.inference.views import choose_view
from sppcls.nn import SPPClassifier

ROOT = Path(__file__).resolve().parents[2]
WHOLE = round(SIZE * 256 / 224)  # the default shorter side
LEVELS = [3, [2, 1], 1]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_net(tmp_path_factory.mktemp("net") / "best.ckpt", levels=LEVELS)


@pytest.fixture(scope="module")
def net(checkpoint: Path) -> SPPClassifier:
    return load_classifier(checkpoint)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two class folders with images of three shapes."""
    root = tmp_path_factory.mktemp("photos")
    for number in range(7):
        write_photo(root / ("rose" if number < 3 else "tülip") / f"photo {number}.png", number)
    return root


def normalised(image: Tensor) -> Tensor:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return ((image / 255 - mean) / std)[None]


def whole(path: Path, side: int = WHOLE) -> Tensor:
    """The whole photo as network input, by torchvision's own rule for a shorter side."""
    return normalised(tvf.resize(read_image(path), side, antialias=True))


def close(rows: np.ndarray, truth: Tensor) -> None:
    np.testing.assert_allclose(rows, truth.detach().numpy(), rtol=1e-4, atol=1e-5)


# --- values


@pytest.mark.parametrize("layer", ["spp", "fc6", "fc7", "logits"])
def test_whole_images_are_what_the_network_gives_for_each(
    net: SPPClassifier, photos: Path, layer: str
) -> None:
    found = extract_features(net, photos, layer)
    assert found.features.dtype == np.float32
    truth = torch.cat([net.features(whole(photos / path))[layer] for path in found.paths])
    close(found.features, truth)


def test_crops_are_those_of_validation(net: SPPClassifier, photos: Path) -> None:
    cut = EvalTransform((SIZE, SIZE), 110)
    found = extract_features(net, photos, "map", view="crop", shorter_side=110)
    truth = [net.features(normalised(cut(read_image(photos / path))))["map"] for path in found.paths]
    close(found.features, torch.cat(truth).flatten(1))


@pytest.mark.parametrize("norm", ["lrn_within", "batch"])
def test_convolutions_are_taken_after_their_relu(photos: Path, tmp_path: Path, norm: str) -> None:
    net = load_classifier(save_net(tmp_path / "n.ckpt", levels=LEVELS, norm=norm))
    photo = next(photos.rglob("*.png"))
    x = normalised(EvalTransform((SIZE, SIZE))(read_image(photo)))
    for name, layer in net.backbone.layers.named_children():
        x = layer(x)
        if name.startswith("relu"):
            found = extract_features(net, photos, name.replace("relu", "conv"), view="crop")
            row = found.features[found.paths.index(photo.relative_to(photos).as_posix())]
            close(row, x[0].flatten())
            assert row.min() == 0


def test_levels_are_adaptive_poolings_of_the_map(net: SPPClassifier, photos: Path) -> None:
    for layer, bins in (("level3", (3, 3)), ("level2x1", (2, 1)), ("level1", (1, 1))):
        found = extract_features(net, photos, layer)
        truth = [F.adaptive_max_pool2d(net.forward_features(whole(photos / p)), bins) for p in found.paths]
        close(found.features, torch.cat(truth).flatten(1))


@pytest.mark.parametrize("backbone", ["zf5", "convnet_star5", "overfeat5", "overfeat7"])
def test_the_last_convolution_is_the_map(tmp_path: Path, backbone: str) -> None:
    net = load_classifier(save_net(tmp_path / "n.ckpt", backbone=backbone, levels=[1]))
    last = "conv7" if backbone == "overfeat7" else "conv5"
    names = layer_names(net)
    assert names == [f"conv{n}" for n in range(1, int(last[4:]) + 1)] + [
        "map",
        "level1",
        "spp",
        "fc6",
        "fc7",
        "logits",
    ]
    x = torch.randn(1, 3, SIZE, SIZE)
    with torch.no_grad():
        outputs = read_layers(net, x, [last, "map"])
        assert torch.equal(outputs[last], outputs["map"])
        assert torch.equal(outputs["map"], net.forward_features(x).flatten(1))


def test_other_networks_have_other_layers(tmp_path: Path) -> None:
    trunk = load_classifier(
        save_net(tmp_path / "r.ckpt", backbone="mobilenet_v3_small", levels=None, hidden=())
    )
    assert layer_names(trunk) == ["map", "pool", "logits"]
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(
            read_layers(trunk, x, ["pool"])["pool"], trunk.forward_features(x).mean((2, 3))
        )

    convolutional = load_classifier(save_net(tmp_path / "c.ckpt", levels=None, head="conv", hidden=(5,)))
    assert layer_names(convolutional) == [*[f"conv{n}" for n in range(1, 6)], "map", "fc6", "logits"]
    assert map_layers(convolutional)[-1] == "fc6"
    cells = convolutional.backbone.feature_size(SIZE, SIZE)
    assert layer_lengths(convolutional, ["fc6", "logits"], (SIZE, SIZE)) == {
        "fc6": 5 * cells[0] * cells[1],
        "logits": 4,
    }


def test_neither_batches_nor_order_nor_workers_change_features(net: SPPClassifier, photos: Path) -> None:
    names = ["spp", "fc7"]
    truth = {name: extract_features(net, photos, name, batch_size=1) for name in names}
    paths = [photos / path for path in truth["spp"].paths]
    for order, batch_size, workers in (([*range(7)], 3, 2), ([5, 2, 6, 0, 1, 4, 3], 32, 0)):
        bad: list[str] = []
        chunks = list(
            stream_features(
                net,
                [paths[i] for i in order],
                names,
                choose_view(net),
                bad=bad,
                batch_size=batch_size,
                workers=workers,
            )
        )
        assert [i for indices, _ in chunks for i in indices] == list(range(7))
        for name in names:
            rows = np.concatenate([values[name] for _, values in chunks])
            np.testing.assert_allclose(rows, truth[name].features[order], rtol=1e-4, atol=1e-5)
        assert bad == []


def test_dropout_is_off_whatever_the_mode_of_the_network(net: SPPClassifier, photos: Path) -> None:
    truth = extract_features(net, photos, "fc7").features
    net.train()
    try:
        np.testing.assert_allclose(extract_features(net, photos, "fc7").features, truth, rtol=1e-5)
        assert net.training
    finally:
        net.eval()


# --- files and labels


def test_labels_are_those_of_class_folders(net: SPPClassifier, photos: Path) -> None:
    found = extract_features(net, photos, "logits")
    assert found.classes == ["rose", "tülip"]
    assert [found.classes[label] for label in found.labels] == [p.split("/")[0] for p in found.paths]
    assert len(found.features) == len(found.paths) == len(found.labels) == 7


def test_labels_below_train_and_val_or_none(net: SPPClassifier, tmp_path: Path) -> None:
    split, flat = tmp_path / "split", tmp_path / "flat"
    for number, name in enumerate(("train/b/1", "val/a/deep/1", "val/b/2")):
        write_photo(split / f"{name}.png", number)
        write_photo(flat / f"{number}.png", number)
    found = extract_features(net, split, "logits")
    assert (found.classes, found.labels.tolist()) == (["a", "b"], [1, 0, 1])
    assert found.paths == ["train/b/1.png", "val/a/deep/1.png", "val/b/2.png"]
    write_photo(flat / "folder" / "3.png", 3)  # one folder beside loose images makes no classes
    found = extract_features(net, flat, "logits")
    assert (found.classes, found.labels.tolist()) == ([], [-1] * 4)


def test_the_file_holds_everything(
    checkpoint: Path, net: SPPClassifier, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "f.npz"
    words = ["features", str(checkpoint), str(photos), "--out", str(out), "--device", "cpu"]
    assert main(words) == 0
    assert "spp of 7 images, 192 numbers each" in capsys.readouterr().out
    truth = extract_features(net, photos, "spp")
    with np.load(out, allow_pickle=False) as file:
        assert file["features"].dtype == np.float32
        np.testing.assert_allclose(file["features"], truth.features, rtol=1e-5)
        assert file["paths"].tolist() == truth.paths
        assert file["labels"].tolist() == truth.labels.tolist()
        assert file["classes"].tolist() == truth.classes
        assert (str(file["layer"]), str(file["view"]), int(file["shorter_side"])) == ("spp", "full", WHOLE)
        assert str(file["checkpoint"]) == str(checkpoint)
        assert str(file["sppcls_version"]) == net.model_info["version"]  # type: ignore[index]
    assert os.listdir(tmp_path) == ["f.npz"]

    assert main(words) == 1
    assert "exists already" in capsys.readouterr().err
    assert main([*words, "--overwrite", "--layer", "conv4", "--view", "crop", "--shorter-side", "96"]) == 0
    with np.load(out) as file:
        assert (str(file["layer"]), str(file["view"]), int(file["shorter_side"])) == ("conv4", "crop", 96)


def test_bad_images_are_named_and_left_out(
    checkpoint: Path, net: SPPClassifier, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    for number in range(3):
        write_photo(folder / f"{number}.png", number)
    (folder / "0a.jpg").write_bytes(b"no image")
    write_photo(folder / "1a.png", 1)
    (folder / "1a.png").write_bytes((folder / "1a.png").read_bytes()[:300])
    from PIL import Image

    Image.new("RGB", (60_000, 2)).save(folder / "2a.png")  # too long to be seen whole
    out = tmp_path / "f.npz"
    assert main(["features", str(checkpoint), str(folder), "--out", str(out), "--workers", "1"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" not in err
    lines = err.splitlines()
    assert [name in line for name, line in zip(("0a.jpg", "1a.png", "2a.png"), lines, strict=True)] == [
        True
    ] * 3
    assert "too long to be seen whole" in lines[2]
    with np.load(out) as file:
        assert file["paths"].tolist() == ["0.png", "1.png", "2.png"]
        for path, row in zip(file["paths"], file["features"], strict=True):
            close(row, net.features(whole(folder / str(path)))["spp"][0])


def test_bins_that_repeat_cells_are_noted_once(
    checkpoint: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "features",
        str(checkpoint),
        str(photos),
        "--out",
        str(tmp_path / "f.npz"),
        "--shorter-side",
        "30",
    ]
    assert main(words) == 0
    err = capsys.readouterr().err
    assert (
        err == "sppcls: note: a 30x30 image has a map of 1x1 cells; bins of level3, level2x1 repeat cells\n"
    )


def test_only_bad_images(net: SPPClassifier, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"no image in it can be read; the first: .*x\.jpg: empty file"):
        extract_features(net, tmp_path)
    with pytest.raises(DataError, match="no image in it can be read"):
        write_features(net, tmp_path, tmp_path / "f.npz")
    assert os.listdir(tmp_path) == ["x.jpg"]


def test_memory_does_not_grow_with_the_number_of_images(net: SPPClassifier, tmp_path: Path) -> None:
    photo = write_photo(tmp_path / "photo.png", 2)
    (tmp_path / "many").mkdir()
    for number in range(1500):
        os.link(photo, tmp_path / "many" / f"{number}.png")
    length = layer_lengths(net, ["conv1"], (SIZE, SIZE))["conv1"]
    tracemalloc.start()
    try:
        written = write_features(
            net, tmp_path / "many", tmp_path / "f.npz", "conv1", view="crop", batch_size=64
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (written.images, written.length) == (1500, length)
    size = (tmp_path / "f.npz").stat().st_size
    assert size > 4 * 1500 * length
    # Two chunks of 512 images and a batch of 64; all images at once are more than the whole.
    assert peak < 0.9 * size
    with np.load(tmp_path / "f.npz") as file:
        rows = file["features"]
    assert (rows == rows[0]).all() or np.allclose(rows, rows[0], atol=1e-5)


@pytest.mark.run
def test_a_full_disk_leaves_nothing_behind(
    checkpoint: Path, photos: Path, loaded: Loaded, tmp_path: Path
) -> None:
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)); "
        "from sppcls.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    out = tmp_path / "f.npz"
    done = loaded.run(
        ["-c", code, "features", str(checkpoint), str(photos), "--out", str(out), "--workers", "0"]
    )
    assert done.returncode == 1
    assert done.stderr == f"sppcls: error: --out {out}: cannot be written (File too large)\n"
    assert list(tmp_path.iterdir()) == []


# --- refusals


def test_maps_of_whole_images_are_refused(net: SPPClassifier, photos: Path) -> None:
    for layer in ("conv4", "conv5", "map"):
        with pytest.raises(
            ConfigError, match=f"'{layer}' of whole images: .* of many lengths; take view crop"
        ):
            extract_features(net, photos, layer)


def test_an_unknown_layer_brings_the_list(net: SPPClassifier, photos: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        extract_features(net, photos, "level6")
    names = "conv1, conv2, conv3, conv4, conv5, map, level3, level2x1, level1, spp, fc6, fc7, logits"
    assert str(caught.value) == f"layer 'level6': this network has {names}"


def test_a_network_of_one_size(tmp_path: Path, photos: Path) -> None:
    net = load_classifier(save_net(tmp_path / "fixed.ckpt", levels=None))
    assert "pool" in layer_names(net)
    found = extract_features(net, photos, "pool")
    assert found.view.kind == "crop"
    truth = net.features(normalised(EvalTransform((SIZE, SIZE))(read_image(photos / found.paths[0]))))
    close(found.features[0], truth["spp"][0])
    with pytest.raises(ConfigError, match=f"takes images of {SIZE}x{SIZE} only; take view crop"):
        extract_features(net, photos, "pool", view="full")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--layer", "fc8"], "layer 'fc8': this network has conv1, "),
        (["--layer", "conv5", "--view", "full"], "vectors of many lengths; take view crop"),
        (["--shorter-side", "5"], "shorter side 5: this network needs at least 23 pixels"),
        (
            ["--shorter-side", "90", "--view", "crop"],
            "shorter side 90: the 96x96 crop needs at least 96 pixels",
        ),
        (["--shorter-side", "0"], "--shorter-side 0: must be a whole number"),
        (["--view", "half"], "--view half: choose from full, crop"),
        (["--out", "f.npy"], "--out f.npy: the name must end in .npz"),
        (["--out", "nowhere/f.npz"], "there is no folder nowhere"),
        (["--device", "toaster"], "--device toaster: choose from auto, cpu"),
    ],
)
def test_impossible_requests_are_one_line(
    checkpoint: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["features", str(checkpoint), str(photos), "--out", "f.npz", *words]) == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_impossible_folders(net: SPPClassifier, tmp_path: Path, checkpoint: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        extract_features(net, tmp_path / "nowhere")
    with pytest.raises(DataError, match="no image in this folder"):
        extract_features(net, tmp_path)
    with pytest.raises(DataError, match="a file; a folder of images is needed"):
        extract_features(net, checkpoint)


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; from sppcls.cli import features, transfer\n"
        "for command in (features, transfer):\n"
        "    try: command.run(['--help'])\n"
        "    except SystemExit: pass\n"
        "assert not {'torch', 'sklearn', 'numpy'} & set(sys.modules), 'slow'"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 120
