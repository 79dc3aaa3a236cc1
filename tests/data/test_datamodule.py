"""Real Lightning runs: order, sizes and augmentation of a resumed run are those of the uninterrupted one."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint

from sppcls.data.datamodule import ImageDataModule
from sppcls.data.files import ArraySource
from sppcls.data.sizes import make_schedule
from sppcls.data.transforms import EvalTransform, TrainTransform, prepare_batch
from sppcls.errors import ConfigError, ImageError

pytestmark = pytest.mark.filterwarnings("ignore")

EPOCHS = 4
PIXELS = np.random.default_rng(0).integers(0, 256, (26, 20, 24, 3), np.uint8)
SCHEDULE = make_schedule("alternate", [16, 12], seed=0, epochs=EPOCHS)


class Flawed(ArraySource):
    def __init__(self, *args, bad=()):
        super().__init__(*args)
        self.bad = bad

    def image(self, index):
        if index in self.bad:
            raise ImageError(f"{self.name(index)}: damaged image")
        return super().image(index)


def source(n=26, bad=()):
    return Flawed(PIXELS[:n], [index % 2 for index in range(n)], ["a", "b"], "x", bad=bad)


def datamodule(workers=0, train=None, val=None, **options):
    return ImageDataModule(
        train or source(),
        val or source(7),
        SCHEDULE,
        **{"batch_size": 4, "seed": 0, **options},
        workers=workers,
        train_transform=TrainTransform((16, 16), crop="anywhere"),
        eval_transform=EvalTransform((16, 16)),
    )


class Recorder(pl.LightningModule):
    """A linear model that writes down what it is shown."""

    def __init__(self, stop_at=None, dropout=0.0):
        super().__init__()
        self.dropout = torch.nn.Dropout(dropout)
        self.layer = torch.nn.Linear(3, 2)
        torch.nn.init.zeros_(self.layer.weight)
        torch.nn.init.zeros_(self.layer.bias)
        self.seen, self.validated, self.stop_at = [], [], stop_at

    def training_step(self, batch, batch_idx):
        size = SCHEDULE.at(batch.epoch, batch.step)
        x = prepare_batch(batch.image, size, (0.5,) * 3, (0.2,) * 3, batch.lighting)
        if (batch.epoch, batch.step) == self.stop_at:
            raise KeyboardInterrupt
        assert (batch.epoch, batch.step) == (self.current_epoch, batch_idx)
        self.seen.append(
            (batch.epoch, batch.step, size, batch.index.tolist(), zlib.crc32(x.numpy().tobytes()))
        )
        return torch.nn.functional.cross_entropy(self.layer(self.dropout(x.mean((2, 3)))), batch.target)

    def validation_step(self, batch, batch_idx):
        self.validated += batch.index.tolist()
        assert (batch.epoch, batch.step) == (0, 0)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def fit(data, *, ckpt_path=None, callbacks=(), dropout=0.0, **options):
    torch.manual_seed(0)
    module = Recorder(dropout=dropout)
    trainer = pl.Trainer(
        max_epochs=EPOCHS, accelerator="cpu", devices=1, logger=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, callbacks=list(callbacks),
        enable_checkpointing=any(isinstance(c, Checkpoint) for c in callbacks), **options,
    )  # fmt: skip
    trainer.fit(module, datamodule=data, ckpt_path=ckpt_path)
    return module


def saver(folder, **options):
    return ModelCheckpoint(folder, filename="{epoch}-{step}", save_top_k=-1, **options)


KINDS = {
    "epoch_end": {"every_n_epochs": 1, "save_on_train_epoch_end": True},
    "val_end": {"every_n_epochs": 1, "save_on_train_epoch_end": False},
    "mid_epoch": {"every_n_train_steps": 2},
}


OPTIONS = {
    "w0": (0, {}),
    "w2": (2, {}),
    "accumulate": (0, {"accumulate_grad_batches": 2}),
    "limit_int": (0, {"limit_train_batches": 5}),
    "limit_share": (0, {"limit_train_batches": 0.5}),
}
# A checkpoint within an epoch is the hardest of them: it meets each of the options. The other pairs take long.
OFTEN = [*(("mid_epoch", name) for name in OPTIONS), ("epoch_end", "w0"), ("epoch_end", "w2"), ("val_end", "w0"),
         ("val_end", "accumulate")]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "workers", "options"),
    [
        pytest.param(
            kind,
            *OPTIONS[name],
            id=f"{kind}-{name}",
            marks=[] if (kind, name) in OFTEN else [pytest.mark.long],
        )
        for kind in KINDS
        for name in OPTIONS
    ],
)
def test_resume_repeats_the_uninterrupted_run(tmp_path, kind, workers, options):
    full = fit(datamodule(workers), callbacks=[saver(tmp_path, **KINDS[kind])], **options)
    steps = {"limit_train_batches": None, **options}["limit_train_batches"]
    steps = {None: 7, 5: 5, 0.5: 3}[steps]
    assert [record[:3] for record in full.seen] == [
        (epoch, step, (16, 16) if epoch % 2 == 0 else (12, 12))
        for epoch in range(EPOCHS)
        for step in range(steps)
    ]
    checkpoints = sorted(tmp_path.glob("*.ckpt"), key=lambda path: int(path.stem.split("step=")[1]))
    assert len(checkpoints) >= 3
    for path in checkpoints[::3] if workers else checkpoints[:-1]:
        batches = torch.load(path, weights_only=True)["loops"]["fit_loop"]["epoch_loop.batch_progress"][
            "total"
        ]["ready"]
        resumed = fit(datamodule(workers), ckpt_path=path, **options)
        assert resumed.seen == full.seen[batches:], path.name
        assert torch.equal(resumed.layer.weight, full.layer.weight), path.name


@pytest.mark.parametrize("options", [{"pixel_budget": True}, {"drop_last": True}])
def test_resume_with_a_pixel_budget_or_full_batches(tmp_path, options):
    full = fit(datamodule(**options), callbacks=[saver(tmp_path, every_n_train_steps=5)])
    for path in sorted(tmp_path.glob("*.ckpt")):
        resumed = fit(datamodule(**options), ckpt_path=path)
        assert resumed.seen == full.seen[-len(resumed.seen) :]
        assert torch.equal(resumed.layer.weight, full.layer.weight)


def test_interrupted_in_a_step_and_resumed_twice(tmp_path):
    """A step that was begun and not finished counts as ready in Lightning's books, for ever after."""

    class SaveOnInterrupt(pl.Callback):
        def on_exception(self, trainer, pl_module, exception):
            trainer.save_checkpoint(tmp_path / "interrupted.ckpt")

    full = fit(datamodule())
    path = None
    parts = []
    for stop_at in [(1, 3), (2, 5), None]:
        module = Recorder(stop_at)
        trainer = pl.Trainer(
            max_epochs=EPOCHS, accelerator="cpu", logger=False, enable_progress_bar=False,
            enable_model_summary=False, use_distributed_sampler=False, enable_checkpointing=False,
            callbacks=[SaveOnInterrupt()],
        )  # fmt: skip
        try:
            trainer.fit(module, datamodule=datamodule(), ckpt_path=path)
        except (KeyboardInterrupt, SystemExit):
            assert stop_at is not None
        parts += module.seen
        path = tmp_path / "interrupted.ckpt"
    assert parts == full.seen
    assert torch.equal(module.layer.weight, full.layer.weight)


def test_workers_and_validation_do_not_change_training():
    """Nor the network's own random numbers: the loaders leave the global generator alone."""
    alone = fit(datamodule(0), limit_val_batches=0, dropout=0.5)
    others = [
        fit(datamodule(0), dropout=0.5),
        fit(datamodule(1), dropout=0.5, check_val_every_n_epoch=2),
        fit(datamodule(2), dropout=0.5),
    ]
    for other in others:
        assert other.seen == alone.seen
        assert torch.equal(other.layer.weight, alone.layer.weight)


def test_every_image_once_per_epoch_and_validated_once():
    module = fit(datamodule(), num_sanity_val_steps=0)
    for epoch in range(EPOCHS):
        assert sorted(i for e, _, _, batch, _ in module.seen for i in batch if e == epoch) == list(range(26))
    assert module.validated == list(range(7)) * EPOCHS


@pytest.mark.parametrize("workers", [0, 2])
def test_overfitting_a_few_batches(workers):
    """Lightning may put its own sampler in place of ours; the data set then gets plain numbers."""
    module = fit(datamodule(workers), overfit_batches=2)
    assert len(module.seen) == 2 * EPOCHS


def test_seeds_differ_and_0_is_a_seed():
    runs = [fit(datamodule(seed=seed), max_steps=7).seen for seed in (0, 1, 0)]
    assert runs[0] == runs[2] != runs[1]


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_images_are_skipped_and_named(workers):
    data = datamodule(workers, train=source(bad=(3, 8)), val=source(7, bad=(2,)))
    bad = []

    class Names(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            bad.extend(batch.bad)

    module = fit(data, callbacks=[Names()], num_sanity_val_steps=0)
    assert sorted(bad) == sorted(["x/00003: damaged image", "x/00008: damaged image"] * EPOCHS)
    assert sorted(i for e, _, _, batch, _ in module.seen for i in batch if e == 0) == sorted(
        set(range(26)) - {3, 8}
    )
    assert module.validated == [0, 1, 3, 4, 5, 6] * EPOCHS


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_images_can_stop_the_run_in_one_line(workers):
    with pytest.raises(ImageError) as caught:
        fit(datamodule(workers, train=source(bad=(3,)), on_error="raise"))
    assert str(caught.value) == "x/00003: damaged image"


def test_a_batch_without_a_readable_image_is_empty_and_names_them():
    batches = list(datamodule(val=source(7, bad=(4, 5, 6))).val_dataloader())
    assert [len(batch.target) for batch in batches] == [4, 0]
    assert [line.split(":")[0] for line in batches[1].bad] == ["x/00004", "x/00005", "x/00006"]


def test_val_image_is_what_validation_sees():
    data = datamodule()
    (batch, *_) = data.val_dataloader()
    assert torch.equal(data.val_image(2), batch.image[2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, r"data\.batch_size=0"),
        ({"val_batch_size": 0}, r"data\.val_batch_size=0"),
        ({"workers": -1}, r"data\.workers=-1"),
        ({"on_error": "ignore"}, r"data\.on_error='ignore': choose from skip, raise"),
    ],
)
def test_impossible_options_are_refused_by_key(options, message):
    with pytest.raises(ConfigError, match=message):
        datamodule(**options)


@pytest.mark.run
def test_two_processes_share_the_images(tmp_path, loaded):
    """Two gloo ranks: same sizes, disjoint halves, every image once; validation neither padded nor short."""
    script = Path(__file__).with_name("two_processes.py")
    done = loaded.run([script, tmp_path], children=1, timeout=300)
    assert done.returncode == 0, done.stderr
    ranks = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert [record[:3] for record in ranks[0]["seen"]] == [record[:3] for record in ranks[1]["seen"]]
    single = fit(datamodule(batch_size=8), max_steps=4 * 2)
    for alone, *shares in zip(single.seen, ranks[0]["seen"], ranks[1]["seen"], strict=True):
        assert alone[:3] == shares[0][:3]
        assert sorted(shares[0][3] + shares[1][3]) == sorted(alone[3])
    assert sorted(ranks[0]["validated"] + ranks[1]["validated"]) == sorted(list(range(7)) * 2)
