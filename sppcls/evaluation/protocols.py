"""Protocols as values: lists of views, read from ``conf/protocol/``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from sppcls._util.near import choose_from, suggest
from sppcls._util.reason import reason_of
from sppcls.config.early import protocol_path
from sppcls.data import Size, size_label
from sppcls.data.stream import MAX_RESIZED_PIXELS
from sppcls.errors import ConfigError
from sppcls.evaluation.mapping import WINDOW_RULES
from sppcls.nn import SPPClassifier

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

    @property
    def setting(self) -> dict[str, str]:
        """What else than the views decides about a result, as text."""
        setting = {"size": size_label(self.region), "average": self.average}
        return {**setting, "window_rule": self.window_rule} if self.has_windows else setting

    @property
    def has_windows(self) -> bool:
        """Whether any view is pooled from a window of the feature map."""
        return any(group.kind == "window" for group in self.groups)

    def check_fits(self, net: SPPClassifier) -> None:
        """Raise ConfigError if the network cannot see these views."""
        for group in self.groups:
            if problem := self._problem(group, net):
                raise ConfigError(f"protocol {self.name}: {problem}")

    def _problem(self, group: Views, net: SPPClassifier) -> str:
        """Why a network cannot see these views; empty if it can."""
        if group.kind == "crop":
            try:
                net.check_input_size(*self.region)
            except ValueError as error:
                return str(error)
            return ""
        if net.fixed_size is not None:
            return (
                f"has {group.kind} views, which need a network of any image size; "
                f"this one takes {size_label(net.fixed_size)} only, as it has no pyramid"
            )
        if group.kind == "window" and not net.takes_windows:
            return "has window views, which need a pyramid or a fully-convolutional head"
        low, high = min(group.scales), max(group.scales)
        if high**2 > MAX_RESIZED_PIXELS:
            most = f"{MAX_RESIZED_PIXELS:,} pixels at most"
            return f"a shorter side of {high} is too large; whole images are resized to {most}"
        if low < net.min_input_size:
            return f"a shorter side of {low} is too small; this network needs {net.min_input_size} at least"
        return ""

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


def load_protocol(name: str, window_rule: str | None = None) -> Protocol:
    """A protocol by name, by the path of a YAML file, or several joined by ``+`` (their views together).

    Raises:
        ConfigError: unknown name, or a file that says something impossible.
    """
    name = name.strip()
    words = [name] if _is_file(Path(name)) else name.split("+")
    parts = [_load_one(word.strip(), Path(), ()) for word in words]
    for part in parts[1:]:
        _check_alike(name, part, parts[0])
    joined = replace(
        parts[0],
        name="+".join(part.name for part in parts),
        groups=tuple(group for part in parts for group in part.groups),
    )
    if window_rule is not None:
        _check_choice("window_rule", window_rule, WINDOW_RULES)
        joined = replace(joined, window_rule=window_rule)
    return joined


def load_protocols(names: Sequence[str], window_rule: str | None = None) -> list[Protocol]:
    """Several protocols, as :func:`load_protocol` reads each.

    Raises:
        ConfigError: also where two have one name, under which only one result could be kept.
    """
    protocols = [load_protocol(name, window_rule) for name in names]
    for number, protocol in enumerate(protocols):
        if protocol.name in [other.name for other in protocols[:number]]:
            raise ConfigError(
                f"protocol {names[number]}: a second one named {protocol.name}; rename its file"
            )
    if window_rule is not None and not any(protocol.has_windows for protocol in protocols):
        raise ConfigError(
            f"window_rule={window_rule}: none of {', '.join(names)} has windows of feature maps"
        )
    return protocols


def _check_alike(name: str, part: Protocol, whole: Protocol) -> None:
    if (part.region, part.average, part.window_rule) != (whole.region, whole.average, whole.window_rule):
        raise ConfigError(
            f"protocol {name}: {part.name} has another region, average or window_rule, so they cannot be joined"
        )


def _is_file(path: Path) -> bool:
    try:
        return path.suffix in (".yaml", ".yml") and path.is_file()
    except OSError:  # a name that is too long
        return False


def _load_one(name: str, beside: Path, above: tuple[Path, ...]) -> Protocol:
    """A protocol by name, or of a file; a relative path counts from the folder ``beside``."""
    path = protocol_path(name, beside)
    if path.resolve() in above:
        raise ConfigError(f"protocol {name}: includes itself")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError, OSError) as error:
        raise ConfigError(f"protocol {path}: cannot be read ({reason_of(error)})") from None
    return _from_mapping(path, content, (*above, path.resolve()))


def _from_mapping(path: Path, content: Any, above: tuple[Path, ...]) -> Protocol:
    where = f"protocol {path.stem}"
    keys = ("region", "average", "window_rule", "include", "views")
    if not isinstance(content, Mapping):
        raise ConfigError(f"{where}: needs the keys {', '.join(keys)}")
    _check_keys(where, content, keys)
    included, own = content.get("include") or [], content.get("views") or []
    for key, value in (("include", included), ("views", own)):
        if not isinstance(value, list):
            raise ConfigError(f"{where}: {key}={value}: a list is needed")
    parts = [_load_one(str(part), path.parent, above) for part in included]
    # What a file does not say is as in the first protocol that it includes.
    first = parts[0] if parts else Protocol(path.stem, (), (224, 224))
    region = content.get("region", first.region[0])
    average, rule = content.get("average", first.average), content.get("window_rule", first.window_rule)
    _check_choice(f"{where}: average", average, AVERAGES)
    _check_choice(f"{where}: window_rule", rule, WINDOW_RULES)
    _check_sides(f"{where}: region", [region])
    whole = Protocol(path.stem, (), (region, region), average, rule)
    groups: list[Views] = []
    for part in parts:
        if "average" not in content and "window_rule" not in content:
            _check_alike(path.stem, part.at(whole.region), whole)
        groups += part.at(whole.region).groups
    groups += [_views(where, group, region) for group in own]
    if not groups:
        raise ConfigError(f"{where}: has no views")
    return replace(whole, groups=tuple(groups))


def _views(where: str, content: Any, region: int) -> Views:
    keys = ("kind", "scales", "positions", "flip")
    if not isinstance(content, Mapping):
        raise ConfigError(f"{where}: each of views needs kind and scales, and may have positions and flip")
    _check_keys(f"{where}: views", content, keys)
    kind: Any = content.get("kind")
    flip: Any = content.get("flip", "no")
    flip = {"True": "yes", "False": "no"}.get(str(flip), str(flip))  # YAML reads yes and no as booleans
    _check_choice(f"{where}: kind", kind, KINDS)
    _check_choice(f"{where}: flip", flip, tuple(_FLIPS))
    scales: Any = content.get("scales")
    _check_sides(f"{where}: scales", scales)
    if kind != "full" and min(scales) < region:
        raise ConfigError(
            f"{where}: scales={scales}: a {kind} of {region} needs a shorter side of {region} at least"
        )
    positions = content.get("positions", [] if kind == "full" else None)
    listed = isinstance(positions, Sequence) and not isinstance(positions, str)
    if not listed or (not positions) != (kind == "full"):
        allowed = "none, as it sees the whole image" if kind == "full" else f"a list of {', '.join(PLACES)}"
        raise ConfigError(f"{where}: positions of a {kind} view: {allowed}")
    for position in positions:
        _check_choice(f"{where}: positions", position, tuple(PLACES))
    return Views(kind, tuple(scales), tuple(positions), _FLIPS[flip])


def _check_keys(where: str, content: Mapping[Any, Any], known: Sequence[str]) -> None:
    for key in content:
        if key not in known:
            raise ConfigError(
                f"{where}: {key}: unknown key{suggest(str(key), known)}; known: {', '.join(known)}"
            )


def _check_choice(what: str, value: Any, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ConfigError(f"{what}={value}: {choose_from(value, choices)}")


def _check_sides(what: str, sides: Any) -> None:
    good = isinstance(sides, list) and sides and all(type(s) is int and s > 0 for s in sides)
    if not good:
        raise ConfigError(f"{what}={sides}: whole numbers of pixels are needed")
