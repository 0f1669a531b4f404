"""What an encoded image says of itself, read without decoding it: small bodies can ask for gigabytes of pixels.

`check_image` takes the bytes of a request and their content type, and raises `Refused` for what a decoder should not see.
Called by the service before it decodes.
"""

import re
import zlib

_PIXELS = 16_000_000
# A progressive JPEG may ask for the whole image again with every scan, of which common encoders write about ten.
_SCANS = 100
_PIECE = 2**16

_MAGIC = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff"}


class Refused(Exception):
    """A request that is not answered; `status` is the HTTP status."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


def check_image(body, content_type):
    """Raises `Refused` for what is not one still image of the type, or has too many pixels."""
    if not body.startswith(_MAGIC[content_type]):
        raise Refused(400, f"Expected a PNG or JPEG of the type that Content-Type says, {content_type}; this is none.")
    height, width = {"image/png": png_size, "image/jpeg": jpeg_size}[content_type](body)
    if not height or not width:
        raise Refused(400, f"Expected an image, but its header says {height} x {width} pixels.")
    if height * width > _PIXELS:
        raise Refused(413, f"Expected at most {_PIXELS} pixels, but the image's header says {height} x {width}.")
    if content_type == "image/png":
        _check_png(body, height, width)
    if content_type == "image/jpeg" and body.count(b"\xff\xda") > _SCANS:
        raise Refused(400, f"Expected a JPEG of at most {_SCANS} scans.")


def png_size(body):
    """`(height, width)` in the header of a PNG, which is its first chunk."""
    if body[12:16] != b"IHDR" or _number(body, 8, 4) != 13:
        raise Refused(400, "Expected a whole PNG, but its header is missing.")
    return _number(body, 20, 4), _number(body, 16, 4)


def _check_png(body, height, width):
    """Refuses animations, and pixels that unpack to more than the header says, which decoders read to their end."""
    # At most 8 bytes for a pixel, and one for a row, of which the seven passes of an interlaced image have more.
    most, packer = 2 * height * (8 * width + 1) + 7 * (height + width), zlib.decompressobj()
    place, kind, unpacked = 8, b"", None
    # Before the pixels, what is missing is the header's; behind them, it is for the decoder to say.
    while unpacked is None or (place < len(body) and kind != b"IEND"):
        length, kind = _number(body, place, 4), body[place + 4 : place + 8]
        if kind == b"acTL" and unpacked is None:
            raise Refused(400, "Expected one still image, but the PNG is animated.")
        if kind == b"IDAT":
            unpacked = (unpacked or 0) + _unpacked(packer, body[place + 8 : place + 8 + length], most)
        if unpacked is not None and unpacked > most:
            raise Refused(400, "Expected the pixels that the PNG's header says, but there are more.")
        place += 12 + length


def _unpacked(packer, packed, most):
    """How many bytes some packed ones make, counted not far beyond `most`; those that are damaged make none."""
    count = 0
    try:
        while packed and count <= most and not packer.eof:
            count += len(packer.decompress(packed, _PIECE))
            packed = packer.unconsumed_tail
    except zlib.error:
        # The decoder will say so.
        return 0
    return count


# Another marker before the frame's header is no JPEG, or one that other readers read in another way.
_SEGMENT = re.compile(rb"\xff+([\xc0-\xcf\xdb-\xfe])")
_NO_FRAME = b"\xc4\xc8\xcc"


def jpeg_size(body):
    """`(height, width)` in the frame header of a JPEG, which is its first segment of the kinds SOF0 to SOF15."""
    place = 2
    while segment := _SEGMENT.match(body, place):
        length = _number(body, segment.end(), 2)
        if b"\xc0" <= segment[1] <= b"\xcf" and segment[1] not in _NO_FRAME:
            return _number(body, segment.end() + 3, 2), _number(body, segment.end() + 5, 2)
        place = segment.end() + max(length, 2)
    raise Refused(400, "Expected a whole JPEG, but its frame header is missing.")


def _number(body, start, count):
    """The number in some bytes, which have to be there."""
    if start + count > len(body):
        raise Refused(400, "Expected a whole PNG or JPEG, but it ends within its header.")
    return int.from_bytes(body[start : start + count], "big")
