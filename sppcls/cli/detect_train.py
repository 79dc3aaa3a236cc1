"""``sppcls detect train``: a detector from a classifier and images with boxes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

from sppcls.cli.command import command
from sppcls.cli.common import AboveZero, CheckpointFile, NotNegative, Positive, Processor
from sppcls.cli.detect_common import BoxSet, Windows, Work, bar
from sppcls.runs.names import DETECTOR


@command
def run(
    checkpoint: CheckpointFile,
    *,
    boxes: BoxSet,
    out: Path | None = None,
    overwrite: bool = False,
    scales: str = "one",
    scale_rule: Literal["area", "released"] = "area",
    window_rule: Literal["appendix", "report", "released"] = "appendix",
    windows: Windows,
    tune: NotNegative = 1000,
    lr: AboveZero = 0.01,
    tune_convolutions: NotNegative = 0,
    convolutions_lr: AboveZero = 0.001,
    layer: str | None = None,
    scorer: Literal["svm", "softmax"] = "svm",
    duplicates: Literal["iou", "cells"] = "iou",
    passes: Positive = 10,
    no_regression: bool = False,
    ridge: AboveZero = 1000.0,
    nms: AboveZero = 0.3,
    seed: NotNegative = 0,
    work: Work,
    processor: Processor,
) -> int:
    """Train a detector from a checkpoint with a pyramid: windows and feature maps of the images, fine-tuning of the
    fully-connected layers, a linear SVM for each class with hard negatives, and box regression (He et al. 2015, sec. 4).

    examples:
      sppcls detect train CKPT --data VOCdevkit/VOC2007 --out runs/detect/voc
      sppcls detect train CKPT --data shapes --scenes 100 --scales 480 --tune 800

    The convolutions stay as they are, unless --tune-convolutions is given. What each stage has made is kept: the same
    command continues after a kill, and ends with the same detector. The defaults are for thousands of boxes on a CPU; the
    paper's VOC2007 takes --tune 300000 --lr 1e-4 --scales five and a GPU.

    Needs sppcls[detect] (OpenCV for selective search, scikit-learn for the SVMs).

    Args:
        checkpoint (CKPT): best.ckpt or last.ckpt of a run with a pyramid
        out (DIR): folder of the detector (runs/detect/NAME)
        overwrite: replace a detector of other settings there
        scales: shorter sides in pixels with commas between; one (688), five (the paper's 480 to 1200), five_released (one)
        scale_rule: which scale a window is taken from: the paper's or the authors' code's rule
        window_rule: from a window to the cells of the map, see docs/protocols.md
        tune (N): steps of fine-tuning of the fc layers; 0: none
        lr: learning rate of fine-tuning
        tune_convolutions (N): steps after these, of two images each, that train the convolutions too, as Fast R-CNN does
        convolutions_lr (LR): their learning rate
        layer (NAME): what is scored: spp, the pooled vector, fc6 or fc7 (the last fc layer; spp without fine-tuning)
        scorer: SVMs, or the fine-tuned network's own probabilities
        duplicates: negatives left out: those that overlap another one by 0.7 (the paper), or have equal cells (its code) (iou)
        passes: most passes of hard-negative mining over all images
        no_regression: leave boxes where their windows are
        ridge (LAMBDA): strength of the ridge penalty of box regression
        nms (IOU): drop boxes that overlap a better one of their class by more
        seed: random seed
    """
    from sppcls.detection.settings import Settings
    from sppcls.detection.svm import SVMRules
    from sppcls.detection.train import train_detector
    from sppcls.detection.tuning import TuningRules

    settings = Settings(
        scales=scales,
        scale_rule=scale_rule,
        window_rule=window_rule,
        proposals=windows.proposals,
        limit=windows.limit,
        k=windows.k,
        tuning=TuningRules(
            steps=tune,
            lr=lr,
            seed=seed,
            convolutions=tune_convolutions,
            convolutions_lr=convolutions_lr,
        ),
        layer=layer,
        scorer=scorer,
        svm=SVMRules(duplicates=duplicates, passes=passes),
        regression=not no_regression,
        ridge=ridge,
        nms=nms,
        seed=seed,
    )
    net = processor.load(checkpoint)
    images = boxes.read()
    objects = int(images.counts().sum())
    classes = "1 class" if len(images.classes) == 1 else f"{len(images.classes)} classes"
    print(f"{images.name}, {images.split}: {len(images):,} images, {objects:,} objects of {classes}")
    if out is None:
        out = Path("runs", "detect", "shapes" if boxes.data == "shapes" else Path(boxes.data).resolve().name)
    with _Log(out) as log:
        train_detector(
            net,
            images,
            out,
            settings,
            cache=work.cache,
            workers=work.workers,
            overwrite=overwrite,
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
