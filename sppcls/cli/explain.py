"""``sppcls explain``: what the pyramid saw in a photo, and what each level is good for."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sppcls._util.console import one_line
from sppcls._util.files import check_local, check_new_file
from sppcls.cli.command import command
from sppcls.cli.common import CheckpointFile, Loading, Positive, report_bad
from sppcls.errors import ConfigError

if TYPE_CHECKING:
    from sppcls.inference.explain.explanation import Explanation


@command
def run(
    checkpoint: CheckpointFile,
    photo: str | None = None,
    *,
    out: str | None = None,
    class_: str | None = None,
    shorter_side: Positive | None = None,
    overwrite: bool = False,
    set_: str | None = None,
    loading: Loading,
) -> int:
    """Draw what the pyramid saw in a photo: the bins of every level, the cells that their maxima come from, and what
    each cell, bin and level adds to the score of a class.

    examples:
      sppcls explain runs/shapes/NAME/best.ckpt photo.jpg
      sppcls explain CKPT --set PHOTOS                    the error without each level

    Prints those figures and the weights that each level has in the head's first layer. With --set also the error over many
    images with each level set to zero; the exit status is 1 if one of them could not be read.

    Args:
        checkpoint (CKPT): best.ckpt or last.ckpt of a run
        photo (PHOTO): an image file, taken whole
        out (FILE): picture to write: .png, .pdf, .svg, ... (PHOTO-explained.png, here)
        class_ (NAME): class to explain (the most probable one)
        shorter_side (N): pixels of the photo's shorter side (in proportion to the training: 256 for 224)
        overwrite: replace the picture if it is there
        set_ (FOLDER): count errors over FOLDER/val/CLASS/* or FOLDER/CLASS/*, seen as in validation (one centre view)
    """
    if photo is None and set_ is None:
        raise ConfigError("sppcls explain: give a photo, or a folder with --set; see sppcls explain --help")
    for option, value in {"--out": out, "--class": class_, "--shorter-side": shorter_side}.items():
        if photo is None and value is not None:
            raise ConfigError(f"sppcls explain: {option}: needs a photo; see sppcls explain --help")
    for name in filter(None, (photo, set_)):
        check_local(name, "sppcls explains image files")
    if photo is not None and Path(photo).is_dir():
        raise ConfigError(
            f"{photo}: a folder; name one image in it, or count errors over all with --set {photo}"
        )
    from sppcls.data import labelled_images
    from sppcls.data.classes import missing_line
    from sppcls.inference.explain.explanation import class_number, explain
    from sppcls.inference.explain.levels import level_errors, norms_table, pyramid_of
    from sppcls.inference.explain.picture import check_kind, save_figure
    from sppcls.nn.model_info import is_multi_label

    if photo is not None:
        picture = check_new_file(out or f"{Path(photo).stem}-explained.png", overwrite)
        check_kind(picture)
    net = loading.load(checkpoint)
    pyramid_of(net, checkpoint)
    model_info = net.model_info
    if class_ is not None:
        class_number(model_info["classes"], class_)
    if set_ is not None:
        if is_multi_label(model_info):
            raise ConfigError(
                f"--set {set_}: counts top-1 errors, and {checkpoint} was trained on images with several labels; "
                "`sppcls evaluate` measures it"
            )
        targets = labelled_images(set_, model_info["classes"]).targets
        if line := missing_line(model_info["classes"], targets):
            print(one_line(f"sppcls: note: {line}"), file=sys.stderr)
    if photo is not None:
        explanation = explain(net, photo, class_, shorter_side)
        save_figure(explanation.figure(), picture)
        print(
            f"{explanation}\n\n{_MEANING}\n{_truth(photo, explanation, model_info['classes'])}\nPicture: {picture}\n"
        )
    print(norms_table(net))
    if set_ is None:
        return 0
    errors = level_errors(net, set_, loading.batch_size, loading.workers)
    print(f"\nTop-1 error over the {errors.images} images of {set_}, seen as in validation:\n\n{errors}")
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
