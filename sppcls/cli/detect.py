"""``sppcls detect ...``: windows, training, evaluation and use of object detectors."""

from __future__ import annotations

from importlib import import_module

from sppcls._util.console import one_line
from sppcls._util.near import choose_from
from sppcls.errors import ConfigError

# Each is a module sppcls.cli.detect_* with a function ``run``.
VERBS = {
    "windows": "propose windows for photos; with boxes at hand also their recall",
    "train": "train a detector: windows, maps, fine-tuning, SVMs, box regression",
    "evaluate": "average precision of a detector on images with boxes",
    "combine": "two detectors or more as one, beside each of them",
    "predict": "find objects in photos, and draw their boxes",
    "export": "write a detector as an ONNX file",
}


def run(words: list[str]) -> int:
    """Hand the words to the verb's module."""
    if not words or words[0] in ("-h", "--help", "help"):
        print(_usage(), end="")
        return 0 if words else 1
    if words[0].startswith("-"):
        option = one_line(words[0].partition("=")[0])
        raise ConfigError(
            f"sppcls detect: {option}: unknown option; those of a verb stand after it: sppcls detect VERB {option}"
        )
    if words[0] not in VERBS:
        raise ConfigError(
            f"sppcls detect: {one_line(words[0])}: unknown verb; {choose_from(words[0], VERBS)}; see sppcls detect --help"
        )
    done: int = import_module(f"sppcls.cli.detect_{words[0]}").run(words[1:])
    return done


def _usage() -> str:
    width = max(map(len, VERBS))
    rows = "".join(f"  {name:<{width}}   {text}\n" for name, text in VERBS.items())
    return (
        "usage: sppcls detect <verb> ...\n\n"
        "Detect objects with a trained classifier (He et al. 2015, sec. 4): windows of a\n"
        "photo are pooled from its feature maps, scored by a linear SVM for each class,\n"
        "and moved by box regression.\n"
        "`sppcls detect <verb> --help` has the arguments of a verb.\n\n"
        f"verbs:\n{rows}\n"
        "examples, in this order:\n"
        "  sppcls detect train CKPT --data SET            a detector, in runs/detect/\n"
        "  sppcls detect evaluate DET --data SET          how good it is\n"
        "  sppcls detect predict DET photos/ --draw DIR   what it finds in photos\n\n"
        "CKPT is best.ckpt of a training with a pyramid, SET a set of photos with boxes\n"
        "(VOC, COCO or YOLO), DET the detector.ckpt that the first command writes.\n"
    )
