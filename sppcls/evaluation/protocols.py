"""Protocols as values: lists of views, read from ``conf/protocol/``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from sppcls.composition import conf_dir
from sppcls.config import suggest
from sppcls.data import Size, size_label
from sppcls.errors import ConfigError
from sppcls.evaluation.mapping import WINDOW_RULES
from sppcls.nn import ConvHead, SpatialPyramidPooling2d, SPPClassifier

KINDS = ("crop", "window", "full")
AVERAGES = ("softmax", "logits")
_FLIPS = {"no": (False,), "yes": (True,), "both": (False, True)}

# Where a view lies in the whole image, as shares of the room that is left down and to the right.
PLACES: dict[str, tuple[float, float]] = {
    "center": (0.5, 0.5),
    "top_left": (0.0, 0.0),
    "top_right": (0.0, 1.0),
    "bottom_left": (1.0, 0.0),
    "bottom_right": (1.0, 1.0),
    "top": (0.0, 0.5),
    "bottom": (1.0, 0.5),
    "left": (0.5, 0.0),
    "right": (0.5, 1.0),
}


@dataclass(frozen=True)
class Views:
    """A group of views: every scale with every position and flip.

    Attributes:
        kind: ``crop``: regions cut from the image; ``window``: the same regions, pooled from the feature map of the
            whole image (He et al. 2015, sec. 3.1.5); ``full``: the whole image, its aspect kept.
        scales: shorter sides of the whole image in pixels.
        positions: names of :data:`PLACES`; none for ``full``. Positions that coincide count once: at a shorter side
            of 224 the nine positions of a 224 region are three.
        flips: whether the whole image is mirrored first.
    """

    kind: str
    scales: tuple[int, ...]
    positions: tuple[str, ...]
    flips: tuple[bool, ...]


@dataclass(frozen=True)
class Protocol:
    """A named way to test a network.

    Attributes:
        name: what results are called.
        groups: the views; every view of an image weighs the same.
        region: (height, width) of a crop or window in pixels.
        average: what is averaged over views, ``softmax`` (the paper) or ``logits``.
        window_rule: one of :data:`~sppcls.evaluation.mapping.WINDOW_RULES`.
    """

    name: str
    groups: tuple[Views, ...]
    region: Size
    average: str = "softmax"
    window_rule: str = "appendix"

    def at(self, size: Size) -> Protocol:
        """The same protocol for another region; scales keep their proportion to it.

        Protocols are written for 224; ``protocol.at((180, 180))`` tests a network of that size.
        """
        factor = min(size) / min(self.region)
        groups = tuple(
            replace(group, scales=tuple(max(round(s * factor), min(size)) for s in group.scales))
            for group in self.groups
        )
        return replace(self, groups=groups, region=size)

    def check_fits(self, net: SPPClassifier) -> None:
        """Raise ConfigError if the network cannot see these views."""
        for group in self.groups:
            if group.kind == "crop":
                try:
                    net.check_input_size(*self.region)
                except ValueError as error:
                    raise ConfigError(f"protocol {self.name}: {error}") from None
                continue
            if net.fixed_size is not None:
                raise ConfigError(
                    f"protocol {self.name}: has {group.kind} views, which need a network of any image size; "
                    f"this one takes {size_label(net.fixed_size)} only, as it has no pyramid"
                )
            if (
                group.kind == "window"
                and not isinstance(net.pool, SpatialPyramidPooling2d)
                and not isinstance(net.head, ConvHead)
            ):
                raise ConfigError(
                    f"protocol {self.name}: has window views, which need a pyramid or a fully-convolutional head"
                )
            smallest = net.min_input_size
            if smallest is not None and min(group.scales) < smallest:
                raise ConfigError(
                    f"protocol {self.name}: a shorter side of {min(group.scales)} is too small; "
                    f"this network needs {smallest} at least"
                )

    def views_of_a_photo(self) -> int:
        """Number of views of an image that is not square."""
        total = 0
        for group in self.groups:
            for scale in group.scales:
                places = {_offset(PLACES[p], (scale, 2 * scale), self.region) for p in group.positions}
                total += len(group.flips) * max(1, len(places))
        return total


def view_offsets(group: Views, whole: Size, region: Size) -> list[tuple[int, int]]:
    """Distinct (top, left) corners of a group's regions in a whole image, in the order of its positions."""
    return list(dict.fromkeys(_offset(PLACES[name], whole, region) for name in group.positions))


def _offset(place: tuple[float, float], whole: Size, region: Size) -> tuple[int, int]:
    down, right = max(0, whole[0] - region[0]), max(0, whole[1] - region[1])
    return int(down * place[0]), int(right * place[1])


# --- reading


def protocol_names() -> list[str]:
    """Names of the protocols that come with sppcls."""
    return sorted(path.stem for path in _folder().glob("*.yaml"))


def load_protocol(name: str, window_rule: str | None = None) -> Protocol:
    """A protocol by name, by the path of a YAML file, or several joined by ``+`` (their views together).

    Raises:
        ConfigError: unknown name, or a file that says something impossible.
    """
    parts = [_load_one(part, ()) for part in name.split("+")]
    first = parts[0]
    for part in parts[1:]:
        if (part.region, part.average, part.window_rule) != (first.region, first.average, first.window_rule):
            raise ConfigError(
                f"protocol {name}: its parts differ in region, average or window_rule and cannot be joined"
            )
    joined = replace(
        first,
        name="+".join(part.name for part in parts),
        groups=tuple(group for part in parts for group in part.groups),
    )
    if window_rule is not None:
        if window_rule not in WINDOW_RULES:
            raise ConfigError(f"window_rule={window_rule}: choose from {', '.join(WINDOW_RULES)}")
        joined = replace(joined, window_rule=window_rule)
    return joined


def _folder() -> Path:
    return conf_dir() / "protocol"


def _load_one(name: str, above: tuple[str, ...]) -> Protocol:
    path = Path(name) if name.endswith((".yaml", ".yml")) else _folder() / f"{name}.yaml"
    if not path.is_file():
        known = protocol_names()
        hint = f"choose from {', '.join(known)}, a .yaml file, or several joined by +"
        raise ConfigError(f"protocol {name}: no such protocol{suggest(name, known)}; {hint}")
    if name in above:
        raise ConfigError(f"protocol {name}: includes itself")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"protocol {path}: cannot be read ({' '.join(str(error).split())})") from None
    return _from_mapping(path.stem, content, (*above, name))


def _from_mapping(name: str, content: Any, above: tuple[str, ...]) -> Protocol:
    where = f"protocol {name}"
    keys = ("region", "average", "window_rule", "include", "views")
    if not isinstance(content, Mapping):
        raise ConfigError(f"{where}: needs the keys {', '.join(keys)}")
    _check_keys(where, content, keys)
    region, average = content.get("region", 224), content.get("average", "softmax")
    rule = content.get("window_rule", "appendix")
    _check_choice(f"{where}: average", average, AVERAGES)
    _check_choice(f"{where}: window_rule", rule, WINDOW_RULES)
    _check_sides(f"{where}: region", [region])
    groups: list[Views] = []
    for part in content.get("include") or []:
        groups += _load_one(str(part), above).at((region, region)).groups
    for group in content.get("views") or []:
        groups.append(_views(where, group, region))
    if not groups:
        raise ConfigError(f"{where}: has no views")
    return Protocol(name, tuple(groups), (region, region), average, rule)


def _views(where: str, content: Any, region: int) -> Views:
    keys = ("kind", "scales", "positions", "flip")
    if not isinstance(content, Mapping):
        raise ConfigError(f"{where}: each of views needs the keys {', '.join(keys)}")
    _check_keys(f"{where}: views", content, keys)
    kind: Any = content.get("kind")
    flip: Any = content.get("flip", "no")
    flip = {True: "yes", False: "no"}.get(flip, flip)  # YAML reads yes and no as booleans
    _check_choice(f"{where}: kind", kind, KINDS)
    _check_choice(f"{where}: flip", flip, tuple(_FLIPS))
    scales: Any = content.get("scales")
    _check_sides(f"{where}: scales", scales)
    if kind != "full" and min(scales) < region:
        raise ConfigError(
            f"{where}: scales={scales}: a {kind} of {region} needs a shorter side of {region} at least"
        )
    positions = content.get("positions", [] if kind == "full" else None)
    if (
        not isinstance(positions, Sequence)
        or isinstance(positions, str)
        or (not positions) != (kind == "full")
    ):
        allowed = "none, as it sees the whole image" if kind == "full" else f"a list of {', '.join(PLACES)}"
        raise ConfigError(f"{where}: positions of a {kind} view: {allowed}")
    for position in positions:
        _check_choice(f"{where}: positions", position, tuple(PLACES))
    return Views(kind, tuple(scales), tuple(positions), _FLIPS[flip])


def _check_keys(where: str, content: Mapping[Any, Any], known: Sequence[str]) -> None:
    for key in content:
        if key not in known:
            raise ConfigError(f"{where}: {key}: unknown key; known: {', '.join(known)}")


def _check_choice(what: str, value: Any, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ConfigError(f"{what}={value}: choose from {', '.join(choices)}")


def _check_sides(what: str, sides: Any) -> None:
    good = isinstance(sides, list) and sides and all(type(s) is int and s > 0 for s in sides)
    if not good:
        raise ConfigError(f"{what}={sides}: whole numbers of pixels are needed")
