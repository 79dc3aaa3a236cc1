"""``sppcls detect train``: a detector from a classifier and images with boxes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from sppcls._util.files import check_local
from sppcls.cli.common import (
    Parser,
    above_zero,
    add_plugins,
    add_processor,
    check_checkpoint,
    load,
    not_negative,
    positive,
)
from sppcls.cli.detect_common import add_cache, add_set, add_windows, bar, scenes_of

_DESCRIPTION = """\
Train a detector from a checkpoint with a pyramid: windows and feature maps of the images, fine-tuning of the
fully-connected layers, a linear SVM for each class with hard negatives, and box regression (He et al. 2015, sec. 4).

The convolutions stay as they are, unless --tune-convolutions is given. What each stage has made is kept: the same command goes on after a kill, and
ends with the same detector. The defaults are for thousands of boxes on a CPU; the paper's VOC2007 takes --tune 300000
--lr 1e-4 --scales five and a GPU.

Needs sppcls[detect] (OpenCV for selective search, scikit-learn for the SVMs)."""


def run(words: list[str]) -> int:
    """Train, and say where the detector is."""
    args = _parser().parse_args(words)
    check_checkpoint(args.checkpoint)
    check_local(args.data, "sppcls reads folders of images with boxes")
    from sppcls.detection.sets import read_set
    from sppcls.detection.settings import Settings
    from sppcls.detection.svm import SVMRules
    from sppcls.detection.train import DETECTOR, train_detector
    from sppcls.detection.tuning import TuningRules

    settings = Settings(
        scales=args.scales,
        scale_rule=args.scale_rule,
        window_rule=args.window_rule,
        proposals=args.proposals,
        limit=args.limit,
        k=args.k,
        tuning=TuningRules(
            steps=args.tune,
            lr=args.lr,
            seed=args.seed,
            convolutions=args.tune_convolutions,
            convolutions_lr=args.convolutions_lr,
        ),
        layer=args.layer,
        scorer=args.scorer,
        svm=SVMRules(duplicates=args.duplicates, passes=args.passes),
        regression=not args.no_regression,
        ridge=args.ridge,
        nms=args.nms,
        seed=args.seed,
    )
    net = load(args.checkpoint, args.device, args.threads)
    images = read_set(args.data, args.split, count=scenes_of(args.data, args.scenes))
    objects = int(images.counts().sum())
    print(
        f"{images.name}, {images.split}: {len(images):,} images, {objects:,} objects of {len(images.classes)} classes"
    )
    out = args.out or Path("runs") / "detect" / (
        Path(args.data).resolve().name if args.data != "shapes" else "shapes"
    )
    with _Log(out) as log:
        train_detector(
            net,
            images,
            out,
            settings,
            cache=args.cache,
            workers=args.workers,
            overwrite=args.overwrite,
            say=lambda line: print(line, flush=True),
            progress=bar,
            log=log,
        )
    print(f"Detector: {out / DETECTOR}")
    return 0


class _Log:
    """Figures of fine-tuning, to TensorBoard and as a line now and then."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.lines = folder, 0
        self.writer: Any = None

    def __enter__(self) -> _Log:
        return self

    def __call__(self, step: int, figures: dict[str, float]) -> None:
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(self.folder))
        for name, value in figures.items():
            self.writer.add_scalar(f"fine-tuning/{name}", value, step)
        if math.log2(self.lines + 1).is_integer():
            print(
                f"step {step:,}: loss {figures['loss']:.3f}, error on objects {figures['error on objects']:.1f} %, "
                f"on background {figures['error on background']:.1f} %",
                flush=True,
            )
        self.lines += 1

    def __exit__(self, *_: object) -> None:
        if self.writer is not None:
            self.writer.close()


def _parser() -> Parser:
    parser = Parser("detect train", _DESCRIPTION)
    parser.add_argument("checkpoint", metavar="CKPT", help="best.ckpt or last.ckpt of a run with a pyramid")
    add_set(parser, "that to train on")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the detector (runs/detect/NAME)")
    parser.add_argument("--overwrite", action="store_true", help="replace a detector of other settings there")
    parser.add_argument(
        "--scales",
        default="one",
        help="shorter sides in pixels with commas between; one (688), five (the paper's 480 to 1200), five_released (one)",
    )
    parser.add_argument(
        "--scale-rule",
        choices=("area", "released"),
        default="area",
        help="which scale a window is taken from: the paper's or the authors' code's rule (area)",
    )
    parser.add_argument(
        "--window-rule",
        choices=("appendix", "report", "released"),
        default="appendix",
        help="from a window to the cells of the map, see docs/protocols.md (appendix)",
    )
    add_windows(parser)
    parser.add_argument(
        "--tune", type=not_negative, default=1000, metavar="N",
        help="steps of fine-tuning of the fc layers; 0: none (1000)",
    )  # fmt: skip
    parser.add_argument("--lr", type=above_zero, default=0.01, help="learning rate of fine-tuning (0.01)")
    parser.add_argument(
        "--tune-convolutions", type=not_negative, default=0, metavar="N",
        help="steps after these, of two images each, that train the convolutions too, as Fast R-CNN does (0)",
    )  # fmt: skip
    parser.add_argument(
        "--convolutions-lr", type=above_zero, default=0.001, metavar="LR", help="their learning rate (0.001)"
    )
    parser.add_argument(
        "--layer",
        metavar="NAME",
        help="spp, fc6, fc7: what is scored (the last fc layer; spp without fine-tuning)",
    )
    parser.add_argument(
        "--scorer",
        choices=("svm", "softmax"),
        default="svm",
        help="SVMs, or the fine-tuned network's classes (svm)",
    )
    parser.add_argument(
        "--duplicates",
        choices=("iou", "cells"),
        default="iou",
        help="negatives left out: those that overlap another one by 0.7 (the paper), or have equal cells (its code) (iou)",
    )
    parser.add_argument(
        "--passes", type=positive, default=10, help="most passes of hard-negative mining (10)"
    )
    parser.add_argument("--no-regression", action="store_true", help="leave boxes where their windows are")
    parser.add_argument(
        "--ridge", type=above_zero, default=1000.0, metavar="LAMBDA", help="of box regression (1000)"
    )
    parser.add_argument(
        "--nms",
        type=above_zero,
        default=0.3,
        metavar="IOU",
        help="boxes that overlap a better one by more go (0.3)",
    )
    parser.add_argument("--seed", type=not_negative, default=0, help="of what is drawn (0)")
    add_cache(parser)
    add_processor(parser)
    add_plugins(parser)
    return parser
