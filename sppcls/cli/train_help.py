"""The text of ``python train.py --help``, made from the configs and the schema, so that it cannot fall behind."""

from __future__ import annotations

import dataclasses
import re
import textwrap
from collections.abc import Sequence
from functools import reduce
from itertools import takewhile
from typing import Any, cast

from omegaconf import OmegaConf

from sppcls.cli.layout import help_columns, laid_out
from sppcls.config.compose import CONFIG_NAME, compose_unchecked, conf_dir, group_choices
from sppcls.config.key import all_keys
from sppcls.config.schema import Config
from sppcls.sweeps.overrides import named_files

_HEAD = """\
usage: python train.py [group=choice ...] [key=value ...] [options]

Train an image classifier with spatial pyramid pooling, at one input size or at several in turn.

examples:
  python train.py  generated images, 224 and 180 in turn
  python train.py --data PHOTOS  your own: PHOTOS/train/CLASS/*.jpg
  python train.py pyramid=none sizes=single_224  the same network without SPP
  python train.py pyramid.levels=[5,3,1] sizes.sizes=[256,192,128]  any pyramid, any sizes
  python train.py ckpt_path=runs/shapes/NAME  resume a run (auto: if there is one)
  python train.py -m seed=0,1,2 sizes=single_224,multi_224_180  one run for every combination of values
  python train.py -m +sweep=single_vs_multi --data PHOTOS  a prepared sweep; again: resume it
  python train.py experiment=paper/zf5_multi data.root=IMAGENET  a cell of the paper's Table 2
  python train.py backbone=resnet18 backbone.weights=DEFAULT pyramid=l4321 head=linear optimizer=adamw optimizer.lr=3e-4

options:
  --data PHOTOS  short for data=folder data.root=PHOTOS
  -m, --multirun  train with each of several values
  --config-dir DIR  folder with configs of your own
  --cfg job  print the config, and do not train; `sppcls sizes` with the same words prints the plan
  --help all  every key with its meaning, and every experiment; --hydra-help: Hydra's other options
"""


# Keys that nearly every training sets; the groups are the others.
_MOST_USED = (
    "data.root", "data.batch_size", "data.workers", "sizes.sizes", "pyramid.levels", "backbone.weights", "optimizer.lr",
    "trainer.max_epochs", "seed", "ckpt_path",
)  # fmt: skip


def train_help(everything: bool = False) -> str:
    """The keys that are used most, then each group's choices with a line of meaning.

    Args:
        everything: every key with default, meaning and allowed values, and every experiment, too.
    """
    values = OmegaConf.to_container(compose_unchecked([]), resolve=True)
    columns = help_columns()
    lines = [laid_out(_HEAD, columns), "\nthe keys used most, with the value of the default run:"]
    for name in _MOST_USED:
        lines += _key(name, all_keys(Config)[name], values, 29, columns)
    lines += ["", "config groups (the default choice is marked *):"]
    chosen = _default_choices()
    for group, choices in group_choices().items():
        if group == "experiment":
            shown = (
                ", ".join(choices) if everything else f"{', '.join(choices[:3])} and {len(choices) - 3} more"
            )
            lines += [*_wrap("  experiment=  ", shown, columns), ""]
        elif len(choices) > 1:  # else there is nothing to choose
            lines.append(f"  {group}=")
            for names, purpose in _by_purpose(group, choices).items():
                marked = ", ".join(f"{name}*" if name == chosen.get(group) else name for name in names)
                lines += _wrap(f"    {marked:<24} ", purpose, columns, below=29)
            lines.append("")
    lines += _wrap("sweeps, with -m +sweep=NAME: ", ", ".join(named_files("sweep")), columns)
    if everything:
        lines += ["\nall keys, with the value of the default run:", *_keys(Config, values, "", columns)]
    return "\n".join(lines) + "\n"


def _by_purpose(group: str, choices: Sequence[str]) -> dict[tuple[str, ...], str]:
    """Purposes of choices; those that differ in nothing but the choice's own name stand together."""
    names: dict[str, list[str]] = {}
    for choice in choices:
        names.setdefault(_purpose(group, choice).replace(f" {choice},", ","), []).append(choice)
    return {
        tuple(alike): purpose if len(alike) > 1 else _purpose(group, alike[0])
        for purpose, alike in names.items()
    }


def _purpose(group: str, choice: str) -> str:
    """The first sentence of a config's comment."""
    file = conf_dir() / group / f"{choice}.yaml"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    comment = list(takewhile(lambda line: line.startswith("#"), lines))
    text = " ".join(line.removeprefix("#").strip() for line in comment if "@package" not in line)
    sentence = re.split(r"(?<!sec)(?<!al)(?<!Fig)\. ", text, maxsplit=1)[0].rstrip(".")
    return textwrap.shorten(sentence, 81, placeholder=" ...")


def _default_choices() -> dict[str, str]:
    defaults = OmegaConf.load(conf_dir() / f"{CONFIG_NAME}.yaml").defaults
    pairs = (next(iter(entry.items())) for entry in defaults if not isinstance(entry, str))
    # A list of choices has one or none.
    return {
        str(group): choice if isinstance(choice, str) else "".join(choice or []) for group, choice in pairs
    }


def _keys(schema: type, values: Any, prefix: str, columns: int) -> list[str]:
    plain: list[str] = []
    nested: list[str] = []
    for spec in dataclasses.fields(schema):
        group: Any = spec.default_factory
        if dataclasses.is_dataclass(group):
            nested += ["", f"  {spec.name}: {(group.__doc__ or '').strip()}"]
            nested += _keys(cast(type, group), values, f"{spec.name}.", columns)
        else:
            plain += _key(prefix + spec.name, spec, values, 40, columns)
    return plain + nested


def _key(name: str, spec: dataclasses.Field[Any], values: Any, width: int, columns: int) -> list[str]:
    value = reduce(lambda group, part: group[part], name.split("."), values)
    return _wrap(f"    {f'{name}={_show(value)}':<{width}} ", _meaning(spec), columns)


def _meaning(spec: dataclasses.Field[Any]) -> str:
    text = str(spec.metadata["help"])
    choices = spec.metadata["choices"]
    # Choices that the text already explains, or that the group list shows, are not repeated.
    if choices and not all(str(c) in text for c in choices) and len(choices) <= 8:
        text += f" [{', '.join('null' if c is None else str(c) for c in choices)}]"
    return text


def _show(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ",".join(map(_show, value)) + "]"
    return str(value)


def _wrap(label: str, text: str, columns: int, below: int = 45) -> list[str]:
    """Text after a label; below it, from a column on, where the label is long."""
    if len(label) > 46:
        return [*textwrap.wrap(label, columns, subsequent_indent="    "), *_wrap(" " * below, text, columns)]
    return textwrap.wrap(text, columns, initial_indent=label, subsequent_indent=" " * len(label))
