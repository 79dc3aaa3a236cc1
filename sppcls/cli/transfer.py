"""``sppcls transfer``: linear SVMs on the features of a network's layers."""

from __future__ import annotations

import sys

from sppcls._util.files import check_new_file
from sppcls.cli.command import command
from sppcls.cli.common import (
    AboveZero,
    CheckpointFile,
    Loading,
    Names,
    NotNegative,
    Positive,
    check_there,
    report_bad,
)


@command
def run(
    checkpoint: CheckpointFile,
    *,
    data: str,
    layers: Names | None = None,
    protocol: str | None = None,
    view: Names | None = None,
    shorter_side: Positive | None = None,
    per_class: Positive | None = None,
    test_per_class: Positive | None = None,
    splits: Positive | None = None,
    seed: NotNegative = 0,
    c: AboveZero = 1.0,
    out: str | None = None,
    overwrite: bool = False,
    loading: Loading,
) -> int:
    """Judge the features of a network's layers on other images: l2-normalised, a linear SVM on each layer.

    examples:
      sppcls transfer runs/shapes/NAME/best.ckpt --data PHOTOS
      sppcls transfer CKPT --data VOCdevkit --layers spp,fc7

    Prints the top-1 error in per cent, over all images and as the mean of the classes, or mean average precision;
    mean ± standard deviation if there are several splits. Needs sppcls[transfer]. The exit status is 1 if an image could
    not be read and is left out.

    Args:
        checkpoint (CKPT): best.ckpt or last.ckpt of a run
        data (FOLDER): train/CLASS/* and val/CLASS/* (one split), CLASS/* (random splits), or a VOC2007 development kit
        layers (NAMES): with commas between; any other word brings the list of this network's (level6,spp,fc6,fc7 where it has
            them, and the last convolution of crops)
        protocol (NAME): folder, caltech101 (random splits of all images) or voc07 (voc07 if FOLDER is a VOC kit, else folder)
        view (NAMES): full (whole images, their aspect kept), crop (the centre) or full,crop (full; crop if the network takes
            one size only)
        shorter_side (N): pixels of the image's shorter side, before the crop is cut (that of the crop: 224 for 224)
        per_class (N): training images per class of random splits (30); draws them from train/ and val/ together
        test_per_class (N): most test images per class (50)
        splits (N): number of random splits (10)
        seed: of the random splits
        c (C): C of the SVM
        out (FILE): also write the figures to this CSV file
        overwrite: replace the file if it is there
    """
    check_there(data, "sppcls reads folders of images")
    from sppcls.inference.layers import repeated_levels
    from sppcls.inference.transfer.tasks import svm_module
    from sppcls.inference.transfer.transfer import transfer

    svm_module()
    if out is not None:
        check_new_file(out, overwrite)
    net = loading.load(checkpoint)
    result = transfer(
        net,
        data,
        layers,
        protocol=protocol,
        view=view,
        shorter_side=shorter_side,
        per_class=per_class,
        test_per_class=test_per_class,
        splits=splits,
        seed=seed,
        c=c,
        **loading.reading,
    )
    print(result)
    if out is not None:
        result.save(out, overwrite)
        print(f"\n{out}: these figures, and those of every class")
    for shown in dict.fromkeys(score.view for score in result.scores):
        if note := repeated_levels(net, shown.example):
            print(f"sppcls: note: {note}", file=sys.stderr)
    return report_bad("left out", result.bad)
