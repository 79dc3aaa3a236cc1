"""``sppcls evaluate``: errors of a checkpoint under test protocols, or against the image size."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sppcls._util.console import one_line
from sppcls.cli.common import (
    Parser,
    add_checkpoint,
    add_device,
    check_checkpoint,
    load,
    positive,
    report_bad,
)
from sppcls.errors import ConfigError, DataError

if TYPE_CHECKING:
    from sppcls.config.schema import Config
    from sppcls.data import Source, Splits


def run(words: list[str]) -> int:
    """Evaluate; 1 if an image could not be tested."""
    args = _parser().parse_args(words)
    check_checkpoint(args.checkpoint)
    data = tested_words(args)
    # Imported here: it takes seconds, and a slip should be reported at once.
    from sppcls.data import as_size, size_label
    from sppcls.evaluation import load_protocols
    from sppcls.evaluation.curve import parse_sizes, write_curve
    from sppcls.evaluation.evaluate import (
        Result,
        claim_folder,
        default_protocols,
        evaluate,
        results_table,
        write_last_result,
    )
    from sppcls.evaluation.recalibration import batch_norms

    if args.recalibrate and args.split not in ("val", "test"):
        raise ConfigError(
            f"--recalibrate: takes training images, so they cannot be tested (--split {args.split})"
        )
    net = load(args.checkpoint, args.device, args.threads)
    model_info = net.model_info
    config = tested_config(data, model_info, args.checkpoint)
    named = config.evaluation.protocols or default_protocols(net)
    if args.protocol is not None:
        named = [name for name in args.protocol.split(",") if name.strip()]
    elif args.sizes is not None:
        named = ["center"]
    protocols = load_protocols(named, args.window_rule)
    sizes = None if args.sizes is None else parse_sizes(args.sizes)
    for protocol in protocols:
        for size in sizes or [model_info["val_sizes"][0]]:
            protocol.at(as_size(size, "sizes")).check_fits(net)
    if args.recalibrate:
        batch_norms(net)
    source, loaded = tested_images(config, args.split, model_info, args.checkpoint)
    folder = claim_folder(args.out, Path(args.checkpoint))

    def keep(results: list[Result]) -> None:
        write_last_result(folder, results)
        if sys.stderr.isatty():
            label, size = results[-1].label, size_label(results[-1].protocol.region)
            print(f"  {label} at {size}: {results[-1].predictions.main_error:.2f} %", file=sys.stderr)

    try:
        results = evaluate(
            net,
            source,
            protocols,
            sizes=sizes,
            recalibrate_on=loaded.train if loaded is not None and args.recalibrate else None,
            recalibrate_images=args.recalibrate or 1,
            split="" if args.split == "val" else args.split,
            batch_size=args.batch_size,
            workers=args.workers,
            done=keep,
            bar=True,
        )
    finally:
        if not any(folder.iterdir()):
            folder.rmdir()  # stopped before there was a result
    print(results_table(results))
    if loaded is not None and args.split == "val" and loaded.held_out:
        print(
            f"\n{config.data.root} has no validation split: these are the {len(loaded.val)} images that a training would hold out; "
            f"--split all tests all {sum(map(len, by_split(loaded).values()))}."
        )
    if config.augment.shorter_side is not None:
        print(
            f"\nIn training the images were validated with augment.shorter_side={config.augment.shorter_side}, "
            "which the protocols do not use."
        )
    if sizes is not None:
        trained = [min(size) for size in model_info["train_sizes"]]
        title = Path(args.checkpoint).resolve().parent.name
        print(f"\nCurve: {write_curve(folder, results, trained, title)}")
    print(f"\nPredictions of every image: {folder}")
    bad = {
        f"{line} (protocol {result.predictions.protocol})": None
        for result in results
        for line in result.predictions.bad
    }
    return report_bad("not tested", bad)


def tested_words(args: Namespace) -> list[str]:
    """The config words of ``--data``; a place or a protocol that is not there is refused before torch is loaded.

    Raises:
        ConfigError, DataError: names the word.
    """
    from sppcls.config.compose import compose_unchecked, group_choices
    from sppcls.config.data_word import words_of_data
    from sppcls.config.early import check_data_root, check_protocols

    words = [word for place in args.data for word in words_of_data(place, group_choices()["data"])]
    # Only the place is another one: what else is known of the images stays that of the checkpoint.
    words = [
        "data.name=folder" if word == "data=folder" and word not in args.data else word for word in words
    ]
    given = compose_unchecked(words)
    # Without data=... it is that of the checkpoint. What can be downloaded need not be there.
    if given.data.root is not None and given.data.name in ("shapes", "folder", "imagenet"):
        check_data_root(str(given.data.root))
    if args.protocol is not None:
        check_protocols(name for name in args.protocol.split(",") if name.strip())
    return words


def tested_config(words: Sequence[str], model_info: dict[str, Any], checkpoint: str) -> Config:
    """The config of a checkpoint with other ``words`` of data; an unreadable image is named at the end, and the rest tested."""
    from sppcls.config.compose import compose_unchecked, restore

    saved = {**model_info["config"], "ckpt_path": None}
    config = restore(saved, compose_unchecked(words), words, checkpoint)
    config.data.check = False
    return config


def by_split(loaded: Splits) -> dict[str, Source]:
    """The images by the names that ``--split`` has for them."""
    test = {} if loaded.test is None else {"test": loaded.test}
    return {"val": loaded.val, "train": loaded.train, **test}


def tested_images(
    config: Config, split: str, model_info: dict[str, Any], checkpoint: str
) -> tuple[Source, Splits | None]:
    """The images to test, and all splits where there are such; classes without an image are named on stderr.

    Raises:
        CheckpointError, ConfigError, DataError: there are no such images, or of unknown classes.
    """
    from sppcls.config.build import load_sources
    from sppcls.data import JoinedSource, labelled_images, set_pixel_range, trained_pixel_range
    from sppcls.data.classes import check_known, missing_line
    from sppcls.data.files import with_classes
    from sppcls.data.folder import holds_class_folders

    classes = model_info["classes"]
    bare = config.data.name == "folder" and holds_class_folders(str(config.data.root), classes)
    loaded = None
    if bare and split == "all":  # nothing is split, so a class may have one image
        source: Source = labelled_images(str(config.data.root), classes)
        set_pixel_range(trained_pixel_range(model_info), source)
    else:
        try:
            loaded = load_sources(config, classes)
        except DataError as error:
            raise DataError(f"{error}; --split all tests all images" if bare else str(error)) from None
        check_known(classes, loaded.train.classes, checkpoint)
        splits = by_split(loaded)
        if split not in (*splits, "all"):
            where = f"data.root={config.data.root}" if config.data.root else f"data={config.data.name}"
            raise ConfigError(f"--split {split}: {where} has no test images; choose from val, train, all")
        source = JoinedSource(splits) if split == "all" else splits[split]
    if line := missing_line(classes, with_classes(source, classes).targets):
        print(one_line(f"sppcls: note: {line}"), file=sys.stderr)
    return source, loaded


def _parser() -> Parser:
    parser = Parser(
        "evaluate",
        "Measure a checkpoint: top-1 and top-5 error in per cent under test protocols, with the 95 %\n"
        "interval that the number of images allows, or the error against the size of the images.\n"
        "Prints a table; writes errors.csv and the predictions of every image (npz) to a new folder.",
    )
    parser.usage = "sppcls evaluate CKPT [options]"  # --data takes all words that follow it
    add_checkpoint(parser)
    add_tests(parser, "the checkpoint's config; else center, and full if any size will do")
    parser.add_argument(
        "--recalibrate",
        type=positive,
        metavar="N",
        help="test again with batch-norm statistics of N training images at the size tested",
    )
    parser.add_argument("--out", metavar="FOLDER", help="new folder for results (beside the checkpoint)")
    add_device(parser)
    return parser


def add_tests(parser: Parser, protocol: str) -> None:
    """``--protocol``, whose default is ``protocol``, ``--data``, ``--split``, ``--sizes`` and ``--window-rule``."""
    parser.add_argument(
        "--protocol",
        metavar="NAMES",
        help="protocols, with commas between; center, full, full_flip, ten_view, feature_ten_view, multi_scale_96, "
        f"multi_scale_96_crops, multi_scale_96_full2, a .yaml file, or several joined by + ({protocol})",
    )
    parser.add_argument(
        "--data",
        nargs="+",
        default=[],
        metavar="PHOTOS",
        help="other images, as for `sppcls train`: a folder, or KEY=VALUE words such as data.labels=FILE (the data trained on)",
    )
    parser.add_argument(
        "--split",
        choices=("val", "test", "train", "all"),
        default="val",
        help="images tested: those of the validation, those kept for the end, ... (val)",
    )
    parser.add_argument(
        "--sizes",
        metavar="LOW:HIGH:STEP",
        help="test at these sizes, or at some such as 96,180,224, scales in proportion (default protocol: center)",
    )
    parser.add_argument(
        "--window-rule",
        choices=("appendix", "report", "released"),
        help="which cells belong to a window of the feature map (the protocol's: appendix)",
    )
