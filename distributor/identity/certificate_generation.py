"""The generation in an agent's certificate: a private extension, not critical, with a decimal number as a UTF8String.

Not in the subject: an outside CA may copy that from a request, and a generation decides what a revocation refuses.
"""

from __future__ import annotations

from typing import Final

from cryptography import x509

from distributor.identity.der_text import content_of, utf8_string

GENERATION_OID: Final = x509.ObjectIdentifier("2.25.244796874647459491125233791960064770686")
"""Under the arc for UUIDs (ITU-T X.667), which need no registration: b82a29c2-1320-45c3-a004-90dbc6b4c27e."""
_MAX_DIGITS: Final = 15


def generation_extension(generation: int) -> x509.UnrecognizedExtension:
    """The extension with this generation."""
    return x509.UnrecognizedExtension(GENERATION_OID, utf8_string(str(generation).encode()))


def generation_in(extensions: x509.Extensions) -> int:
    """Read the generation of a certificate; 0 if it has none. Raises ValueError for anything but a positive number."""
    try:
        extension = extensions.get_extension_for_oid(GENERATION_OID).value
    except x509.ExtensionNotFound:
        return 0
    assert isinstance(extension, x509.UnrecognizedExtension)
    text = content_of(extension.value)
    if text.isdigit() and len(text) <= _MAX_DIGITS:
        generation = int(text)
        if generation and generation_extension(generation) == extension:
            return generation
    raise ValueError("its generation cannot be read")
