"""``sppcls features``: outputs of a layer for the images of a folder, as one npz file."""

from __future__ import annotations

import sys
from typing import Literal

from sppcls.cli.command import command
from sppcls.cli.common import CheckpointFile, Loading, Positive, check_there, report_bad


@command
def run(
    checkpoint: CheckpointFile,
    folder: str,
    *,
    out: str,
    layer: str = "spp",
    view: Literal["full", "crop"] | None = None,
    shorter_side: Positive | None = None,
    overwrite: bool = False,
    loading: Loading,
) -> int:
    """Write the outputs of one layer for every image of a folder.

    examples:
      sppcls features runs/shapes/NAME/best.ckpt photos/ --out features.npz
      sppcls features CKPT photos/ --layer fc7 --out fc7.npz

    numpy.load(FILE) has features (N, D), paths, labels and classes (of FOLDER/CLASS/*, alone or in train/ and val/; else
    labels are -1), and how they were made. The exit status is 1 if an image could not be read and is left out.

    Args:
        checkpoint (CKPT): best.ckpt or last.ckpt of a run
        folder (FOLDER): images, at any depth
        layer (NAME): conv1, ..., map, level6 (the 6x6 level of the pyramid), spp (all of it), fc6, fc7, logits; any other
            word brings the list of this network's (spp)
        out (FILE): the file, .npz
        view: the whole image, its aspect kept, or the central crop (full; crop if the network takes one size only)
        shorter_side (N): pixels of the image's shorter side, before the crop is cut (as in training: 256 for 224)
        overwrite: replace the file if it is there
    """
    check_there(folder, "sppcls reads folders of images")
    from sppcls.inference.features import check_out, list_images, write_features
    from sppcls.inference.layers import repeated_levels

    check_out(out, overwrite)
    list_images(folder)
    net = loading.load(checkpoint)
    written = write_features(
        net,
        folder,
        out,
        layer,
        view=view,
        shorter_side=shorter_side,
        **loading.reading,
        checkpoint=checkpoint,
        overwrite=overwrite,
    )
    print(f"{out}: {layer} of {written.images} images, {written.length} numbers each; {written.view}")
    if note := repeated_levels(net, written.view.example):
        print(f"sppcls: note: {note}", file=sys.stderr)
    return report_bad("left out", written.bad)
