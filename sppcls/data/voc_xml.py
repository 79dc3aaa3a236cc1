"""Annotations of PASCAL VOC: what objects a file of XML holds."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from sppcls.errors import DataError

_MOST_BYTES = 1 << 24  # of one annotation; VOC's have some kilobytes


class _NoDoctype(ET.TreeBuilder):
    """A document type is where entities are defined, which may be of any size or read any file."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("it has a document type, and with it perhaps entities, which are not read")


def voc_objects(path: Path) -> list[tuple[str, bool, ET.Element]]:
    """(class, whether it is difficult, the element) of each object of an annotation; raises DataError."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(f"{path}: {path.stat().st_size:,} bytes are too many for an annotation")
        objects = ET.fromstring(path.read_bytes(), ET.XMLParser(target=_NoDoctype())).findall("object")
    except OSError as error:
        raise DataError(f"{path}: annotation cannot be read ({error.strerror})") from None
    except (ET.ParseError, ValueError, LookupError) as error:  # the latter two: encodings, a document type
        raise DataError(f"{path}: broken annotation ({error})") from None
    found = []
    for one in objects:
        name = (one.findtext("name") or "").strip()
        if not name:
            raise DataError(f"{path}: broken annotation (an object without a name)")
        found.append((name, (one.findtext("difficult") or "0").strip() not in ("", "0"), one))
    return found
