"""Test views from feature maps against the same views cut from the image, and whole images in buckets against one at a
time: time and errors.

    python benchmarks/views.py CKPT --data data.root=PHOTOS [--limit 100] [--rounds 3] [--what ten,96,full]

The two sides of a row take turns; times are medians over the rounds, reading the images included. The peer of the 96
views is the usual way to do it: every view is cut, resized to 224 and sent through the whole network, in batches of 32.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from common import Row, finish, ratio_row
from common import parser as arguments
from torch import Tensor, nn

import sppcls
from sppcls._util.console import table
from sppcls.config.build import load_sources
from sppcls.config.compose import compose_unchecked
from sppcls.config.restore import restore
from sppcls.data import FileSource, Source
from sppcls.data.sizes import as_size
from sppcls.evaluation import Predictions, evaluate_protocol, load_protocol

OF_THE_LIMIT = {"96 windows + 2 full": 0.8}
"""What share of the arithmetic limit is wanted: how many times fewer pixels the convolutions see than with the peer's crops."""


@dataclass
class Side:
    """One way to do it, and what it found in every round."""

    label: str
    run: Callable[[], Predictions]
    seconds: list[float]
    found: Predictions | None = None
    pixels: int = 0
    """That went through the convolutions, in the last round."""

    def measure(self, backbone: nn.Module) -> None:
        self.pixels = 0

        def count(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self.pixels += inputs[0].numel() // 3

        with backbone.register_forward_pre_hook(count):
            self.found = self.run()
        self.seconds.append(self.found.seconds)


def some_of(source: Source, limit: int) -> Source:
    """At most ``limit`` images, evenly spread."""
    count = min(limit, len(source))
    chosen = [i * len(source) // count for i in range(count)]
    if not isinstance(source, FileSource):
        raise SystemExit("benchmarks/views.py: needs images in files, --data data=folder data.root=PHOTOS")
    names, targets = [source.name(i) for i in chosen], [source.targets[i] for i in chosen]
    return FileSource(source.root, names, targets, source.classes)


def main() -> None:
    parser = arguments(__doc__, 3)
    parser.add_argument("checkpoint")
    parser.add_argument("--data", nargs="+", default=[], metavar="KEY=VALUE")
    parser.add_argument("--limit", type=int, default=100, help="validation images (100)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--what", default="ten,96,full", help="rows, with commas between (all)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    net = sppcls.load_classifier(args.checkpoint).to(memory_format=torch.channels_last)
    assert isinstance(net.model_info, dict)
    overrides = args.data
    saved = {**net.model_info["config"], "ckpt_path": None}
    config = restore(saved, compose_unchecked(overrides), overrides, args.checkpoint)
    source = some_of(load_sources(config)[1], args.limit)
    size = as_size(net.model_info["val_sizes"][0], "model_info")

    def side(label: str, protocol: str, batch_size: int = 32, rule: str | None = None) -> Side:
        views = load_protocol(protocol, rule).at(size)
        return Side(
            label, lambda: evaluate_protocol(net, source, views, batch_size=batch_size, keep_scores=True), []
        )

    lines: list[tuple[str, ...]] = []
    rows: list[Row] = []
    pairs = {
        "ten": [
            side("ten crops", "ten_view"),
            *(
                side(f"ten windows, {rule}", "feature_ten_view", rule=rule)
                for rule in ("appendix", "report", "released")
            ),
        ],
        "96": [
            side("96 crops + 2 full", "multi_scale_96_crops+full_flip"),
            side("96 windows + 2 full", "multi_scale_96_full2"),
        ],
        "full": [side("full, one at a time", "full", batch_size=1), side("full, in buckets", "full")],
    }
    for name in args.what.split(","):
        sides = pairs[name]
        for _ in range(args.rounds):
            for each in sides:
                each.measure(net.backbone)
        first = sides[0]
        assert first.found is not None
        assert first.found.scores is not None
        for each in sides:
            assert each.found is not None
            assert each.found.scores is not None
            score = np.abs(each.found.scores - first.found.scores)
            other = each.found.scores.argmax(1) != first.found.scores.argmax(1)
            if each is not first:
                what = f"{each.label}, of {len(source)} images"
                limit = first.pixels / each.pixels
                share = OF_THE_LIMIT.get(each.label)
                peer = f"{first.label} (pixels of the convolutions: {limit:.2f} times as many)"
                bar = round(share * limit, 2) if share else None
                rows.append(ratio_row(what, peer, first.seconds, each.seconds, bar))
            lines.append(
                (
                    each.label,
                    f"{statistics.median(each.seconds) / len(source) * 1000:.1f}",
                    f"{statistics.median(first.seconds) / statistics.median(each.seconds):.2f}",
                    f"{each.found.top1_error:.2f}",
                    f"{each.found.top1_error - first.found.top1_error:+.2f}",
                    f"{score.mean():.4f}",
                    f"{score.max():.4f}",
                    f"{100 * other.mean():.1f}",
                )
            )
    head = (
        "",
        "ms/image",
        "times as fast",
        "top-1 error %",
        "difference",
        "mean |score diff|",
        "max",
        "other class %",
    )
    print(
        f"{len(source)} images, {args.rounds} rounds, {torch.get_num_threads()} thread(s), torch {torch.__version__}"
    )
    print(table(lines, head))
    finish(rows, args)


if __name__ == "__main__":
    main()
