"""Proof that an exported file is the network: their logits, compared at sizes that the file has never seen."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from sppcls.data.geometry import default_shorter_side
from sppcls.data.sizes import Size
from sppcls.data.transforms import prepare_batch
from sppcls.errors import ConfigError
from sppcls.inference.export.graph import quiet, reason
from sppcls.nn import SPPClassifier
from sppcls.nn.model_info import is_multi_label, model_info_of
from sppcls.nn.model_info import probabilities as of_logits

TOLERANCE = 1e-4
"""Largest logit difference that is accepted, relative to the largest logit. float32 alone causes about 1e-6."""

Run = Callable[[Tensor], tuple[Tensor, Tensor]]
"""uint8 images (N, 3, H, W) to logits and probabilities (N, classes)."""


def parity_batches(
    net: SPPClassifier, fixed: Size | None, smallest: Size, traced: Size
) -> list[tuple[int, Size]]:
    """(batch, size) to compare at: twelve sizes new to the network and the tracer, from the smallest on; or the one."""
    if fixed is not None:
        return [(batch, fixed) for batch in (1, 2, 3)]
    model_info = model_info_of(net)
    h, w = smallest
    main = max(min(model_info["val_sizes"][0]), *smallest)
    short = default_shorter_side((main, main))
    long = 3 * short // 2
    wanted = [(h, w), (h, long), (long, w + 1), (short, short), (short, long), (4 * short // 3, short)]
    wanted += [(h + 5 + 29 * step, main + 13 * step) for step in range(12)]
    wanted += [(main + 1 + 11 * step, main + 1 + 5 * step) for step in range(12)]
    seen = {tuple(size) for size in [*model_info["train_sizes"], *model_info["val_sizes"], traced]}
    new = [size for size in dict.fromkeys(wanted) if size not in seen]
    chosen = [*new[:6], *new[6::4]][:12]
    # Small batches of the small ones only: each size costs two passes through the network.
    return [(3 if index == 0 else 2 if index == 1 else 1, size) for index, size in enumerate(chosen)]


def compare(net: SPPClassifier, run: Run, batches: list[tuple[int, Size]]) -> list[dict[str, Any]]:
    """Compare ``run`` with the network, fed as in training and validation: one entry of the report per batch.

    Raises:
        ConfigError: ``run`` fails.
    """
    model_info, entries = model_info_of(net), []
    generator = torch.Generator().manual_seed(0)
    for batch, size in tqdm(batches, desc="comparing", unit="size", disable=None, leave=False):
        images = _test_images(batch, size, generator)
        with torch.inference_mode(), quiet():
            expected = net(prepare_batch(images, size, model_info["mean"], model_info["std"]))
            try:
                logits, probabilities = run(images)
            except Exception as error:
                raise ConfigError(
                    f"the file would not run on {batch} x 3 x {size[0]} x {size[1]} ({reason(error)}); "
                    "nothing was written"
                ) from error
        entries.append(
            {
                "batch": batch,
                "height": size[0],
                "width": size[1],
                "max_abs_logit": _largest(expected),
                "max_abs_difference": _largest(logits - expected),
                "max_abs_probability_difference": _largest(
                    probabilities - of_logits(expected, is_multi_label(model_info))
                ),
            }
        )
    return entries


def _largest(values: Tensor) -> float:
    return float(values.abs().max())


def _test_images(batch: int, size: Size, generator: torch.Generator) -> Tensor:
    """Coarse colours with noise: structure at every scale, as photos have."""
    coarse = torch.rand(batch, 3, 8, 8, generator=generator)
    smooth = nn.functional.interpolate(coarse, size, mode="bilinear", align_corners=False)
    noise = torch.rand(batch, 3, *size, generator=generator)
    return (190 * smooth + 65 * noise).to(torch.uint8)


def check_parity(report: dict[str, Any]) -> None:
    """Raise ConfigError, naming the size, if a file differs by more than :data:`TOLERANCE` anywhere."""
    if not all(math.isfinite(entry["max_abs_logit"]) for entry in report["sizes"]):
        raise ConfigError("the network gives logits that are not finite; nothing was written")
    for entry in report["sizes"]:
        # Written so that NaN fails.
        allowed = TOLERANCE * report["max_abs_logit"]
        if not (
            entry["max_abs_difference"] <= allowed and entry["max_abs_probability_difference"] <= TOLERANCE
        ):
            raise ConfigError(
                f"the file gives other logits than the network: by {entry['max_abs_difference']:.2g} at "
                f"{entry['height']}x{entry['width']}, where {allowed:.2g} is allowed; nothing was written"
            )
