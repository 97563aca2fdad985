"""No setting is without effect: each is read somewhere."""

from __future__ import annotations

import re
from typing import Final

import pytest

from distributor.settings.loading import GROUPS
from distributor.settings.values import SettingsGroup
from tests.support.source_tree import modules

SOURCE: Final = "\n".join(path.read_text(encoding="utf-8") for path in modules())


@pytest.mark.parametrize("group", GROUPS)
def test_every_setting_is_read(group: type[SettingsGroup]) -> None:
    """A bridge's keys are read by methods of its settings."""
    unread = [name for name in group.model_fields if not re.search(rf"(settings|self)\.{name}\b", SOURCE)]
    assert not unread
