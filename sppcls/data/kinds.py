"""Which kinds of image file there are by their names, and which of them can be decoded with the Pillow at hand."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from PIL import Image, features


@dataclass(frozen=True)
class ImageKind:
    """A kind of image file.

    Attributes:
        name: what people call it, such as ``"JPEG 2000"``.
        readable: whether images of this kind can be decoded here.
        remedy: what to do about one that cannot, such as ``"pip install pillow-heif"``; empty for a readable kind.
        formats: Pillow's names of it; empty for a kind that is never decoded.
    """

    name: str
    readable: bool
    remedy: str = ""
    formats: tuple[str, ...] = ()


@cache
def image_kinds() -> Mapping[str, ImageKind]:
    """The kinds of image file that a photo folder may hold, by extension: lower case, with the dot.

    Whether a kind is readable depends on how Pillow was built and, for HEIC and JPEG XL, on a plug-in package, which
    is loaded if it is installed. Computed once per process.
    """
    found: dict[str, ImageKind] = {}
    for row in _TABLE:
        remedy = _missing(row)
        kind = ImageKind(row.name, not remedy, remedy, row.formats)
        found.update(dict.fromkeys(row.extensions.split(), kind))
    return MappingProxyType(found)


def readable_extensions() -> tuple[str, ...]:
    """Extensions of the kinds that can be decoded here, in lower case with the dot."""
    return tuple(extension for extension, kind in image_kinds().items() if kind.readable)


@cache
def readable_formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are decoded. All others stay shut: some of them start other programs."""
    kinds = dict.fromkeys(image_kinds().values())
    return tuple(name for kind in kinds if kind.readable for name in kind.formats)


@dataclass(frozen=True)
class _Kind:
    """A row of the table: what :class:`ImageKind` says, before anyone has looked at what is installed."""

    name: str
    extensions: str
    formats: tuple[str, ...] = ()
    feature: str = ""  # of Pillow's build, as PIL.features knows it
    plug_in: tuple[str, str] = ("", "")  # the package as pip knows it, and its module
    remedy: str = "save them as PNG or JPEG"


_TABLE = (
    _Kind("JPEG", ".jpg .jpeg .jpe .jfif .mpo", ("JPEG",), "jpg"),
    _Kind("PNG", ".png .apng", ("PNG",), "zlib"),
    _Kind("WebP", ".webp", ("WEBP",), "webp"),
    _Kind("BMP", ".bmp .dib", ("BMP", "DIB")),
    _Kind("GIF", ".gif", ("GIF",)),
    _Kind("TIFF", ".tif .tiff", ("TIFF",)),
    _Kind("Netpbm", ".ppm .pgm .pbm .pnm .pfm", ("PPM",)),
    _Kind("AVIF", ".avif .avifs", ("AVIF",), "avif"),
    _Kind("JPEG 2000", ".jp2 .j2k .j2c .jpc .jpf .jpx", ("JPEG2000",), "jpg_2000"),
    _Kind("TGA", ".tga", ("TGA",)),
    _Kind("QOI", ".qoi", ("QOI",)),
    _Kind("PCX", ".pcx", ("PCX",)),
    _Kind("SGI", ".sgi", ("SGI",)),
    _Kind("HEIC", ".heic .heif .hif", ("HEIF",), plug_in=("pillow-heif", "pillow_heif")),
    _Kind("JPEG XL", ".jxl", ("JXL",), plug_in=("pillow-jxl-plugin", "pillow_jxl")),
    _Kind(
        "camera raw",
        ".dng .cr2 .cr3 .crw .nef .nrw .arw .srf .sr2 .orf .rw2 .raf .pef .raw .x3f",
        remedy="develop them to JPEG, PNG or TIFF",
    ),
    _Kind("DICOM", ".dcm .dicom", remedy="save their pixels as 16-bit PNG or TIFF"),
    _Kind("Photoshop", ".psd .psb"),
    _Kind("OpenEXR", ".exr"),
    _Kind("Radiance", ".hdr"),
    _Kind("SVG", ".svg .svgz"),
)


def _missing(row: _Kind) -> str:
    """What to do before images of a kind can be decoded; empty if they can be."""
    if not row.formats:
        return row.remedy
    package, module = row.plug_in
    if module:
        return "" if _load(module) else f"pip install {package}"
    Image.init()
    # A Pillow that does not know of a feature would warn of the question.
    if not set(row.formats) <= set(Image.OPEN) or (row.feature and not features.check(row.feature)):
        return f"pip install --upgrade pillow, as this one cannot read {row.name}"
    return ""


def _load(module: str) -> bool:
    """Import a plug-in, which tells Pillow of its format."""
    try:
        plug_in = importlib.import_module(module)
        if hasattr(plug_in, "register_heif_opener"):
            plug_in.register_heif_opener()
    except Exception:  # not installed, or built for another Pillow or another libheif
        return False
    return True
