"""What peers share across languages agrees, and their packages are pinned."""

from __future__ import annotations

import json
import re
from typing import Final

from bench.peers.work import COMMAND_TYPE, PARAMS, Shape
from tests.support.source_tree import ROOT

PEERS: Final = ROOT / "bench" / "peers"


def test_the_caller_of_bullmq_queues_the_same_command() -> None:
    text = (PEERS / "bullmq" / "caller.cjs").read_text(encoding="utf-8")
    found = re.search(r"const PARAMS = \{(.*)\};", text)
    assert found
    written = ", ".join(f"{name}: {json.dumps(value)}".replace('"', "'") for name, value in PARAMS.items())
    assert found[1].strip() == written
    assert f"'{COMMAND_TYPE}'" in text
    assert f"work.shape !== '{Shape.IDLE}'" in text


def test_the_npm_packages_are_pinned_and_name_no_registry() -> None:
    wanted = json.loads((PEERS / "bullmq" / "package.json").read_text())["dependencies"]
    packages = json.loads((PEERS / "bullmq" / "package-lock.json").read_text())["packages"]
    assert packages[""]["dependencies"] == wanted
    del packages[""]
    for package in packages.values():
        assert package["integrity"].startswith("sha512-")
        assert "resolved" not in package


def test_the_python_packages_are_pinned() -> None:
    for line in (PEERS / "requirements.txt").read_text().splitlines():
        assert re.fullmatch(r"[a-z_-]+==[\d.]+", line), line
