"""Config keys of a detector."""

from __future__ import annotations

from dataclasses import dataclass

from sppcls.config.key import documented, key


@documented
@dataclass
class DetectionConfig:
    """A detector made of a classifier, instead of a classifier (He et al. 2015, sec. 4).

    Args:
        checkpoint: classifier with a pyramid that a detector is made of; null: a classifier is trained
        data: images with boxes: a VOC folder, COCO JSON, a YOLO folder; shapes: generated scenes
        split: its split to train on; null: found
        test_split: its split to judge on; null: test, or else val
        scenes: generated scenes to train on; a third as many to judge (shapes)
        features: what is scored: pool5, the pooled vector; fc6, fc7; ftfc6, ftfc7: after fine-tuning
        scorer: SVMs, or the fine-tuned network's own classes
        regression: box regression
        scales: shorter sides of the image: one (688), five (480 to 1200), five_released, or numbers with commas
        scale_rule: scale of a window: by area (paper), or as the authors' code
        window_rule: window to cells: v4's appendix, the first report, or the authors' code
        proposals: windows: selective_search, grid, or a file (.npz, .mat, .json)
        limit: most windows of an image
        k: of selective search; larger: fewer, coarser windows
        tuning_steps: mini-batches of fine-tuning (ftfc6, ftfc7)
        tuning_lr: learning rate of fine-tuning, a tenth in the last sixth
        convolution_steps: mini-batches after these that train the convolutions too, as Fast R-CNN does
        convolution_lr: their learning rate
        duplicates: negatives left out: near others (iou, paper), or of equal cells (the authors' code)
        passes: most passes of hard-negative mining
        ridge: lambda of box regression; the paper's 1000, the authors' code 4000
        nms: a box that overlaps a better one by more goes
        maps_dir: folder of windows and maps; null: ~/.cache/sppcls/detect
    """

    checkpoint: str | None = key(None)
    data: str | None = key(None)
    split: str | None = key(None)
    test_split: str | None = key(None)
    scenes: int | None = key(None, low=3)
    features: str = key("ftfc7")
    scorer: str = key("svm", choices=("svm", "softmax"))
    regression: bool = key(True)
    scales: str = key("one")
    scale_rule: str = key("area", choices=("area", "released"))
    window_rule: str = key("appendix", choices=("appendix", "report", "released"))
    proposals: str = key("selective_search")
    limit: int = key(2000, low=1)
    k: int = key(50, low=1)
    tuning_steps: int = key(1000, low=1)
    tuning_lr: float = key(0.01, above=0)
    convolution_steps: int = key(0, low=0)
    convolution_lr: float = key(0.001, above=0)
    duplicates: str = key("iou", choices=("iou", "cells"))
    passes: int = key(10, low=1)
    ridge: float = key(1000.0, above=0)
    nms: float = key(0.3, above=0, high=1)
    maps_dir: str | None = key(None, changes="place")
