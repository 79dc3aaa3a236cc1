"""Whole runs: reproducible, every option trains, everything is written where it is said to be."""

from __future__ import annotations

import csv
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from forked import Loaded
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_runs import TINY
from torch import nn

from sppcls import compose, load_classifier, train
from sppcls.config.build import load_sources, make_datamodule
from sppcls.config.schedule import size_schedule
from sppcls.engine.callbacks.ema import ema_with_warmup
from sppcls.engine.callbacks.saving import resume_word
from sppcls.engine.module import DivergedError
from sppcls.errors import CheckpointError, ConfigError, DataError, ImageError, SppclsError
from sppcls.nn import SpatialPyramidPooling2d, SPPClassifier
from sppcls.runs.checkpoint import read_checkpoint


def weights(result: dict) -> dict[str, torch.Tensor]:
    return {
        k: v
        for k, v in read_checkpoint(result["last_checkpoint"])["state_dict"].items()
        if k.startswith("net.")
    }


def rows_of(result: dict) -> list[dict[str, str]]:
    with open(Path(result["folder"]) / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_a_seed_gives_the_same_weights_whatever_the_workers_and_the_validation(tiny) -> None:
    first = weights(train(compose(tiny("seed=0"))))
    assert same(first, weights(train(compose(tiny("seed=0", "data.workers=2")))))
    assert same(first, weights(train(compose(tiny("seed=0", "trainer.val_every=2", "sizes.val_sizes=[96]")))))
    assert not same(first, weights(train(compose(tiny("seed=1")))))


OPTIONS = [
    "optimizer=adamw",
    "optimizer.nesterov=true",
    "optimizer.bias_lr_factor=2",
    "optimizer.bias_lr_factor=2 optimizer.decay_norm_and_bias=false",
    "scheduler=paper",
    "scheduler=step",
    "scheduler=constant",
    "mix.label_smoothing=0.1",
    "mix.mixup=0.2",
    "mix.cutmix=1.0",
    "mix.mixup=0.2 mix.cutmix=1.0",
    "ema.enabled=true",
    "ema.enabled=true ema.decay=0.9",
    "trainer.accumulate_grad_batches=2",
    "trainer.gradient_clip_norm=0.01",
    "trainer.precision=bf16-mixed",
    "trainer.deterministic=true",
    "trainer.limit_train_batches=1 trainer.limit_val_batches=1",
    "augment=anywhere",
    "augment=resized",
    "augment=modern",
    "augment=none",
    "sizes=single_224 sizes.sizes=[96]",
    "sizes=random_180_224 sizes.sizes=[72,96]",
    "sizes=random_batch_180_224 sizes.sizes=[72,96]",
    "sizes=progressive_128_224 sizes.sizes=[64,96]",
    "sizes.sizes=[[96,128],[72,96]]",
    "sizes.pixel_budget=true",
    "sizes.period=2",
    "sizes.val_sizes=[120,88]",
    "pyramid=none sizes=single_224 sizes.sizes=[96]",
    "pyramid=none head=conv head.hidden=[8]",
    "pyramid.mode=avg",
    "pyramid.bin_rule=padded",
    "pyramid=l4321 head=linear",
    "head.dropout=0.6",
    "backbone.norm=lrn_within",
    "backbone.norm=lrn_across",
    "init=paper",
    "data.drop_last=true",
    "log.images=true",
    "backbone=mobilenet_v3_small backbone.norm=null backbone.width=null",
]


# Those that leave the weights after one epoch as they are; its size is the first or, of a rising schedule, the last.
NOT_IN_THE_WEIGHTS = (
    "trainer.deterministic=true",
    "sizes=single_224 sizes.sizes=[96]",
    "sizes=progressive_128_224 sizes.sizes=[64,96]",
    "sizes.pixel_budget=true",
    "sizes.period=2",
    "sizes.val_sizes=[120,88]",
    "data.drop_last=true",
    "log.images=true",
)
# Few images, as most of the time is taken by generating them.
PLAIN = ["trainer.max_epochs=1", "data.num_train=32", "data.num_val=20"]


@pytest.fixture(scope="module")
def plain_weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    kept = [word for word in TINY if not word.startswith(("trainer.max_epochs", "data.num_"))]
    return weights(train(compose([*kept, *PLAIN, f"runs_dir={tmp_path_factory.mktemp('plain')}"])))


@pytest.mark.parametrize("options", OPTIONS)
def test_every_option_trains_and_changes_the_weights(
    tiny, plain_weights: dict[str, torch.Tensor], options: str
) -> None:
    result = train(compose(tiny(*PLAIN, *options.split())))
    main = next(iter(result["last"])).partition("/")[0]
    loss, top1, top5 = (result["last"][f"{main}/{name}"] for name in ("loss", "top1_error", "top5_error"))
    assert np.isfinite(loss)
    assert 0 <= top5 <= top1 <= 100
    net = load_classifier(result["best_checkpoint"])
    height, width = net.model_info["val_sizes"][0]
    assert net(torch.zeros(1, 3, height, width)).shape == (1, 20)
    assert same(weights(result), plain_weights) == (options in NOT_IN_THE_WEIGHTS)


def two_convolutions() -> SPPClassifier:
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Conv2d(3, 8, 5, 4, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 4, 1))
    return SPPClassifier(trunk, SpatialPyramidPooling2d([1]), nn.Linear(8, 20))


def test_compile_gives_one_graph_per_size_and_nearly_the_same_loss(tiny) -> None:
    from torch._dynamo.utils import counters

    words = tiny("data.num_train=32", "sizes.val_sizes=[96]", "data.val_batch_size=16", "data.num_val=32")
    plain = train(compose(words), net=two_convolutions())
    torch._dynamo.reset()
    counters.clear()
    compiled = train(compose([*words, "trainer.compile=true"]), net=two_convolutions())
    # Training at two sizes and validation at one.
    assert counters["stats"]["unique_graphs"] == 3
    assert not counters["graph_break"]
    assert compiled["last"]["val_96/loss"] == pytest.approx(plain["last"]["val_96/loss"], rel=1e-3)
    assert not [k for k in weights(compiled) if "_orig_mod" in k]


def test_the_run_folder_holds_what_is_promised(tiny, tmp_path: Path) -> None:
    result = train(compose(tiny("log.images=true", "log.every_n_steps=1")))
    folder = Path(result["folder"])
    assert folder == tmp_path / "runs/shapes/multi_96_72-l321-zf5w0.0625-seed0"
    names = {p.name for p in folder.iterdir()}
    assert {"config.yaml", "metrics.csv", "train.log", "best.ckpt", "last.ckpt"} <= names
    assert not [n for n in names if n.endswith(".tmp")]
    rows = rows_of(result)
    assert [(r["epoch"], r["size"], r["images_seen"]) for r in rows] == [("0", "96", "48"), ("1", "72", "96")]
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    tags = events.Tags()
    assert {"val_96/top1_error", "val_96/top5_error", "val_96/loss", "val_72/top1_error", "train/top1_error", "schedule/lr",
            "schedule/size", "val_96_by_images/top1_error", "speed/images_per_s_96", "speed/images_per_s_72",
            "step/loss"} <= set(tags["scalars"])  # fmt: skip
    assert [e.value for e in events.Scalars("schedule/size")] == [96, 72]
    assert [e.step for e in events.Scalars("val_96/top1_error")] == [0, 1]
    # Of the main size alone, which is then the first column of HParams.
    assert [tag for tag in tags["scalars"] if tag.startswith("final/")] == ["final/val_96/top1_error"]
    (final,) = events.Scalars("final/val_96/top1_error")
    assert (final.step, final.value) == (1, pytest.approx(float(rows[-1]["val_96/top1_error"])))
    assert not [tag for tag in tags["scalars"] if tag.startswith("val/")], "one name for each quantity"
    assert not any(tag.startswith(("final", "inputs")) for tag in tags["images"])
    assert [e.step for e in events.Scalars("val_96_by_images/top1_error")] == [48, 96]
    for row, event in zip(rows, events.Scalars("val_72/top1_error"), strict=True):
        assert float(row["val_72/top1_error"]) == pytest.approx(event.value)
    assert {"train_inputs/96", "train_inputs/72", "val_96/confusion", "val_96/worst_mistakes"} <= set(
        tags["images"]
    )
    assert "_hparams_/session_start_info" in events.summary_metadata
    # A second run of the same configuration gets a folder of its own.
    again = train(compose(tiny("trainer.max_epochs=1")))
    assert Path(again["folder"]).name == folder.name + "-2"
    # Its only epoch is at 96.
    warning = "warning: never trained at 72, too few epochs: trainer.max_epochs=1 sizes.kind=alternate"
    assert warning in (Path(again["folder"]) / "train.log").read_text()
    assert "never trained" not in (folder / "train.log").read_text()


def test_val_error_is_that_of_the_saved_network_counted_by_hand(tiny, tmp_path: Path) -> None:
    """Independent way: the checkpoint alone, images cut and resized with Pillow, errors counted in a loop."""
    root = tmp_path / "photos"
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 9)):
        for number, name in enumerate(["blue", "green", "red"]):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 120, (64, 64, 3))
                pixels[..., number] += rng.integers(20, 130)
                Image.fromarray(pixels.astype(np.uint8)).save(root / split / name / f"{i}.png")
    result = train(
        compose(
            tiny(
                "data=folder",
                f"data.root={root}",
                "data.batch_size=8",
                "augment.shorter_side=64",
                "sizes=single_224",
                "sizes.sizes=[64]",
                "pyramid=l1",
            )
        )
    )
    net = load_classifier(result["last_checkpoint"])
    mean, std = (torch.tensor(net.model_info[k]).view(3, 1, 1) for k in ("mean", "std"))
    wrong, losses = 0, []
    for number, name in enumerate(net.model_info["classes"]):
        for path in sorted((root / "val" / name).glob("*.png")):
            x = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) / 255
            with torch.no_grad():
                logits = net(((x - mean) / std)[None])
            wrong += int(logits.argmax()) != number
            losses.append(float(F.cross_entropy(logits, torch.tensor([number]))))
    assert result["last"]["val_64/top1_error"] == pytest.approx(100 * wrong / 27)
    assert result["last"]["val_64/top5_error"] == 0
    assert result["last"]["val_64/loss"] == pytest.approx(np.mean(losses), rel=1e-4)


def test_a_diverging_run_stops_and_keeps_its_last_good_checkpoint(tiny, prepared) -> None:
    first = prepared("trainer.max_epochs=1", "run_name=diverges")
    good = Path(first["last_checkpoint"]).read_bytes()
    with pytest.raises(DivergedError) as caught:
        train(
            compose(tiny("run_name=diverges", "ckpt_path=auto", "optimizer.lr=1e30", "trainer.max_epochs=3"))
        )
    assert "at epoch 1, step" in str(caught.value)
    assert "optimizer.lr" in str(caught.value)
    assert Path(first["last_checkpoint"]).read_bytes() == good


def test_a_full_disk_is_one_line_and_costs_no_checkpoint(tiny, prepared, loaded: Loaded) -> None:
    """RLIMIT_FSIZE makes every write past a size fail, as a full disk does."""
    first = prepared("trainer.max_epochs=1", "run_name=full")
    checkpoint = Path(first["last_checkpoint"])
    good = checkpoint.read_bytes()
    limit = len(good) // 2
    code = (
        "import resource, sys; "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); "
        "from sppcls.cli.main import train_main; sys.exit(train_main())"
    )
    words = tiny("run_name=full", "ckpt_path=auto")
    done = loaded.run(["-c", code, *words])
    assert done.returncode == 1
    assert "could not be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
    assert checkpoint.read_bytes() == good
    assert not list(checkpoint.parent.glob(".*.tmp"))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "damaged"), (b"hello", "not a checkpoint"), (None, "damaged")],
    ids=["empty", "text", "cut"],
)
def test_a_bad_checkpoint_is_one_line(
    tiny, prepared, tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "bad.ckpt"
    if content is None:
        whole = Path(prepared("trainer.max_epochs=1")["last_checkpoint"]).read_bytes()
        content = whole[: len(whole) // 2]
    path.write_bytes(content)
    for attempt in (lambda: load_classifier(path), lambda: train(compose(tiny(f"ckpt_path={path}")))):
        with pytest.raises(CheckpointError) as caught:
            attempt()
        assert str(path) in str(caught.value)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_checkpoint_that_would_run_code_does_not(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "touched",))

    torch.save({"sppcls": Evil(), "state_dict": {}}, tmp_path / "evil.ckpt")
    with pytest.raises(CheckpointError, match="read safely"):
        load_classifier(tmp_path / "evil.ckpt")
    assert not (tmp_path / "touched").exists()


def test_other_files_are_not_checkpoints_of_sppcls(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match="not a checkpoint written by sppcls"):
        load_classifier(tmp_path / "other.ckpt")
    torch.save({"state_dict": {}, "sppcls": {"format": 99, "version": "9.0"}}, tmp_path / "new.ckpt")
    with pytest.raises(CheckpointError, match="format 99 written by sppcls 9.0"):
        load_classifier(tmp_path / "new.ckpt")


def make_photos(
    root: Path, classes: list[str], per_class: int = 4, splits: tuple[str, ...] = ("train", "val")
) -> None:
    rng = np.random.default_rng(1)
    for split in splits:
        for name in classes:
            (root / split / name).mkdir(parents=True)
            for i in range(per_class):
                pixels = rng.integers(0, 255, (80, 90, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.jpg")


def test_a_checkpoint_of_other_classes_is_refused_and_names_them(tiny, tmp_path: Path) -> None:
    make_photos(tmp_path / "one", ["cat", "dog"])
    make_photos(tmp_path / "two", ["cat", "cow"])
    words = tiny("data=folder", "data.batch_size=4", "trainer.max_epochs=1")
    first = train(compose([*words, f"data.root={tmp_path / 'one'}"]))
    with pytest.raises(CheckpointError, match="only in the checkpoint: dog; only in the data: cow"):
        train(compose([*words, f"data.root={tmp_path / 'two'}", f"ckpt_path={first['last_checkpoint']}"]))


def test_a_bad_image_is_found_before_training_or_skipped_and_named(tiny, tmp_path: Path, capsys) -> None:
    root = tmp_path / "photos"
    make_photos(root, ["cat", "dog"], per_class=8)
    cut = root / "train" / "dog" / "3.jpg"
    cut.write_bytes(cut.read_bytes()[:700])  # a whole header: only decoding can tell
    words = tiny("data=folder", f"data.root={root}", "data.batch_size=4", "trainer.max_epochs=1")
    result = train(compose(words))
    printed = capsys.readouterr().out
    assert "1 images could not be read" in printed
    assert "3.jpg" in printed
    # Also where it is alone in its batch, in training and in validation.
    (root / "val" / "cat" / "7.jpg").write_bytes(cut.read_bytes())
    assert train(compose([*words, "data.batch_size=1", "data.val_batch_size=1"]))["epochs"] == 1
    (root / "val" / "cat" / "7.jpg").unlink()
    capsys.readouterr()
    assert rows_of(result)[0]["images_seen"] == "15"
    with pytest.raises(ImageError, match=r"3\.jpg"):
        train(compose([*words, "data.on_error=raise"]))
    (root / "train" / "cat" / "0.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"0\.jpg"):
        train(compose(words))


def test_impossible_requests_are_refused_before_a_folder_is_made(tiny, tmp_path: Path) -> None:
    for words, message in (
        (["data.batch_size=49"], "the training set has 48; choose at most 48"),
        (["sizes.sizes=[96,8]"], "8x8"),
        (["pyramid=none"], "72x72"),
        (["data=folder", f"data.root={tmp_path / 'nowhere'}"], "no such folder"),
        (["trainer.accelerator=gpu"], "no GPU"),
    ):
        if message == "no GPU" and torch.cuda.is_available():
            continue
        with pytest.raises(SppclsError) as caught:
            train(compose(tiny(*words)))
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_a_runs_dir_that_cannot_be_written_is_named(tiny, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", Path("/proc/nothing")):
        with pytest.raises(ConfigError, match=f"runs_dir={place}"):
            train(compose(tiny(f"runs_dir={place}")))


def test_validation_above_the_training_size_is_not_an_enlarged_training_region(tiny) -> None:
    config = compose(tiny("sizes=single_180", "sizes.sizes=[72]", "sizes.val_sizes=[96,72]"))
    datamodule = make_datamodule(config, size_schedule(config), *load_sources(config)[:2])
    batch = next(iter(datamodule.val_dataloader()))
    assert batch.image.shape[2:] == (96, 96)
    assert next(iter(datamodule.train_dataloader())).image.shape[2:] == (72, 72)


def test_seeds_are_judged_by_the_same_images() -> None:
    images = [load_sources(compose([f"seed={seed}"]))[1].image(3) for seed in (0, 1)]
    assert torch.equal(*images)


def test_ema_with_warmup_against_a_loop() -> None:
    rule, value, expected = ema_with_warmup(0.9), torch.tensor(0.0), 0.0
    for n in range(200):
        current = float(n % 7)
        weight = min(0.9, (1 + n) / (10 + n))
        expected = weight * expected + (1 - weight) * current
        value = rule(value, torch.tensor(current), n)
    assert float(value) == pytest.approx(expected, rel=1e-4)


def test_ema_leaves_what_does_not_change_as_it_is() -> None:
    weights = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    value = weights
    for n in range(50):
        value = ema_with_warmup(0.999)(value, weights.clone(), n)
    assert torch.equal(value, weights)


def test_class_names_that_are_no_plain_text_do_not_stop_a_run(tiny, tmp_path: Path, capsys) -> None:
    root = tmp_path / "photos"
    make_photos(root, ["$5_vs_$10", "größe 中文"])
    words = [
        "data=folder",
        f"data.root={root}",
        "data.batch_size=4",
        "trainer.max_epochs=1",
        "log.images=true",
    ]
    result = train(compose(tiny(*words)))
    assert "could not be drawn" not in capsys.readouterr().out
    assert load_classifier(result["last_checkpoint"]).model_info["classes"] == ["$5_vs_$10", "größe 中文"]


def test_the_word_to_resume_with_can_be_pasted() -> None:
    for path in ("/a/b/last.ckpt", "/a b/it's/last.ckpt", "/x=1/[2,3]/last.ckpt"):
        words = shlex.split(resume_word(Path(path)))
        assert compose(words).ckpt_path == path
