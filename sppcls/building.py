"""From a config to the parts of a run: images, network, loaders."""

from __future__ import annotations

import os

import torch

from sppcls.config import Config, as_dict, size_schedule
from sppcls.console import say
from sppcls.data import (
    EvalTransform,
    FileSource,
    Size,
    SizeSchedule,
    Source,
    Splits,
    TrainTransform,
    as_size,
    build_sources,
    check_headers,
)
from sppcls.data.cache import ImageCache, cache_folders, open_cache
from sppcls.data.datamodule import ImageDataModule
from sppcls.data.sizes import area
from sppcls.errors import ConfigError, DataError
from sppcls.nn import SPPClassifier, build_classifier


def val_sizes(config: Config, schedule: SizeSchedule) -> list[Size]:
    """Sizes to validate at, the main one first: the schedule's largest if asked for, else the largest."""
    asked = config.sizes.val_sizes
    sizes = list(schedule.training_sizes) if asked is None else [as_size(s, "sizes.val_sizes") for s in asked]
    main = schedule.main if schedule.main in sizes else max(sizes, key=area)
    return [main, *(size for size in dict.fromkeys(sizes) if size != main)]


def load_sources(config: Config) -> Splits:
    """The images of a run; file headers are checked if ``data.check`` says so.

    Raises:
        DataError: what is missing or inconsistent, or the files that are no readable images.
    """
    data = config.data
    # No seed of the run: runs that differ in their seed only are judged by the same images.
    splits = build_sources(
        data.name,
        data.root,
        download=data.download,
        val_fraction=data.val_fraction,
        max_pixels=data.max_pixels,
        num_train=data.num_train,
        num_val=data.num_val,
    )
    if data.check:
        bad = [line for source in splits[:3] if source is not None for line in check_headers(source)]
        if bad:
            shown = "; ".join(f"{name}: {reason}" for name, reason in bad[:5])
            more = f"; and {len(bad) - 5} more" if len(bad) > 5 else ""
            raise DataError(
                f"{len(bad)} files are not readable images (remove them, or data.check=false skips them): {shown}{more}"
            )
    return splits


def build_network(config: Config, num_classes: int, resumed: bool = False) -> SPPClassifier:
    """The network of a config; what it refuses becomes a ConfigError.

    ``resumed``: its weights will come from a checkpoint, so ``backbone.weights`` is not read and may be gone.
    """
    plain = as_dict(config)
    if resumed:
        plain["backbone"]["weights"] = None
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


def make_transforms(config: Config, schedule: SizeSchedule) -> tuple[TrainTransform, EvalTransform]:
    """What becomes of a training and of a validation image."""
    augment, region = config.augment, schedule.largest
    train = TrainTransform(
        region,
        crop=augment.crop,
        flip=augment.flip,
        lighting=augment.lighting,
        shorter_side=augment.shorter_side,
        scale=(augment.scale[0], augment.scale[1]),
        ratio=(augment.ratio[0], augment.ratio[1]),
        trivial_augment=augment.trivial_augment,
        erasing=augment.erasing,
        cache_side=config.data.cache_shorter_side,
    )
    # The largest of all sizes: a validation size above the training sizes must not be an enlarged image.
    largest = max([region, *val_sizes(config, schedule)], key=area)
    return train, EvalTransform(largest, augment.shorter_side)


def make_caches(
    config: Config, schedule: SizeSchedule, train_source: Source, val_source: Source
) -> tuple[ImageCache, ImageCache] | None:
    """The caches that ``data.cache`` asks for, built if need be; None without.

    Raises:
        ConfigError: they do not fit on the disk, or cannot be written.
    """
    data = config.data
    if data.cache == "none":
        return None
    folders = cache_folders(data.cache_dir, str(data.root))

    def build(split: str, source: Source, transform: TrainTransform | EvalTransform) -> ImageCache:
        name = f"{data.name}/{os.path.realpath(str(data.root))}/{data.val_fraction}/{data.max_pixels}/{split}"
        assert isinstance(source, FileSource)
        return open_cache(source, transform, folders, name, workers=data.workers, say=say)

    train_transform, eval_transform = make_transforms(config, schedule)
    return build("train", train_source, train_transform), build("val", val_source, eval_transform)


def make_datamodule(
    config: Config,
    schedule: SizeSchedule,
    train_source: Source,
    val_source: Source,
    caches: tuple[ImageCache, ImageCache] | None = None,
) -> ImageDataModule:
    """Loaders that the config asks for."""
    data = config.data
    train_transform, eval_transform = make_transforms(config, schedule)
    return ImageDataModule(
        train_source,
        val_source,
        schedule,
        batch_size=data.batch_size,
        val_batch_size=data.val_batch_size or data.batch_size,
        workers=data.workers,
        seed=config.seed,
        train_transform=train_transform,
        eval_transform=eval_transform,
        drop_last=data.drop_last,
        pixel_budget=config.sizes.pixel_budget,
        on_error=data.on_error,
        caches=caches or (None, None),
    )


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


def check_size(net: SPPClassifier, size: Size) -> None:
    try:
        net.check_input_size(*size)
    except ValueError as error:
        raise ConfigError(f"sizes: {' '.join(str(error).split())}") from None
