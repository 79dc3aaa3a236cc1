"""``sppcls transfer``: linear SVMs on the features of a network's layers."""

from __future__ import annotations

import sys

from sppcls._util.files import check_new_file
from sppcls.cli.common import (
    Parser,
    above_zero,
    add_checkpoint,
    add_device,
    check_checkpoint,
    check_there,
    load,
    not_negative,
    positive,
    report_bad,
)


def run(words: list[str]) -> int:
    """Measure features; 1 if an image could not be read and is left out."""
    args = _parser().parse_args(words)
    check_checkpoint(args.checkpoint)
    check_there(args.data, "sppcls reads folders of images")
    from sppcls.inference.layers import repeated_levels
    from sppcls.inference.transfer.tasks import svm_module
    from sppcls.inference.transfer.transfer import transfer

    svm_module()
    if args.out is not None:
        check_new_file(args.out, args.overwrite)
    net = load(args.checkpoint, args.device, args.threads)
    result = transfer(
        net,
        args.data,
        args.layers and args.layers.split(","),
        protocol=args.protocol,
        view=args.view and args.view.split(","),
        shorter_side=args.shorter_side,
        per_class=args.per_class,
        test_per_class=args.test_per_class,
        splits=args.splits,
        seed=args.seed,
        c=args.c,
        batch_size=args.batch_size,
        workers=args.workers,
    )
    print(result)
    if args.out is not None:
        result.save(args.out, args.overwrite)
        print(f"\n{args.out}: these figures, and those of every class")
    for view in dict.fromkeys(score.view for score in result.scores):
        if note := repeated_levels(net, view.example):
            print(f"sppcls: note: {note}", file=sys.stderr)
    return report_bad("left out", result.bad)


def _parser() -> Parser:
    parser = Parser(
        "transfer",
        "Judge the features of a network's layers on other images: l2-normalised, a linear SVM on each layer.\n"
        "Prints the top-1 error in per cent, over all images and as the mean of the classes, or mean average precision;\n"
        "mean ± standard deviation if there are several splits. Needs sppcls[transfer].",
    )
    add_checkpoint(parser)
    parser.add_argument(
        "--data",
        metavar="FOLDER",
        required=True,
        help="train/CLASS/* and val/CLASS/* (one split), CLASS/* (random splits), or a VOC2007 development kit",
    )
    parser.add_argument(
        "--layers",
        metavar="NAMES",
        help="with commas between; a wrong one brings the list of this network's (level6,spp,fc6,fc7 where the network "
        "has them, and the last convolution of crops)",
    )
    parser.add_argument(
        "--protocol",
        metavar="NAME",
        help="folder, caltech101 (random splits of all images) or voc07 (voc07 if FOLDER is a VOC kit, else folder)",
    )
    parser.add_argument(
        "--view",
        metavar="NAMES",
        help="full (whole images, their aspect kept), crop (the centre) or full,crop (full; crop if the network takes "
        "one size only)",
    )
    parser.add_argument(
        "--shorter-side",
        type=positive,
        metavar="N",
        help="pixels of the image's shorter side, before the crop is cut (that of the crop: 224 for 224)",
    )
    parser.add_argument(
        "--per-class",
        type=positive,
        metavar="N",
        help="training images per class of random splits (30); draws them from train/ and val/ together",
    )
    parser.add_argument(
        "--test-per-class", type=positive, metavar="N", help="most test images per class (50)"
    )
    parser.add_argument("--splits", type=positive, metavar="N", help="number of random splits (10)")
    parser.add_argument("--seed", type=not_negative, default=0, help="of the random splits (0)")
    parser.add_argument("--c", type=above_zero, default=1.0, metavar="C", help="C of the SVM (1)")
    parser.add_argument("--out", metavar="FILE", help="also write the figures to this CSV file")
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it is there")
    add_device(parser)
    return parser
