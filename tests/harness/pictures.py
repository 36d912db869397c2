# SPDX-License-Identifier: Apache-2.0
"""Pictures without a library: a PNG made by hand, and the size of a PNG, JPEG or WebP read from its
own bytes, so that the image worker is judged by something else than what it uses."""
import struct
import zlib


def png(width, height):
    """A gradient."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    row = b"".join(bytes((x * 255 // width, 100, 200)) for x in range(width))
    rows = b"".join(b"\0" + row for _ in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def measure(data):
    """(kind, width, height) of a picture."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return ("png", *struct.unpack(">II", data[16:24]))
    if data.startswith(b"\xff\xd8"):
        return ("jpeg", *_jpeg(data))
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ("webp", *_webp(data))
    raise AssertionError(f"not a picture: {data[:40]!r}")


def _jpeg(data):
    """From the frame header: the first SOF marker."""
    at = 2
    while at + 9 < len(data):
        marker, length = struct.unpack(">HH", data[at : at + 4])
        if 0xFFC0 <= marker <= 0xFFCF and marker not in (0xFFC4, 0xFFC8, 0xFFCC):
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        at += 2 + length
    raise AssertionError("a JPEG without a frame")


def _webp(data):
    """From the first chunk, of whichever of the three kinds."""
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", data[26:30])
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack("<I", data[21:25])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return (int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1)


def multipart(data, name="picture.png"):
    """A form with one file, as `curl -F file=@NAME` sends it: (content type, body)."""
    mark = "kipgate-test-boundary"
    body = (
        (
            f"--{mark}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n"
            f"Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        + data
        + f"\r\n--{mark}--\r\n".encode()
    )
    return f"multipart/form-data; boundary={mark}", body
