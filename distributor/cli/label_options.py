"""Labels as options give them: NAME=VALUE, repeated."""

from __future__ import annotations

from collections.abc import Iterable

from distributor.errors import ConfigurationError
from distributor.model.command import shown


def label_pairs(texts: Iterable[str], option: str = "--label") -> dict[str, str]:
    """Parse the labels of an option. Raises ConfigurationError for one without a name or value, or given twice."""
    labels: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise ConfigurationError(f"{option} must be NAME=VALUE, not {shown(text)}", field="labels")
        if name in labels:
            raise ConfigurationError(f"{option} has the name {shown(name)} twice", field="labels")
        labels[name] = value
    return labels
