"""Whether training images use the levels of grey that they have."""

from __future__ import annotations

from collections.abc import Iterator

from sppcls.cli.doctor.diagnosis import Diagnosis, note, ok
from sppcls.data import Source
from sppcls.data.decode import grey_values
from sppcls.data.files import FileSource
from sppcls.errors import ImageError

_LOOKED_AT = 24  # images, spread over all classes
_DARK = 64  # of 255 levels: a set of photos has brighter pixels than this


def pixels(train: Source) -> Iterator[Diagnosis]:
    """A note if the brightest pixel of a sample is dark, as where 12 bits lie in files of 16, or if values that have no
    known white could be scaled; nothing otherwise."""
    if not isinstance(train, FileSource) or not len(train):
        return
    count = min(_LOOKED_AT, len(train))
    brightest, values = 0, []
    for index in (number * len(train) // count for number in range(count)):
        found = grey_values(train.root / train.name(index), train.max_pixels)
        values += [found] if found else []
        try:
            brightest = max(brightest, int(train.image(index).max()))
        except ImageError:
            continue  # the look at the headers, or the training, names it
    if values:
        low, high = min(v[0] for v in values), max(v[1] for v in values)
        kinds = f"{len(values)} of {count} images looked at are grey of more than 8 bits, with values from {low:g} to {high:g}"
        if not brightest:
            yield note("pixels", kinds, f"data.pixel_range={_range(low, high)} if those are black and white")
        elif brightest < _DARK:
            yield note(
                "pixels",
                f"{kinds}: {brightest} of 255 levels are used",
                f"data.pixel_range={_range(low, high)}",
            )
        else:
            yield ok("pixels", f"{kinds}; data.pixel_range={_words(train)}")
    elif 0 < brightest < _DARK:
        yield note(
            "pixels",
            f"the {count} images looked at are dark: their brightest value is {brightest} of 255",
            "are these the photos, or label images?",
        )


def _range(low: float, high: float) -> str:
    """A range that holds the values seen: 0 to all bits set for whole numbers, 0 to 1 for shares."""
    if low < 0:
        return f"[{low:g},{high:g}]"
    if high <= 1:
        return "[0,1]"
    return f"[0,{(1 << int(high).bit_length()) - 1}]"


def _words(source: FileSource) -> str:
    if isinstance(source.pixel_range, str):
        return source.pixel_range
    return "[{:g},{:g}]".format(*source.pixel_range)
