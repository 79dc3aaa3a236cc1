"""``sppcls detect combine``: several detectors as one, on images with boxes."""

from __future__ import annotations

from sppcls._util.console import table
from sppcls._util.files import check_local
from sppcls.cli.common import Parser, check_checkpoint
from sppcls.cli.detect_common import add_cache, add_detector_options, add_set, bar, load_on, scenes_of
from sppcls.cli.detect_evaluate import result_table
from sppcls.errors import ConfigError


def run(words: list[str]) -> int:
    """Judge each detector and all of them together."""
    args = _parser().parse_args(words)
    if len(args.detectors) < 2:
        raise ConfigError("detect combine: name two detectors at least; `sppcls detect evaluate` takes one")
    for path in args.detectors:
        check_checkpoint(path)
    check_local(args.data, "sppcls reads folders of images with boxes")
    from sppcls.detection.ap import judge
    from sppcls.detection.combine import check_alike, combine, renumbered
    from sppcls.detection.predict import detect_set
    from sppcls.detection.sets import read_set
    from sppcls.detection.store import default_cache

    detectors = [load_on(path, args) for path in args.detectors]
    check_alike(detectors)
    classes = detectors[0].classes
    images = read_set(
        args.data, args.split, purpose="test", count=scenes_of(args.data, args.scenes)
    ).as_classes(classes)
    for detector in detectors:
        detector.proposer.check()
    found = []
    for detector in detectors:
        own = detect_set(
            detector, images, detector.proposer, args.cache or default_cache(), workers=args.workers, say=print,
            progress=bar,
        )  # fmt: skip
        found.append([renumbered(one, detector.classes, classes) for one in own])
    results = [judge(images, one) for one in found]
    together = judge(images, [combine(one, detectors[0].choice.nms) for one in zip(*found, strict=True)])
    print(f"{images.name}, {images.split}: {len(images):,} images; all {len(detectors)} detectors together")
    print("average precision in per cent, with 95 % intervals over images\n")
    print(result_table(together))
    rows = []
    for path, result in zip(args.detectors, results, strict=True):
        cells: list[str] = []
        for measure, (gain, low, high) in together.minus(result).items():
            cells += [f"{result.mean[measure]:.1f}", f"{gain:+.1f} ({low:+.1f} to {high:+.1f})"]
        rows.append([path, *cells])
    print("\neach alone, and what the combination gains over it\n")
    print(table(rows, ["detector", "11-point", "gain", "all-point", "gain"]))
    return 0


def _parser() -> Parser:
    parser = Parser(
        "detect combine",
        "Judge detectors together: each scores its windows, and of the boxes of all the overlapping ones are suppressed\n"
        "(He et al. 2015, sec. 4.4, whose gain came from different convolutions). The classes must be the same.",
    )
    parser.add_argument("detectors", nargs="+", metavar="DET", help="files of `sppcls detect train`")
    add_set(parser, "test, or else val")
    add_cache(parser)
    add_detector_options(parser)
    return parser
