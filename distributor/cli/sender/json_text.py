"""JSON text with exact values, free of characters that drive a terminal or mislead a reader."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from distributor.errors import DistributorError

_PLAIN: Final = re.compile(r"[^\n\x20-\x7e]")


def json_line(value: Any) -> str:
    """`value` as JSON on one line. Raises DistributorError for NaN and infinities."""
    return _text(value, None)


def json_document(value: Any) -> str:
    """`value` as indented JSON. Raises DistributorError for NaN and infinities."""
    return _text(value, 2)


def _text(value: Any, indent: int | None) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    except ValueError as error:
        raise DistributorError(f"the server sent a value that JSON cannot represent: {error}") from error
    return _PLAIN.sub(lambda found: found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1], text)
