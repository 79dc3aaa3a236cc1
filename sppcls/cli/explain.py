"""``sppcls explain``: what the pyramid saw in a photo, and what each level is good for."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sppcls._util.console import one_line
from sppcls._util.files import check_local, check_new_file
from sppcls.cli.common import (
    Parser,
    add_checkpoint,
    add_device,
    check_checkpoint,
    load,
    positive,
    report_bad,
)
from sppcls.errors import ConfigError

if TYPE_CHECKING:
    from sppcls.inference.explain.explanation import Explanation


def run(words: list[str]) -> int:
    """Explain; 1 if an image of the set could not be read."""
    parser = _parser()
    args = parser.parse_args(words)
    if args.photo is None and args.set is None:
        parser.error("give a photo, or a folder with --set")
    if args.photo is None:
        given = {"--out": args.out, "--class": args.class_name, "--shorter-side": args.shorter_side}
        for option, value in given.items():
            if value is not None:
                parser.error(f"{option}: needs a photo")
    check_checkpoint(args.checkpoint)
    for name in filter(None, (args.photo, args.set)):
        check_local(name, "sppcls explains image files")
    if args.photo is not None and Path(args.photo).is_dir():
        raise ConfigError(
            f"{args.photo}: a folder; name one image in it, or count errors over all with --set {args.photo}"
        )
    from sppcls.data import labelled_images
    from sppcls.data.classes import missing_line
    from sppcls.inference.explain.explanation import class_number, explain
    from sppcls.inference.explain.levels import level_errors, norms_table, pyramid_of
    from sppcls.inference.explain.picture import check_kind, save_figure
    from sppcls.nn.model_info import is_multi_label

    out = None
    if args.photo is not None:
        out = check_new_file(args.out or f"{Path(args.photo).stem}-explained.png", args.overwrite)
        check_kind(out)
    net = load(args.checkpoint, args.device, args.threads)
    pyramid_of(net, args.checkpoint)
    model_info = net.model_info
    if args.class_name is not None:
        class_number(model_info["classes"], args.class_name)
    if args.set is not None:
        if is_multi_label(model_info):
            raise ConfigError(
                f"--set {args.set}: counts top-1 errors, and {args.checkpoint} was trained on images with several labels; "
                "`sppcls evaluate` measures it"
            )
        targets = labelled_images(args.set, model_info["classes"]).targets
        if line := missing_line(model_info["classes"], targets):
            print(one_line(f"sppcls: note: {line}"), file=sys.stderr)
    if out is not None:
        explanation = explain(net, args.photo, args.class_name, args.shorter_side)
        save_figure(explanation.figure(), out)
        print(
            f"{explanation}\n\n{_MEANING}\n{_truth(args.photo, explanation, model_info['classes'])}\nPicture: {out}\n"
        )
    print(norms_table(net))
    if args.set is None:
        return 0
    errors = level_errors(net, args.set, args.batch_size, args.workers)
    print(f"\nTop-1 error over the {errors.images} images of {args.set}, seen as in validation:\n\n{errors}")
    return report_bad("not counted", errors.bad)


_MEANING = """\
contribution: what the level adds to the score; drop if zeroed: how much lower the score is without the level."""


def _truth(photo: str, explanation: Explanation, classes: list[str]) -> str:
    """Whether the answer is right, where the photo lies in a folder that is named as a class."""
    true = Path(photo).resolve().parent.name
    if true not in classes:
        return ""
    said = explanation.top[0][0]
    return f"The answer is {'right' if said == true else 'wrong'}: the photo lies in the folder of {one_line(true)}.\n"


def _parser() -> Parser:
    parser = Parser(
        "explain",
        "Draw what the pyramid saw in a photo: the bins of every level, the cells that their maxima come from, and what\n"
        "each cell, bin and level adds to the score of a class. Prints those figures and the weights that each level has\n"
        "in the head's first layer. With --set, also the error over many images with each level set to zero.",
    )
    add_checkpoint(parser)
    parser.add_argument("photo", metavar="PHOTO", nargs="?", help="an image file, taken whole")
    parser.add_argument(
        "--out", metavar="FILE", help="picture to write: .png, .pdf, .svg, ... (PHOTO-explained.png, here)"
    )
    parser.add_argument(
        "--class", dest="class_name", metavar="NAME", help="class to explain (the most probable one)"
    )
    parser.add_argument(
        "--shorter-side",
        type=positive,
        metavar="N",
        help="pixels of the photo's shorter side as the network gets it (in proportion to the training, 256 for 224)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the picture if it is there")
    parser.add_argument(
        "--set",
        metavar="FOLDER",
        help="count errors over FOLDER/val/CLASS/* or FOLDER/CLASS/*, seen as in validation (one centre view)",
    )
    add_device(parser)
    return parser
