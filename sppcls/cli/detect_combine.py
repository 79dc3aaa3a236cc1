"""``sppcls detect combine``: several detectors as one, on images with boxes."""

from __future__ import annotations

from sppcls._util.console import table
from sppcls.cli.command import command
from sppcls.cli.detect_common import DetectorFiles, DetectorUse, JudgedBoxes, Work, bar
from sppcls.cli.detect_evaluate import result_table
from sppcls.errors import ConfigError


@command
def run(detectors: DetectorFiles, *, images: JudgedBoxes, work: Work, use: DetectorUse) -> int:
    """Judge detectors together: each scores its windows, and of the boxes of all the overlapping ones are suppressed
    (He et al. 2015, sec. 4.4, whose gain came from different convolutions). The classes must be the same.

    examples:
      sppcls detect combine DET1 DET2 --data SET

    Args:
        detectors (DET): files of `sppcls detect train`, two or more
    """
    if len(detectors) < 2:
        raise ConfigError("detect combine: name two detectors at least; `sppcls detect evaluate` takes one")
    from sppcls.detection.ap import judge
    from sppcls.detection.combine import check_alike, combine, renumbered
    from sppcls.detection.predict import detect_set

    loaded = [use.load_detector(path) for path in detectors]
    check_alike(loaded)
    classes = loaded[0].classes
    judged = images.read().as_classes(classes)
    for detector in loaded:
        detector.proposer.check()
    found = []
    for detector in loaded:
        own = detect_set(
            detector, judged, detector.proposer, work.kept, workers=work.workers, say=print, progress=bar,
        )  # fmt: skip
        found.append([renumbered(one, detector.classes, classes) for one in own])
    results = [judge(judged, one) for one in found]
    together = judge(judged, [combine(one, loaded[0].choice.nms) for one in zip(*found, strict=True)])
    print(f"{judged.name}, {judged.split}: {len(judged):,} images; all {len(detectors)} detectors together")
    print("average precision in per cent, with 95 % intervals over images\n")
    print(result_table(together))
    rows = []
    for path, result in zip(detectors, results, strict=True):
        cells: list[str] = []
        for measure, (gain, low, high) in together.minus(result).items():
            cells += [f"{result.mean[measure]:.1f}", f"{gain:+.1f} ({low:+.1f} to {high:+.1f})"]
        rows.append([path, *cells])
    print("\neach alone, and what the combination gains over it\n")
    print(table(rows, ["detector", "11-point", "gain", "all-point", "gain"]))
    return 0
