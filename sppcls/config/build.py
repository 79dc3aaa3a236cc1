"""From a config to the parts of a run: images, network, loaders."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch

from sppcls._util.allocator import trim_freed_memory
from sppcls._util.console import say
from sppcls._util.reason import reason_of
from sppcls.config.parts import values_of
from sppcls.config.schedule import size_schedule
from sppcls.config.schema import Config, as_dict
from sppcls.data import (
    EvalTransform,
    FileSource,
    Size,
    SizeSchedule,
    Source,
    Splits,
    TrainTransform,
    as_pixel_range,
    as_size,
    build_sources,
    check_headers,
    set_pixel_range,
)
from sppcls.data.balance import class_counts, image_weights
from sppcls.data.cache import ImageCache, cache_folders, open_cache
from sppcls.data.datamodule import ImageDataModule
from sppcls.data.files import keep_class_order
from sppcls.data.folds import into_folds
from sppcls.data.own import OwnTransform, own_splits
from sppcls.data.sizes import area
from sppcls.errors import ConfigError, DataError
from sppcls.nn import SPPClassifier, build_classifier
from sppcls.registry import build


def val_sizes(config: Config, schedule: SizeSchedule) -> list[Size]:
    """Sizes to validate at, the main one first: the schedule's largest if asked for, else the largest."""
    asked = config.sizes.val_sizes
    sizes = list(schedule.training_sizes) if asked is None else [as_size(s, "sizes.val_sizes") for s in asked]
    main = schedule.main if schedule.main in sizes else max(sizes, key=area)
    return [main, *(size for size in dict.fromkeys(sizes) if size != main)]


def find_sources(config: Config) -> Splits:
    """The images that a config names, not looked at; ``data.download`` may fetch them.

    Raises:
        DataError: what is missing or inconsistent, or a class too small for ``data.folds``.
    """
    return _folded(config, _named_splits(config))


def _folded(config: Config, splits: Splits) -> Splits:
    folds, fold = config.data.folds, config.data.fold
    return splits if folds is None or fold is None else into_folds(splits, folds, fold)


def _named_splits(config: Config) -> Splits:
    data = config.data
    if (own := values_of(data)) is not None:
        return own_splits(own)
    # No seed of the run: runs that differ in their seed only are judged by the same images.
    return build_sources(
        data.name,
        data.root,
        download=data.download,
        # What is held out here goes into folds with the rest; half leaves a class of two images on both sides.
        val_fraction=data.val_fraction if data.folds is None else 0.5,
        labels=data.labels,
        train_dir=data.train_dir,
        val_dir=data.val_dir,
        test_dir=data.test_dir,
        multi_label=data.multi_label,
        max_pixels=data.max_pixels,
        num_train=data.num_train,
        num_val=data.num_val,
    )


def load_sources(config: Config, classes: Sequence[str] | None = None, given: Splits | None = None) -> Splits:
    """The images of a run, those of a test split included; file headers are checked if ``data.check`` says so.

    Args:
        config: of the run.
        classes: of a checkpoint, whose numbers are kept if they are the same classes.
        given: from Python, in place of those that the config names.

    Raises:
        DataError: what is missing or inconsistent, or the files that are no readable images.
    """
    data = config.data
    splits = _folded(config, given) if given is not None else find_sources(config)
    for source in splits[:3]:
        if source is not None and classes is not None:
            keep_class_order(source, classes)
    set_pixel_range(as_pixel_range(data.pixel_range), *splits[:3])
    if data.check:
        bad = [line for source in splits[:3] if source is not None for line in check_headers(source)]
        if bad:
            shown = "; ".join(f"{name}: {reason}" for name, reason in bad[:5])
            more = f"; and {len(bad) - 5} more" if len(bad) > 5 else ""
            raise DataError(
                f"{len(bad)} files are not readable images (remove them, or data.check=false skips them): {shown}{more}"
            )
    trim_freed_memory()  # of names in listings, twice as much as what is kept of them
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
        raise ConfigError(reason_of(error)) from error


def make_transforms(config: Config, schedule: SizeSchedule) -> tuple[TrainTransform, EvalTransform]:
    """What becomes of a training and of a validation image."""
    augment, region = config.augment, schedule.largest
    # The largest of all sizes: a validation size above the training sizes must not be an enlarged image.
    largest = max([region, *val_sizes(config, schedule)], key=area)
    evaluation = EvalTransform(largest, augment.shorter_side)
    if (own := values_of(augment)) is not None:
        part = build("augment", own, region=region)
        return OwnTransform(region, part, str(own["crop"]), augment.shorter_side), evaluation
    train = TrainTransform(
        region,
        crop=augment.crop,
        flip=augment.flip,
        lighting=augment.lighting,
        shorter_side=augment.shorter_side,
        scale=(augment.scale[0], augment.scale[1]),
        ratio=(augment.ratio[0], augment.ratio[1]),
        trivial_augment=augment.trivial_augment,
        rand_augment=augment.rand_augment,
        augmix=augment.augmix,
        erasing=augment.erasing,
        cache_side=config.data.cache_shorter_side,
    )
    return train, evaluation


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

    def cache_of(split: str, source: Source, transform: TrainTransform | EvalTransform) -> ImageCache:
        chosen = "".join(
            f"/{path}" for path in (data.labels, data.train_dir, data.val_dir) if path is not None
        )
        assert isinstance(source, FileSource)
        part = data.val_fraction if data.folds is None else f"fold {data.fold} of {data.folds}"
        reading = f"{part}/{source.max_pixels}/{source.pixel_range}"
        name = f"{data.name}/{os.path.realpath(str(data.root))}{chosen}/{reading}/{split}"
        return open_cache(source, transform, folders, name, workers=data.workers, say=say)

    train_transform, eval_transform = make_transforms(config, schedule)
    return cache_of("train", train_source, train_transform), cache_of("val", val_source, eval_transform)


def make_datamodule(
    config: Config,
    schedule: SizeSchedule,
    train_source: Source,
    val_source: Source,
    caches: tuple[ImageCache, ImageCache] | None = None,
    test_source: Source | None = None,
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
        repeats=config.augment.repeats,
        on_error=data.on_error,
        caches=caches or (None, None),
        val_batches=config.trainer.limit_val_batches,
        test=test_source,
        image_weights=sampler_weights(config, train_source),
    )


def sampler_weights(config: Config, train_source: Source) -> list[float] | None:
    """How often an image of each class is drawn, relative to the others; None where all are drawn equally often.

    Raises:
        ConfigError: a class that is not there, or one without an image.
    """
    counts = class_counts(train_source.targets, len(train_source.classes))
    return image_weights(config.data.sampler, config.data.balance, train_source.classes, counts)


def batch_bytes(config: Config, schedule: SizeSchedule) -> int:
    """Bytes of the largest batch that a loader process holds ready, of training or of validation images."""
    data = config.data
    train = data.batch_size * area(schedule.largest)
    val = (data.val_batch_size or data.batch_size) * max(
        area(size) for size in (schedule.largest, *val_sizes(config, schedule))
    )
    return 3 * max(train, val)


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
        remedy = ""
        if net.fixed_size is not None:
            height, width = net.fixed_size
            one = height if height == width else f"[{height},{width}]"
            typed = "sizes=single_224" if one == 224 else f"sizes=single_224 sizes.sizes=[{one}]"
            remedy = f"; type {typed} to train it at one size"
        raise ConfigError(f"sizes: {reason_of(error)}{remedy}") from None
