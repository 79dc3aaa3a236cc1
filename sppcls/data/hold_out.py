"""Which images are validated on, where the data have no validation split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from sppcls.data.seeding import derive
from sppcls.errors import ConfigError


def held_out(labels: Sequence[str], keys: Sequence[int | str], fraction: float, setting: str) -> list[bool]:
    """Whether each image is held out: in each class, those whose keys hash lowest are.

    Args:
        labels: name of each image's class.
        keys: what tells the images of a class apart.
        fraction: share of each class to hold out.
        setting: that says the fraction, for messages.

    Raises:
        ConfigError: the fraction is no share, or leaves a class without an image on one side.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"{setting}: a number between 0 and 1 is needed")
    by_class: dict[str, list[int]] = defaultdict(list)
    for index, label in enumerate(labels):
        by_class[label].append(index)
    held = [False] * len(labels)
    for label, members in by_class.items():
        count = round(len(members) * fraction)
        if not 0 < count < len(members):
            raise ConfigError(
                f"{setting}: class {label!r} has {len(members)} image(s), too few to hold some out"
            )
        for index in sorted(members, key=lambda index: derive("split", keys[index]))[:count]:
            held[index] = True
    return held
