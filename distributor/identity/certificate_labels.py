"""Labels in a certificate: a private extension, not critical, whose value is a UTF8String of canonical JSON.

Canonical as in `model/labels.py`, so that a certificate has one reading.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from cryptography import x509

from distributor.identity.der_text import MAX_HEADER_BYTES, content_of, utf8_string
from distributor.model.command import InvalidField
from distributor.model.labels import MAX_CREDENTIAL_LABELS_BYTES, NO_LABELS, canonical_labels, credential_labels

LABELS_OID: Final = x509.ObjectIdentifier("2.25.243581226040259386428832025429305571076")
"""Under the arc for UUIDs (ITU-T X.667), which need no registration: b74009a7-80df-4146-a6f8-6c0a6949b704."""


def labels_extension(labels: Mapping[str, str]) -> x509.UnrecognizedExtension:
    """The extension with these labels, which are within their limits."""
    return x509.UnrecognizedExtension(LABELS_OID, utf8_string(canonical_labels(labels)))


def labels_in(extensions: x509.Extensions) -> Mapping[str, str]:
    """Read the labels of a certificate; empty if it has none. Raises ValueError unless they are in canonical form."""
    try:
        extension = extensions.get_extension_for_oid(LABELS_OID).value
    except x509.ExtensionNotFound:
        return NO_LABELS
    assert isinstance(extension, x509.UnrecognizedExtension)
    der = extension.value
    if len(der) > MAX_CREDENTIAL_LABELS_BYTES + MAX_HEADER_BYTES:
        raise ValueError(f"labels must have at most {MAX_CREDENTIAL_LABELS_BYTES:,} bytes in all")
    try:
        labels = credential_labels(json.loads(content_of(der)))
    except InvalidField:
        raise
    except (ValueError, RecursionError) as error:
        raise ValueError("labels cannot be read") from error
    if utf8_string(canonical_labels(labels)) != der:
        raise ValueError("labels are not in canonical form")
    return labels
