"""A worker has the settings of its supervisor."""

from __future__ import annotations

import json
from pathlib import Path

from distributor.app.worker_place import WorkerPlace, assigned, assignment
from distributor.settings import ServerSettings
from tests.support.running_bridge import TOKEN_KEY


def test_a_worker_has_the_settings_of_its_supervisor(tmp_path: Path) -> None:
    settings = ServerSettings(
        workers=2,
        token_key=TOKEN_KEY,
        public_keys=(tmp_path / "one.pem", tmp_path / "two.pem"),
        verified_labels=("site",),
        listen="127.0.0.1:0",
        valkey_url="valkey://user:password@127.0.0.1:1/0",
        data_dir=tmp_path,
        queue_full="drop",
    )
    place = WorkerPlace(1, "127.0.0.1:5", "127.0.0.1:6", "unix://:secret@/socket")
    # As the channel carries it.
    assert assigned(json.loads(json.dumps(assignment(settings, place)))) == (settings, place)


def test_defaults_survive() -> None:
    settings, place = ServerSettings(), WorkerPlace(0, "127.0.0.1:5")
    assert assigned(json.loads(json.dumps(assignment(settings, place)))) == (settings, place)
