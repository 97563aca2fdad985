from __future__ import annotations

import os

import pytest

from distributor.agent.current_session import host_load


def test_a_system_without_a_load_average_has_no_load(monkeypatch: pytest.MonkeyPatch) -> None:
    def unobtainable() -> tuple[float, float, float]:
        raise OSError("load average was unobtainable")

    monkeypatch.setattr(os, "getloadavg", unobtainable)
    assert host_load() == 0.0
    monkeypatch.delattr(os, "getloadavg")
    assert host_load() == 0.0
