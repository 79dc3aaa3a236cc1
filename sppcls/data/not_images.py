"""What a file is that cannot be opened as an image: a page, a pointer, a video, a kind that needs a plug-in."""

from __future__ import annotations

import struct
from typing import IO

from PIL import TiffImagePlugin

from sppcls.data.kinds import image_kinds

_HEAD = 65_536  # bytes that are looked at

# How files of other kinds begin, and what is said of them.
_BEGINNINGS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the image: git lfs pull"),
    (b"/annex/objects/", "a git-annex pointer, not the image: git annex get"),
    (b"../.git/annex/", "a git-annex pointer, not the image: git annex get"),
    (b"\x00\x05\x16\x07", "metadata of macOS (AppleDouble), not an image"),
    (b"\x00\x05\x16\x00", "metadata of macOS (AppleSingle), not an image"),
    (b"PK\x03\x04", "a ZIP archive, not an image: unpack it"),
    (b"\x1f\x8b", "gzip data, not an image: unpack it"),
    (b"Rar!", "a RAR archive, not an image: unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive, not an image: unpack it"),
    (b"%PDF", "a PDF document, not an image: save its pages as PNG"),
    (b"%!PS", "PostScript, not an image: save it as PNG"),
    (b"\x1aE\xdf\xa3", "a video, not an image: save its frames as PNG or JPEG"),
    (b"FUJIFILMCCD-RAW", ".raf"),
    (b"FOVb", ".x3f"),
    (b"8BPS", ".psd"),
    (b"\x76\x2f\x31\x01", ".exr"),
    (b"#?RADIANCE", ".hdr"),
    (b"\xff\x0a", ".jxl"),
    (b"\x00\x00\x00\x0cJXL ", ".jxl"),
    (b"II*\x00\x10\x00\x00\x00CR", ".cr2"),
    (b"IIRO", ".orf"),
    (b"IIU\x00", ".rw2"),
)

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")

_SAMPLE_FORMATS = {
    1: "whole-number",
    2: "signed",
    3: "floating-point",
    4: "untyped",
    5: "complex whole-number",
    6: "complex",
}


def what_it_is(file: IO[bytes]) -> str:
    """What a file holds that Pillow does not open, and what to do about it, in one line; empty if that is unknown."""
    file.seek(0)
    head = file.read(_HEAD)
    for beginning, what in _BEGINNINGS:
        if head.startswith(beginning):
            return _unread(what) if what.startswith(".") else what
    if not head.strip(b"\0"):
        return "nothing but zero bytes: a copy or download that failed"
    if head[4:8] == b"ftyp":
        return _of_container(head[8:12])
    if head[128:132] == b"DICM":
        return _unread(".dcm")
    if head.startswith(b"\xff\xd8"):
        return _of_jpeg(head)
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _of_tiff(file)
    return _of_text(head)


def _unread(extension: str) -> str:
    kind = image_kinds()[extension]
    return f"damaged {kind.name} image" if kind.readable else f"{kind.name}, which is not read: {kind.remedy}"


def _of_container(brand: bytes) -> str:
    if brand in _HEIF_BRANDS:
        return _unread(".heic")
    if brand in _AVIF_BRANDS:
        return _unread(".avif")
    if brand == b"crx ":
        return _unread(".cr3")
    return "a video, not an image: save its frames as PNG or JPEG"


def _of_jpeg(head: bytes) -> str:
    """The kind of frame that a JPEG file announces; empty if it is an ordinary one or not there."""
    place = 2
    while place + 9 < len(head) and head[place] == 0xFF:
        marker, (length,) = head[place + 1], struct.unpack(">H", head[place + 2 : place + 4])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if marker in (0xC3, 0xC7, 0xCB, 0xCF):
                return "a lossless JPEG, which is not read: save it as PNG"
            if head[place + 4] != 8:
                return f"a JPEG of {head[place + 4]} bits a colour, which is not read: save it as 16-bit PNG"
            return ""
        place += 2 + length
    return ""


def _of_tiff(file: IO[bytes]) -> str:
    """What Pillow does not know of a TIFF file: its compression or its pixels."""
    try:
        file.seek(0)
        header = file.read(8)
        if header[2:4] == b"\0+":
            return "a big-endian BigTIFF, which is not read: save it as TIFF"
        if header[2:4] == b"+\0":
            header += file.read(8)
        tags = TiffImagePlugin.ImageFileDirectory_v2(header)
        file.seek(tags.next)
        tags.load(file)
        bits = max(tags.get(258, (1,)))
        samples = tags.get(277, 1)
        formats = {_SAMPLE_FORMATS.get(number, "untyped") for number in tags.get(339, (1,))}
        photometric, compression = tags.get(262), tags.get(259, 1)
    except Exception:  # nothing but the first bytes is as it should be
        return "damaged TIFF image"
    if photometric in (32803, 34892):
        return _unread(".dng")
    if compression not in TiffImagePlugin.COMPRESSION_INFO:
        return f"a TIFF of compression {compression}, which is not read: save it with LZW or Deflate"
    if samples == 1 and bits <= 8:
        return "damaged TIFF image"
    return (
        f"a TIFF of {samples} {'band' if samples == 1 else 'bands'} of {bits}-bit {' and '.join(sorted(formats))} "
        "values, which is not read: save it as 8-bit RGB, or as grey of 8, 16 or 32 bits"
    )


def _of_text(head: bytes) -> str:
    try:
        text = head[:4096].decode("utf-8", "strict" if len(head) < 4096 else "ignore")
    except UnicodeDecodeError:
        return ""
    text = text.removeprefix("\ufeff").lstrip().lower()
    if not text or not all(c.isprintable() or c in "\r\n\t\f" for c in text):
        return ""
    if text.startswith(("<!doctype html", "<html", "<head", "<body")) or "<html" in text[:1000]:
        return "an HTML page, not an image: the download failed"
    if "<svg" in text:
        return f"SVG, not an image of pixels: {image_kinds()['.svg'].remedy}"
    if text.startswith("<"):
        return "XML text, not an image: maybe the message of a download that failed"
    if text.startswith(("{", "[")):
        return "JSON text, not an image: maybe the message of a download that failed"
    return "text, not an image"
