"""Train a classifier from a config: the main job."""

from __future__ import annotations

import errno
import logging
import os
import shlex
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EMAWeightAveraging, TQDMProgressBar

from sppcls.composition import to_yaml
from sppcls.config import Config, as_dict, size_schedule
from sppcls.console import say, start_console, table
from sppcls.data import (
    EvalTransform,
    Size,
    SizeSchedule,
    Source,
    TrainTransform,
    as_size,
    build_sources,
    check_headers,
    size_label,
)
from sppcls.data.datamodule import ImageDataModule
from sppcls.engine.checkpoint import AtomicCheckpointIO, check_resume, make_card, read_checkpoint
from sppcls.engine.logger import RunLogger
from sppcls.engine.module import ClassificationModule
from sppcls.engine.pictures import Pictures
from sppcls.engine.progress import make_progress
from sppcls.engine.report import Report
from sppcls.engine.saving import Saving
from sppcls.errors import ConfigError, DataError, SppclsError
from sppcls.nn import LevelLargerThanMapWarning, Pyramid, SPPClassifier, build_classifier
from sppcls.run_folder import (
    BEST,
    LAST,
    check_writable,
    claim_run_folder,
    own_last_checkpoint,
    pyramid_label,
)

# The folder that the first process of a distributed run has claimed, for the processes that it starts.
_FOLDER_VARIABLE = "SPPCLS_RUN_FOLDER"


def train(config: Config) -> dict[str, Any]:
    """Train as ``config`` says and return what came out.

    Args:
        config: from :func:`sppcls.compose`. With ``ckpt_path`` set, the run of that checkpoint goes on in its folder.

    Returns:
        ``{"folder", "best_checkpoint", "last_checkpoint", "epochs", "best", "last"}``; ``best`` and ``last`` map
        validation sizes (``"224"``) to loss, top1_error and top5_error (per cent).

    Raises:
        SppclsError: one line on what is wrong; before any training where that is possible.
    """
    _quiet_lightning()
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    checkpoint_path = resume_path(config)
    checkpoint = read_checkpoint(checkpoint_path) if checkpoint_path else None
    run = _Run(config)
    if checkpoint is not None:
        assert checkpoint_path is not None
        check_resume(checkpoint, run.card, checkpoint_path)
    del checkpoint
    folder = _run_folder(config, checkpoint_path)
    try:
        return run.fit(folder, checkpoint_path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
            raise SppclsError(
                f"{folder}: {os.strerror(error.errno)}; the last checkpoint written is intact"
            ) from None
        raise
    finally:
        os.environ.pop(_FOLDER_VARIABLE, None)
        start_console(None)


def resume_path(config: Config) -> Path | None:
    """The checkpoint that ``ckpt_path`` stands for; None to start afresh."""
    if config.ckpt_path is None:
        return None
    return own_last_checkpoint(config) if config.ckpt_path == "auto" else Path(config.ckpt_path)


def val_sizes(config: Config, schedule: SizeSchedule) -> list[Size]:
    """Sizes to validate at, the main one first: the schedule's largest if asked for, else the largest."""
    asked = config.sizes.val_sizes
    sizes = list(schedule.training_sizes) if asked is None else [as_size(s, "sizes.val_sizes") for s in asked]
    main = schedule.main if schedule.main in sizes else max(sizes, key=lambda s: s[0] * s[1])
    return [main, *(size for size in dict.fromkeys(sizes) if size != main)]


class _Run:
    """Everything a run is made of, built and checked before anything is written."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.schedule = size_schedule(config)
        self.accelerator = _accelerator(config.trainer.accelerator)
        self.val_sizes = val_sizes(config, self.schedule)
        self.train_source, self.val_source = load_sources(config)
        self.devices = _device_count(config, self.accelerator)
        check_batch(config, len(self.train_source), self.devices)
        self.architecture = {
            "backbone": as_dict(config)["backbone"],
            "pyramid": as_dict(config)["pyramid"],
            "head": as_dict(config)["head"],
            "num_classes": len(self.train_source.classes),
            "input_size": list(self.schedule.largest),
            "init": config.init,
        }
        pl.seed_everything(config.seed, verbose=False)
        self.net = build_network(config, len(self.train_source.classes))
        for size in {*self.schedule.training_sizes, *self.val_sizes}:
            _check_size(self.net, size)
        self.card = make_card(
            architecture=self.architecture,
            classes=self.train_source.classes,
            mean=config.data.mean,
            std=config.data.std,
            train_sizes=list(self.schedule.training_sizes),
            val_sizes=self.val_sizes,
            config=as_dict(config),
        )

    def fit(self, folder: Path, checkpoint_path: Path | None) -> dict[str, Any]:
        config = self.config
        first = int(os.environ.get("LOCAL_RANK", 0)) == 0 and int(os.environ.get("NODE_RANK", 0)) == 0
        start_console(folder if first else None)
        if first:
            (folder / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
            say(self._summary(folder, checkpoint_path))
        net = self.net.to(memory_format=torch.channels_last)
        module = ClassificationModule(
            net, config, self.schedule, self.val_sizes, self.train_source.classes, self.card
        )
        if config.trainer.compile:
            net.compile(dynamic=False)
        datamodule = make_datamodule(config, self.schedule, self.train_source, self.val_source)
        trainer = self._trainer(folder)
        started = time.perf_counter()
        # weights_only: a checkpoint to resume from may have come from anywhere.
        trainer.fit(module, datamodule, ckpt_path=checkpoint_path, weights_only=True)
        result = {
            "folder": str(folder),
            "best_checkpoint": str(folder / BEST),
            "last_checkpoint": str(folder / LAST),
            "epochs": trainer.current_epoch,
            "best": module.best["val_results"] if module.best else {},
            "last": module.val_results,
        }
        if first:
            say(self._closing(module, folder, time.perf_counter() - started))
        return result

    def _trainer(self, folder: Path) -> pl.Trainer:
        options = self.config.trainer
        progress = make_progress(self.config.log.progress)
        callbacks: list[Callback] = [
            Report(folder, self._hyperparameters()),
            Saving(folder, self.config.log.save_every_minutes),
            progress,
        ]
        if self.config.log.images:
            callbacks.append(Pictures())
        if self.config.ema.enabled:
            callbacks.insert(0, EMAWeightAveraging(decay=self.config.ema.decay))
        return pl.Trainer(
            default_root_dir=folder,
            max_epochs=options.max_epochs,
            accelerator=self.accelerator,
            devices=options.devices,
            num_nodes=options.num_nodes,
            strategy=options.strategy,
            precision=options.precision,  # type: ignore[arg-type]
            accumulate_grad_batches=options.accumulate_grad_batches,
            gradient_clip_val=options.gradient_clip_norm,
            deterministic=options.deterministic,
            sync_batchnorm=options.sync_batchnorm,
            limit_train_batches=options.limit_train_batches,
            limit_val_batches=options.limit_val_batches,
            check_val_every_n_epoch=options.val_every,
            num_sanity_val_steps=1,
            log_every_n_steps=self.config.log.every_n_steps,
            logger=RunLogger(folder),
            callbacks=callbacks,
            plugins=[AtomicCheckpointIO()],
            use_distributed_sampler=False,
            enable_model_summary=False,
            enable_progress_bar=isinstance(progress, TQDMProgressBar),
        )

    def _summary(self, folder: Path, checkpoint_path: Path | None) -> str:
        config, net = self.config, self.net
        train, val = self.train_source, self.val_source
        sizes = ", ".join(map(size_label, self.schedule.training_sizes))
        rows = [
            ("data", f"{config.data.name}: {len(train):,} training, {len(val):,} validation images"),
            ("classes", _shorten(train.classes)),
            (
                "sizes",
                f"{self.schedule.label} ({sizes}); validated at {', '.join(map(size_label, self.val_sizes))}",
            ),
            (
                "backbone",
                f"{_backbone_label(config)}, {net.backbone.out_channels} channels, stride {net.backbone.stride}",
            ),
        ]
        rows += [("pooling", line) for line in pooling_lines(config, net, self.schedule)]
        rows += [
            ("head", f"{config.head.name} {'-'.join(map(str, config.head.hidden))}".strip()),
            ("parameters", f"{parameter_count(net):,}"),
            (
                "training",
                f"{config.trainer.max_epochs} epochs, {config.optimizer.name} {config.optimizer.lr:g}, "
                f"{config.scheduler.name}, batch {config.data.batch_size} x {self.devices}",
            ),
            (
                "device",
                f"{_device_label(self.accelerator)}, {config.trainer.precision}, {config.data.workers} loader processes",
            ),
            ("folder", str(folder)),
        ]
        if checkpoint_path is not None:
            rows.append(("resumed", str(checkpoint_path)))
        labels = [label if i == 0 or rows[i - 1][0] != label else "" for i, (label, _) in enumerate(rows)]
        return table([(label, text) for label, (_, text) in zip(labels, rows, strict=True)]) + "\n"

    def _closing(self, module: ClassificationModule, folder: Path, seconds: float) -> str:
        lines = [
            f"\nTrained {module.trainer.current_epoch} epochs; {seconds / 60:.1f} min in this session of the run."
        ]
        if module.best:
            lines.append(f"Best at epoch {module.best['epoch'] + 1}:")
            for name, figures in module.best["val_results"].items():
                lines.append(
                    f"  {name}: top-1 error {figures['top1_error']:.2f} %, top-5 error {figures['top5_error']:.2f} %"
                )
        if module.bad_images:
            names = list(module.bad_images)
            lines.append(f"{len(names)} images could not be read and were left out:")
            lines += [f"  {name}" for name in names[:10]] + (["  ..."] if len(names) > 10 else [])
        lines.append(f"Checkpoint: {folder / BEST}")
        lines.append(f"Look at it: tensorboard --logdir {shlex.quote(str(self.config.runs_dir))}")
        return "\n".join(lines)

    def _hyperparameters(self) -> dict[str, Any]:
        """The HParams row: what people vary, as numbers and short text."""
        config = self.config
        levels = config.pyramid.levels
        return {
            "data": config.data.name,
            "sizes": self.schedule.label,
            "levels": pyramid_label(config),
            "bins": Pyramid(levels).bins if levels else 0,
            "bin_rule": config.pyramid.bins,
            "pool": config.pyramid.mode,
            "backbone": _backbone_label(config),
            "width": config.backbone.width if config.backbone.width is not None else 1.0,
            "norm": config.backbone.norm or "own",
            "pretrained": config.backbone.weights is not None,
            "head": f"{config.head.name} {'-'.join(map(str, config.head.hidden))}".strip(),
            "dropout": config.head.dropout,
            "augment": config.augment.crop,
            "optimizer": config.optimizer.name,
            "lr": config.optimizer.lr,
            "weight_decay": config.optimizer.weight_decay,
            "scheduler": config.scheduler.name,
            "batch_size": config.data.batch_size * self.devices * config.trainer.accumulate_grad_batches,
            "epochs": config.trainer.max_epochs,
            "label_smoothing": config.mix.label_smoothing,
            "mixup": config.mix.mixup,
            "cutmix": config.mix.cutmix,
            "ema": config.ema.enabled,
            "init": config.init,
            "precision": config.trainer.precision,
            "seed": config.seed,
            "parameters": parameter_count(self.net),
        }


def load_sources(config: Config) -> tuple[Source, Source]:
    """Training and validation images; file headers are checked if ``data.check`` says so.

    Raises:
        DataError: what is missing or inconsistent, or the files that are no readable images.
    """
    data = config.data
    train_source, val_source = build_sources(
        data.name,
        data.root,
        seed=config.seed,
        download=data.download,
        val_fraction=data.val_fraction,
        max_pixels=data.max_pixels,
        num_train=data.num_train,
        num_val=data.num_val,
    )
    if data.check:
        bad = [*check_headers(train_source), *check_headers(val_source)]
        if bad:
            shown = "; ".join(f"{name}: {reason}" for name, reason in bad[:5])
            more = f"; and {len(bad) - 5} more" if len(bad) > 5 else ""
            raise DataError(
                f"{len(bad)} files are not readable images (remove them, or data.check=false skips them): {shown}{more}"
            )
    return train_source, val_source


def build_network(config: Config, num_classes: int) -> SPPClassifier:
    """The network of a config; what it refuses becomes a ConfigError."""
    plain = as_dict(config)
    try:
        return build_classifier(
            backbone=plain["backbone"],
            pyramid=plain["pyramid"],
            head=plain["head"],
            num_classes=num_classes,
            input_size=size_schedule(config).largest,
            init=config.init,
        )
    except (ValueError, TypeError, ImportError) as error:
        raise ConfigError(" ".join(str(error).split())) from None


def make_datamodule(
    config: Config, schedule: SizeSchedule, train_source: Source, val_source: Source
) -> ImageDataModule:
    """Loaders that the config asks for."""
    data, augment = config.data, config.augment
    region = schedule.largest
    return ImageDataModule(
        train_source,
        val_source,
        schedule,
        batch_size=data.batch_size,
        val_batch_size=data.val_batch_size or data.batch_size,
        workers=data.workers,
        seed=config.seed,
        train_transform=TrainTransform(
            region,
            crop=augment.crop,
            flip=augment.flip,
            lighting=augment.lighting,
            shorter_side=augment.shorter_side,
            scale=(augment.scale[0], augment.scale[1]),
            ratio=(augment.ratio[0], augment.ratio[1]),
            trivial_augment=augment.trivial_augment,
            erasing=augment.erasing,
        ),
        eval_transform=EvalTransform(region, augment.shorter_side),
        drop_last=data.drop_last,
        pixel_budget=config.sizes.pixel_budget,
        on_error=data.on_error,
    )


def pooling_lines(config: Config, net: SPPClassifier, schedule: SizeSchedule) -> list[str]:
    """Per training size: feature map, pooled length, and how many cells a bin of each level covers."""
    lines = []
    for size in schedule.training_sizes:
        height, width = net.backbone.feature_size(*size)
        text = f"{size_label(size)}: map {height} x {width}"
        if config.pyramid.levels is not None:
            pyramid = Pyramid(config.pyramid.levels)
            length = pyramid.output_length(net.backbone.out_channels)
            text += f" -> {pyramid.bins} bins ({pyramid.label}), vector {length:,}"
            finer = pyramid.larger_than((height, width))
            if finer:
                text += f"; level {Pyramid(finer).label} is finer than the map, its bins repeat cells"
        elif config.head.name != "conv":
            pooled = net.backbone.pooled_size(*size)
            text += f" -> last pooling {pooled[0]} x {pooled[1]} (no SPP)"
        lines.append(text)
    return lines


def check_batch(config: Config, num_train: int, devices: int) -> None:
    """Refuse a batch that the training set cannot fill.

    Raises:
        ConfigError: naming batch, devices and number of images.
    """
    if config.data.batch_size * devices > num_train:
        raise ConfigError(
            f"data.batch_size={config.data.batch_size}: {devices} device(s) need {config.data.batch_size * devices} "
            f"images per step, the training set has {num_train}; choose at most {max(1, num_train // devices)}"
        )


def parameter_count(net: torch.nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in net.parameters() if p.requires_grad)


def _check_size(net: SPPClassifier, size: Size) -> None:
    try:
        net.check_input_size(*size)
    except ValueError as error:
        raise ConfigError(f"sizes: {' '.join(str(error).split())}") from None


def _run_folder(config: Config, checkpoint_path: Path | None) -> Path:
    inherited = os.environ.get(_FOLDER_VARIABLE)
    if inherited:
        return Path(inherited)
    if checkpoint_path is None:
        folder = claim_run_folder(config)
    else:
        folder = checkpoint_path.resolve().parent
        if not (folder / "config.yaml").is_file():  # a checkpoint kept on its own: a new run grows from it
            folder = claim_run_folder(config)
        check_writable(folder)
    os.environ[_FOLDER_VARIABLE] = str(folder)
    return folder


def _accelerator(name: str) -> str:
    if name == "auto":
        return "gpu" if torch.cuda.is_available() else "cpu"
    if name == "gpu" and not torch.cuda.is_available():
        raise ConfigError("trainer.accelerator=gpu: torch sees no GPU here; choose cpu or auto")
    return name


def _device_count(config: Config, accelerator: str) -> int:
    devices = config.trainer.devices
    if isinstance(devices, Sequence) and not isinstance(devices, str):
        count = len(devices)
    elif devices == "auto":
        count = torch.cuda.device_count() if accelerator == "gpu" else 1
    else:
        count = int(devices)
    return count * config.trainer.num_nodes


def _device_label(accelerator: str) -> str:
    if accelerator == "gpu":
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"


def _backbone_label(config: Config) -> str:
    name = str(config.backbone.model if config.backbone.name == "timm" else config.backbone.name)
    width = "" if config.backbone.width in (None, 1) else f" x{config.backbone.width:g}"
    return name + width


def _shorten(classes: list[str], most: int = 8) -> str:
    text = ", ".join(classes[:most])
    return f"{len(classes)}: {text}" + (", ..." if len(classes) > most else "")


def _quiet_lightning() -> None:
    """Keep Lightning's start-up chatter and the warnings that do not apply out of the way."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
    # Said in the start-up table.
    warnings.filterwarnings("ignore", category=LevelLargerThanMapWarning)
    # Ours is: the sampler finds its place from the checkpoint's counters.
    warnings.filterwarnings("ignore", message=".*dataloader is not resumable.*")
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
