"""Short texts as values of private extensions of certificates: a UTF8String in DER."""

from __future__ import annotations

from typing import Final

_UTF8_STRING: Final = 0x0C
MAX_HEADER_BYTES: Final = 4
"""Tag and length of up to 64 KiB."""


def utf8_string(content: bytes) -> bytes:
    """Encode UTF-8 of up to 64 KiB."""
    size = len(content)
    if size < 0x80:
        length = bytes([size])
    else:
        digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
        length = bytes([0x80 | len(digits)]) + digits
    return bytes([_UTF8_STRING]) + length + content


def content_of(der: bytes) -> bytes:
    """The content of a value, whose header is not checked: encode the content again and compare."""
    return der[2 + (der[1] & 0x7F if len(der) > 1 and der[1] & 0x80 else 0) :]
