"""``sppcls features``: outputs of a layer for the images of a folder, as one npz file."""

from __future__ import annotations

import sys

from sppcls.cli.common import (
    Parser,
    add_checkpoint,
    add_device,
    check_checkpoint,
    check_there,
    load,
    positive,
    report_bad,
)


def run(words: list[str]) -> int:
    """Write features; 1 if an image could not be read and is left out."""
    args = _parser().parse_args(words)
    check_checkpoint(args.checkpoint)
    check_there(args.folder, "sppcls reads folders of images")
    from sppcls.inference.features import check_out, list_images, write_features
    from sppcls.inference.layers import repeated_levels

    check_out(args.out, args.overwrite)
    list_images(args.folder)
    net = load(args.checkpoint, args.device, args.threads)
    written = write_features(
        net,
        args.folder,
        args.out,
        args.layer,
        view=args.view,
        shorter_side=args.shorter_side,
        batch_size=args.batch_size,
        workers=args.workers,
        checkpoint=args.checkpoint,
        overwrite=args.overwrite,
    )
    print(
        f"{args.out}: {args.layer} of {written.images} images, {written.length} numbers each; {written.view}"
    )
    if note := repeated_levels(net, written.view.example):
        print(f"sppcls: note: {note}", file=sys.stderr)
    return report_bad("left out", written.bad)


def _parser() -> Parser:
    parser = Parser(
        "features",
        "Write the outputs of one layer for every image of a folder. numpy.load(FILE) has features (N, D), paths, labels\n"
        "and classes (of FOLDER/CLASS/*, alone or in train/ and val/; else labels are -1), and how they were made.",
    )
    add_checkpoint(parser)
    parser.add_argument("folder", metavar="FOLDER", help="images, at any depth")
    parser.add_argument(
        "--layer",
        default="spp",
        help="conv1, ..., map, level6 (the 6x6 level of the pyramid), spp (all of it), fc6, fc7, logits; a wrong one "
        "brings the list of this network's (spp)",
    )
    parser.add_argument("--out", metavar="FILE", required=True, help="the file, .npz")
    parser.add_argument(
        "--view",
        choices=("full", "crop"),
        help="the whole image, its aspect kept, or the central crop (full; crop if the network takes one size only)",
    )
    parser.add_argument(
        "--shorter-side",
        type=positive,
        metavar="N",
        help="pixels of the image's shorter side, before the crop is cut (as in training: 256 for 224)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it is there")
    add_device(parser)
    return parser
