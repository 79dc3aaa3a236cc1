"""What the pyramid saw, against loops over cells and bins, torch's own poolings and counts by hand."""

from __future__ import annotations

import random
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.callbacks import Callback, WeightAveraging
from pytorch_lightning.loggers import CSVLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_runs import TINY
from torch import nn

from sppcls import compose, load_classifier
from sppcls.cli.main import main
from sppcls.config.build import build_network, load_sources, make_datamodule, val_sizes
from sppcls.config.schedule import size_schedule
from sppcls.config.schema import as_dict
from sppcls.data import prepare_batch, read_image
from sppcls.data.shapes import ShapesSource
from sppcls.engine.build import make_module
from sppcls.engine.callbacks.ema import ema_with_warmup
from sppcls.engine.callbacks.explain_pyramid import ExplainPyramid
from sppcls.engine.logger import RunLogger
from sppcls.engine.module import ClassificationModule
from sppcls.errors import CheckpointError, ConfigError, DataError, ImageError
from sppcls.inference.explain.explanation import explain
from sppcls.inference.explain.levels import (
    labelled_images,
    level_errors,
    weight_norms,
)
from sppcls.nn import Backbone, FCHead, SpatialPyramidPooling2d, SPPClassifier
from sppcls.runs.checkpoint import make_model_info

CLASSES = ["discs", "squares", "triangles"]


# -- a network whose feature map is the image itself, so that everything can be counted by hand ------------------------


def plain_net(
    levels: Any, mode: str = "max", bin_rule: str = "adaptive", hidden: tuple[int, ...] = ()
) -> SPPClassifier:
    torch.manual_seed(4)
    pool = SpatialPyramidPooling2d(levels, mode, bin_rule)
    backbone = Backbone("identity", nn.Identity(), 3, 1, nn.AdaptiveMaxPool2d(1))
    net = SPPClassifier(backbone, pool, FCHead(pool.output_length(3), hidden, 3)).eval()
    net.model_info = {"classes": CLASSES, "mean": [0.0] * 3, "std": [1.0] * 3, "val_sizes": [[8, 8]]}
    return net


def random_image(height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(height * width)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


def entries(net: SPPClassifier, cells: np.ndarray) -> Iterator[tuple[int, int, int, int, slice, slice]]:
    """(level, channel, row, column, cells down, cells across) in the order of the pooled vector."""
    for level, (rows, columns) in enumerate(net.pool.pyramid.cell_ranges(cells.shape[1:], net.pool.bin_rule)):
        for c in range(len(cells)):
            for i, (top, bottom) in enumerate(rows):
                for j, (left, right) in enumerate(columns):
                    yield level, c, i, j, slice(top, bottom), slice(left, right)


@pytest.mark.parametrize("bin_rule", ["adaptive", "sliding", "padded"])
@pytest.mark.parametrize("mode", ["max", "avg", "sum"])
def test_a_linear_score_is_split_exactly_by_hand(mode: str, bin_rule: str) -> None:
    net = plain_net([4, (2, 3), 1], mode, bin_rule)
    image = random_image(9, 14)
    seen = explain(net, image, "squares", shorter_side=9)
    cells = image.numpy() / 255
    weight, bias = net.head.last.weight[1].tolist(), float(net.head.last.bias[1].detach())
    in_bins = [np.zeros(shape) for shape in net.pool.levels]
    in_cells = [np.zeros((9, 14)) for _ in net.pool.levels]
    for w, (level, c, i, j, down, across) in zip(weight, entries(net, cells), strict=True):
        part = cells[c, down, across]
        if mode == "max":
            share = np.zeros_like(part)
            share[np.unravel_index(part.argmax(), part.shape)] = w * part.max()
        else:
            share = w * part / (part.size if mode == "avg" else 1)
        in_bins[level][i, j] += share.sum()
        in_cells[level][down, across] += share
    for found, by_bin, by_cell in zip(seen.levels, in_bins, in_cells, strict=True):
        np.testing.assert_allclose(found.bins, by_bin, atol=1e-4)
        np.testing.assert_allclose(found.cells, by_cell, atol=1e-4)
        assert found.contribution == pytest.approx(by_bin.sum(), abs=1e-4)
        assert found.drop == pytest.approx(by_bin.sum(), abs=1e-4), "a linear head: zeroing takes it all away"
    assert seen.score_of_zeros == pytest.approx(bias)
    assert seen.score == pytest.approx(bias + sum(b.sum() for b in in_bins), abs=1e-4)
    if bin_rule == "sliding":  # 9 rows into 4: windows of 3 every 2; 14 columns into 4: windows of 4 every 3
        assert not seen.levels[0].cells[:, 13].any()


def test_channels_that_win_in_a_cell_are_counted() -> None:
    image = torch.zeros(3, 4, 4, dtype=torch.uint8)
    image[0, 1, 1] = image[1, 1, 1] = (
        200  # both channels have the maximum of a quarter, and of the whole, here
    )
    image[0, 3, 0] = 90  # of its quarter only
    image[2, 2:, 2:] = 7  # four equal cells: the first wins; the third channel is zero everywhere else
    two, one = explain(plain_net([2, 1]), image, shorter_side=4).levels
    quarters, whole = np.zeros((4, 4)), np.zeros((4, 4))
    quarters[1, 1], quarters[3, 0], quarters[2, 2] = 2, 1, 1
    whole[1, 1], whole[2, 2] = 2, 1
    np.testing.assert_array_equal(two.activity, quarters)
    np.testing.assert_array_equal(one.activity, whole)
    image[0, 2, 2] = (
        255  # 5 x 5 cells in 2 x 2 bins: the middle cell lies in all four bins, and is one channel
    )
    larger = nn.functional.pad(image, (0, 1, 0, 1))
    assert explain(plain_net([2]), larger, shorter_side=5).levels[0].activity[2, 2] == 2


def test_mean_activation_takes_the_place_of_winners_in_average_pooling() -> None:
    image = random_image(5, 6)
    for seen in explain(plain_net([2, 1], "avg"), image, shorter_side=5).levels:
        np.testing.assert_allclose(seen.activity, image.numpy().mean(0) / 255, atol=1e-6)


@pytest.mark.parametrize("mode", ["max", "avg"])
def test_behind_hidden_layers_the_parts_add_up_to_the_score(mode: str) -> None:
    net = plain_net([6, 3, 2, 1], mode, hidden=(64, 64))
    with torch.no_grad():
        for layer in net.head.modules():
            if isinstance(layer, nn.Linear):
                layer.weight *= 4  # many units switch on the way
    image = random_image(13, 17)
    with torch.inference_mode():  # a user's own must not be in the way
        seen = explain(net, image, shorter_side=13)
    gap = seen.score - seen.score_of_zeros
    assert abs(gap) > 1
    assert sum(level.contribution for level in seen.levels) == pytest.approx(gap, rel=0.005)
    for level in seen.levels:
        assert float(level.bins.sum()) == pytest.approx(level.contribution, abs=1e-4)
        assert float(level.cells.sum()) == pytest.approx(level.contribution, abs=1e-3)
    # Drops and scores with torch's own pooling, the vector taken apart by hand.
    pool = nn.functional.adaptive_max_pool2d if mode == "max" else nn.functional.adaptive_avg_pool2d
    parts = [pool(image[None] / 255, n).flatten(1) for n in (6, 3, 2, 1)]
    with torch.no_grad():
        logits = net.head(torch.cat(parts, 1))[0]
        assert seen.score == pytest.approx(float(logits.max()), rel=1e-4)
        assert seen.probabilities.tolist() == pytest.approx(logits.softmax(0).tolist(), abs=1e-5)
        for number, level in enumerate(seen.levels):
            kept = [p * (n != number) for n, p in enumerate(parts)]
            left = float(net.head(torch.cat(kept, 1))[0, seen.class_index])
            assert level.drop == pytest.approx(seen.score - left, rel=1e-3, abs=1e-4)


def test_contributions_are_the_integral_of_the_slope_not_the_slope_at_the_end() -> None:
    # One unit relu(3 v - 1) of one pooled value v = 0.8: the score rises from 0 to 1.4, the slope at v would say 2.4.
    net = plain_net([1], hidden=(1,))
    with torch.no_grad():
        unit = net.head.hidden[0][0]
        unit.weight.copy_(torch.tensor([[3.0, 0, 0]]))
        unit.bias.fill_(-1)
        net.head.last.weight.fill_(1)
        net.head.last.bias.zero_()
    image = torch.full((3, 4, 4), 204, dtype=torch.uint8)
    (level,) = explain(net, image, "discs", shorter_side=4).levels
    assert level.contribution == pytest.approx(1.4, abs=0.01)
    assert level.drop == pytest.approx(1.4, abs=1e-5)


def test_weight_norms_by_hand() -> None:
    net = plain_net([3, (1, 2)], hidden=(5, 4))
    weight = net.head.hidden[0][0].weight.detach().numpy()
    squares = (weight[:, :27] ** 2).sum(), (weight[:, 27:] ** 2).sum()
    first, second = weight_norms(net)
    assert (first.label, first.bins, second.label, second.bins) == ("3x3", 9, "1x2", 2)
    assert (first.total, second.total) == pytest.approx([s**0.5 for s in squares])
    assert (first.per_bin, second.per_bin) == pytest.approx(
        [(squares[0] / 9) ** 0.5, (squares[1] / 2) ** 0.5]
    )
    by_bin = [(weight[:, :27].reshape(5, 3, 9)[:, :, b] ** 2).sum() for b in range(9)]
    assert first.per_bin == pytest.approx(np.mean(by_bin) ** 0.5)


# -- the picture -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bin_rule", ["adaptive", "sliding", "padded"])
def test_bins_and_dots_are_drawn_where_they_are(bin_rule: str) -> None:
    net = plain_net([4, (2, 3)], bin_rule=bin_rule)
    seen = explain(net, random_image(10, 13), shorter_side=10)
    axes = seen.figure().axes
    assert [a.get_title().splitlines()[0] for a in axes[1:3]] == ["level 4x4: 16 bins", "level 2x3: 6 bins"]
    for level, panel in zip(seen.levels, axes[1:3], strict=True):
        drawn = {tuple(float(v) for v in p.get_bbox().extents) for p in panel.patches}
        wanted = {(l, t, r, b) for t, b in level.rows for l, r in level.columns}  # noqa: E741
        assert drawn == wanted, "one cell of this network is one pixel"
        (dots,) = panel.collections
        down, across = np.nonzero(level.activity.numpy())
        np.testing.assert_allclose(dots.get_offsets(), np.stack([across + 0.5, down + 0.5], 1))
        areas = dots.get_widths() ** 2
        counts = level.activity.numpy()[down, across]
        np.testing.assert_allclose(areas / areas.max(), counts / counts.max(), rtol=1e-5)


def test_the_levels_of_a_wide_photo_stand_below_each_other_and_its_bins_cover_all_of_it() -> None:
    seen = explain(plain_net([2, 1]), random_image(20, 1300), shorter_side=20)
    axes = [panel for panel in seen.figure().axes if panel.get_title().startswith(("level", "adds"))]
    places = [panel.get_subplotspec().get_geometry()[2] for panel in axes]
    assert places == [2, 3, 4, 5], "two columns, after the row of the photo and the bars"
    for panel in axes:
        assert panel.get_xlim() == (0, 1300), "more than the picture has pixels"
        assert max(p.get_bbox().x1 for p in panel.patches) == pytest.approx(1300)


def test_cells_divide_the_photo_evenly_in_the_picture() -> None:
    net = plain_net([3])
    net.backbone = Backbone("halves", nn.MaxPool2d(2, ceil_mode=True), 3, 2, nn.AdaptiveMaxPool2d(1))
    seen = explain(net, random_image(7, 9), shorter_side=7)  # 4 x 5 cells
    assert seen.map_size == (4, 5)
    boxes = sorted(p.get_bbox().extents.tolist() for p in seen.figure().axes[1].patches)
    assert boxes[0] == pytest.approx([0, 0, 2 * 9 / 5, 2 * 7 / 4])
    assert boxes[-1] == pytest.approx([3 * 9 / 5, 2 * 7 / 4, 9, 7])


@pytest.mark.parametrize(
    ("levels", "mode", "size"),
    [([1], "sum", (40, 9)), ([(3, 4), 5, 5, 1], "max", (3, 60)), ([2], "avg", (1, 1))],
)
@pytest.mark.filterwarnings("ignore:level .* has more bins")
def test_any_pyramid_and_photo_can_be_drawn(
    levels: Any, mode: str, size: tuple[int, int], tmp_path: Path
) -> None:
    net = plain_net(levels, mode)
    net.model_info = {
        **net.model_info,
        "classes": ["$a_", "名" * 50, "b\udce9c"],
    }  # bytes of a folder that are no text
    black = torch.zeros(3, *size, dtype=torch.uint8)
    seen = explain(net, black, shorter_side=min(size))
    seen.save(tmp_path / "seen.png")
    with Image.open(tmp_path / "seen.png") as picture:
        assert picture.width > 500
    assert str(seen).encode().count(b"\n") > 4  # it can be printed
    assert ("bins repeat cells" in str(seen)) == (max(max(p) for p in net.pool.levels) > min(size))


def test_save_replaces_nothing_unasked(tmp_path: Path) -> None:
    seen = explain(plain_net([2]), random_image(8, 8))
    seen.save(tmp_path / "seen.svg")
    with pytest.raises(ConfigError, match=r"seen\.svg: exists already"):
        seen.save(tmp_path / "seen.svg")
    seen.save(tmp_path / "seen.svg", overwrite=True)
    with pytest.raises(ConfigError, match=r"seen\.txt: pictures are written as .*\.png"):
        seen.save(tmp_path / "seen.txt")
    with pytest.raises(ConfigError, match="cannot be written"):
        seen.save(tmp_path / "nowhere" / "seen.png")


# -- a trained network: the command and the callback -------------------------------------------------------------------


class Watch(Callback):
    """What the callback before it left behind."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.seen.append(
            (
                [m.training for m in pl_module.modules()],
                torch.get_rng_state(),
                random.getstate(),
                np.random.get_state()[1].tolist(),
                {k: v.clone() for k, v in pl_module.net.state_dict().items()},
            )
        )


def train_here(
    folder: Path, photos: Path, *overrides: str, callbacks: list[Callback], logger: Any = None
) -> ClassificationModule:
    words = [w for w in TINY if not w.startswith(("data.num", "backbone", "trainer.max"))]
    words += ["data=folder", f"data.root={photos}", "data.batch_size=8", "backbone.width=0.125",
              "trainer.max_epochs=8", "optimizer.lr=0.02", *overrides]  # fmt: skip
    config = compose(words)
    schedule = size_schedule(config)
    sizes = val_sizes(config, schedule)
    train, val, *_ = load_sources(config)
    pl.seed_everything(0, verbose=False)
    net = build_network(config, len(train.classes))
    plain = as_dict(config)
    architecture = {key: plain[key] for key in ("backbone", "pyramid", "head", "init")}
    architecture |= {"num_classes": len(train.classes), "input_size": list(schedule.largest)}
    model_info = make_model_info(
        architecture=architecture, classes=train.classes, mean=config.data.mean, std=config.data.std,
        train_sizes=list(schedule.training_sizes), val_sizes=sizes, config=plain,
    )  # fmt: skip
    module = make_module(
        config,
        net,
        schedule,
        train,
        val_sizes=sizes,
        model_info=model_info,
    )
    trainer = pl.Trainer(
        default_root_dir=folder,
        max_epochs=config.trainer.max_epochs,
        accelerator="cpu",
        logger=RunLogger(folder) if logger is None else logger,
        callbacks=callbacks,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with warnings.catch_warnings():
        for message in (
            ".*treespec, LeafSpec.*",
            ".*many workers.*",
            ".*logging interval.*",
        ):  # Lightning's own
            warnings.filterwarnings("ignore", message=message)
        trainer.fit(module, make_datamodule(config, schedule, train, val))
    trainer.save_checkpoint(folder / "net.ckpt", weights_only=False)
    return module


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/ and val/ with three classes, as files."""
    root = tmp_path_factory.mktemp("photos")
    for split, count in (("train", 120), ("val", 240)):
        source = ShapesSource(split, count)
        for index, target in enumerate(source.targets):
            shape, texture = divmod(target, 5)
            if shape < 3 and texture == 0:
                folder = (
                    root
                    / split
                    / CLASSES[("disc", "square", "triangle").index(source.classes[target].split()[1])]
                )
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(source.image(index).permute(1, 2, 0).numpy()).save(folder / f"{index}.png")
    return root


@pytest.fixture(scope="module")
def trained(
    photos: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Any], ClassificationModule]:
    """A run with averaged weights and batch norm: its folder, what was found before and after the callback."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("run")
    before, after = Watch(), Watch()
    averaging = WeightAveraging(avg_fn=ema_with_warmup(0.9))
    module = train_here(
        folder, photos, "backbone.norm=batch", "ema.enabled=true",
        callbacks=[averaging, before, ExplainPyramid(folder), after],
    )  # fmt: skip
    return folder, [before.seen, after.seen], module


def events_of(folder: Path) -> tuple[dict[str, float], list[str]]:
    events = EventAccumulator(str(folder)).Reload()
    scalars = {
        tag: events.Scalars(tag)[-1].value for tag in events.Tags()["scalars"] if tag.startswith("pyramid/")
    }
    return scalars, events.Tags()["images"]


def errors_by_hand(net: SPPClassifier, photos: Path) -> list[float]:
    """Of the whole network, then without each level: one image at a time, the pooled vector made by torch."""
    from sppcls.data import EvalTransform

    levels = [n for n, _ in net.pool.levels]
    wrong = np.zeros(len(levels) + 1)
    files = [
        (number, f) for number, name in enumerate(CLASSES) for f in sorted((photos / "val" / name).iterdir())
    ]
    for number, file in files:
        region = EvalTransform((96, 96))(read_image(file))[None]
        with torch.no_grad():
            cells = net.backbone(
                prepare_batch(region, (96, 96), net.model_info["mean"], net.model_info["std"])
            )
            parts = [nn.functional.adaptive_max_pool2d(cells, n).flatten(1) for n in levels]
            for left_out in range(len(levels) + 1):
                kept = [p * (n != left_out - 1) for n, p in enumerate(parts)]
                wrong[left_out] += int(net.head(torch.cat(kept, 1)).argmax()) != number
    return (100 * wrong / len(files)).tolist()


def test_errors_without_a_level_by_hand(photos: Path, trained) -> None:
    net = load_classifier(trained[0] / "net.ckpt")
    truth = errors_by_hand(net, photos)
    assert len(set(truth)) > 1, "or the test could not tell one level from another"
    for folder in (photos, photos / "val"):
        errors = level_errors(net, folder, batch_size=7)
        assert errors.images == sum(len(list((photos / "val" / c).iterdir())) for c in CLASSES)
        assert [errors.full, *errors.without.values()] == pytest.approx(truth)
        assert list(errors.without) == ["3x3", "2x2", "1x1"]


def test_the_end_of_a_training_is_explained(photos: Path, trained) -> None:
    folder, (before, after), module = trained
    net = load_classifier(folder / "net.ckpt")  # the averaged weights
    scalars, images = events_of(folder)
    truth = errors_by_hand(net, photos)
    names = ["top1_error", *(f"top1_error_without_{n}x{n}" for n in (3, 2, 1))]
    assert [scalars[f"pyramid/{name}"] for name in names] == pytest.approx(truth)
    # The last validation used the averaged weights too.
    assert scalars["pyramid/top1_error"] == pytest.approx(module.state.val_results["96"]["top1_error"])
    for norm in weight_norms(net):
        assert scalars[f"pyramid/weight_norm_{norm.label}"] == pytest.approx(norm.total)
        assert scalars[f"pyramid/weight_norm_per_bin_{norm.label}"] == pytest.approx(norm.per_bin)
    assert "pyramid/explain" in images
    (modes, *random_states, weights), (modes_after, *random_states_after, weights_after) = before[0], after[0]
    assert modes == modes_after
    assert any(modes), "it was in training mode"
    assert torch.equal(random_states[0], random_states_after[0])
    assert random_states[1:] == random_states_after[1:]
    assert all(torch.equal(weights[k], weights_after[k]) for k in weights)


def test_nothing_is_explained_without_a_pyramid_and_nothing_breaks_a_training(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = "trainer.max_epochs=1"
    train_here(
        tmp_path,
        photos,
        "pyramid=none",
        "sizes=single_224",
        "sizes.sizes=[96]",
        short,
        callbacks=[ExplainPyramid(tmp_path)],
    )
    scalars, images = events_of(tmp_path)
    assert not scalars
    assert "pyramid/explain" not in images
    # No TensorBoard to write to: nothing is explained, and the training is kept.
    (tmp_path / "other").mkdir()
    from sppcls._util.console import start_console

    start_console(None)
    train_here(
        tmp_path / "other",
        photos,
        short,
        callbacks=[ExplainPyramid(tmp_path)],
        logger=CSVLogger(tmp_path / "other"),
    )
    assert "explained" not in capsys.readouterr().out
    assert (tmp_path / "other" / "net.ckpt").exists()
    with pytest.raises(ConfigError, match="no pyramid to explain"):
        explain(load_classifier(tmp_path / "net.ckpt"), random_image(96, 96))
    assert main(["explain", str(tmp_path / "net.ckpt"), "x.png", "--out", str(tmp_path / "x.png")]) == 1
    assert (
        f"{tmp_path / 'net.ckpt'}: has its backbone's own pooling and no pyramid" in capsys.readouterr().err
    )


def test_the_command(
    photos: Path, trained, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(photos / "val", "set")
    (tmp_path / "set" / "discs" / "broken.jpg").write_bytes(b"no image")
    photo = next((photos / "val" / "discs").iterdir())
    checkpoint = str(trained[0] / "net.ckpt")
    words = ["explain", checkpoint, str(photo), "--device", "cpu", "--workers", "0"]
    assert main([*words, "--set", "set", "--class", "triangles"]) == 1, "an image could not be counted"
    out, err = capsys.readouterr()
    assert "set/discs/broken.jpg" in err
    net = load_classifier(checkpoint)
    for error in errors_by_hand(net, photos):
        assert f" {error:.2f}" in out
    seen = explain(net, photo, "triangles")
    assert str(seen) in out
    assert min(seen.image.shape[1:]) == 110, "96 * 256 / 224"
    for norm in weight_norms(net):
        assert f"{norm.total:.3f}" in out
    with Image.open(f"{photo.stem}-explained.png") as picture:
        assert picture.size[0] > 1000
    assert main(words) == 1
    assert "exists already; name another file, or add --overwrite" in capsys.readouterr().err
    assert main([*words, "--overwrite", "--shorter-side", "60"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{photo.name}: ")
    said = "right" if out.splitlines()[1].startswith("discs ") else "wrong"
    assert f"The answer is {said}: the photo lies in the folder of discs." in out
    (tmp_path / "set" / "discs" / "broken.jpg").unlink()
    assert main(["explain", checkpoint, "--set", "set", "--workers", "0"]) == 0
    assert "Picture" not in capsys.readouterr().out


WRONG = [
    (["CKPT"], "give a photo, or a folder with --set"),
    (["CKPT", "--set", "PHOTOS", "--out", "x.png"], "--out: needs a photo"),
    (["CKPT", "PHOTO", "--out", "x.txt"], "x.txt: pictures are written as"),
    (["CKPT", "PHOTO", "--out", "nowhere/x.png"], "there is no folder nowhere"),
    (["CKPT", "PHOTO", "--class", "disc"], "class 'disc': the network does not know it; choose from discs"),
    (["CKPT", "PHOTO", "--shorter-side", "0"], "must be a whole number of at least 1"),
    (["CKPT", "PHOTO", "--shorter-side", "5"], "shorter_side=5: input_size="),
    (["CKPT", "missing.png"], "missing.png: cannot be read"),
    (["CKPT", "CKPT", "--out", "x.png"], "a ZIP archive, not an image"),
    (["missing.ckpt", "PHOTO"], "missing.ckpt: no such checkpoint"),
    (["CKPT", "--set", "missing"], "missing: no such folder"),
    (["CKPT", "--set", "PHOTO"], "a file, a folder is needed"),
    (["CKPT", "--set", "OTHER"], "only in the checkpoint: triangles; only in the data: stars"),
    (["CKPT", "PHOTO", "--set", "OTHER"], "only in the checkpoint: triangles; only in the data: stars"),
]


@pytest.mark.parametrize(("words", "message"), WRONG)
def test_mistakes_are_one_line(
    words: list[str], message: str, photos: Path, trained, tmp_path: Path, monkeypatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    shutil.copytree(photos / "val", "other")
    Path("other/triangles").rename("other/stars")
    stands_for = {
        "CKPT": str(trained[0] / "net.ckpt"),
        "PHOTO": str(next((photos / "val" / "discs").iterdir())),
        "PHOTOS": str(photos),
        "OTHER": "other",
    }
    assert main(["explain", *[stands_for.get(word, word) for word in words]]) == 1
    out, err = capsys.readouterr()
    assert err.startswith("sppcls: error: ")
    assert message in err
    assert err.count("\n") == 1
    assert not out
    assert not list(tmp_path.glob("*.png")), "nothing is written"


def test_mistakes_from_python(photos: Path, tmp_path: Path) -> None:
    net = plain_net([2])
    with pytest.raises(ConfigError, match="class 'cat'.*choose from discs, squares, triangles$"):
        explain(net, random_image(8, 8), "cat")
    with pytest.raises(ImageError, match="nothing.png"):
        explain(net, tmp_path / "nothing.png")
    with pytest.raises(CheckpointError, match="only in the data: discs"):
        labelled_images(photos / "val", [*CLASSES[1:], "stars"])
    with pytest.raises(DataError, match="xxx: no such folder"):
        labelled_images("x" * 300, CLASSES)  # a longer name than a file may have
    (tmp_path / "discs").mkdir()
    with pytest.raises(DataError, match="no image in this folder"):
        labelled_images(tmp_path, ["discs"])
