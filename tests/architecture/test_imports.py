from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.source_tree import PACKAGE, ROOT, imported_names, layer, modules

MAY_USE_GENERATED = {"rpc", "client", "agent", "conformance", "wire"}
"""`wire` maps the enums of the protocol, once for both ends of a connection."""
FOLDERS = (
    "agent",
    "app",
    "bridge",
    "cli",
    "client",
    "conformance",
    "dispatch",
    "identity",
    "model",
    "observability",
    "processes",
    "rpc",
    "store",
    "testing",
    "wire",
)
FILES = ("__init__", "environment", "errors", "private_file", "settings", "tasks", "timeouts")

WRONG = {
    "model/a.py": "import distributor.errors",
    "model/b.py": "import asyncio",
    "errors.py": "import distributor.settings",
    "observability/a.py": "import distributor.processes",
    "processes/a.py": "import distributor.dispatch",
    "dispatch/a.py": "import distributor.store",
    "dispatch/b.py": "import grpc.aio",
    "store/a.py": "import distributor.rpc",
    "rpc/a.py": "import uvicorn",
    "identity/a.py": "import distributor.dispatch",
    "client/b.py": "import jwt",
    "client/a.py": "from valkey.asyncio import Valkey",
    "bridge/a.py": "import distributor.agent",
    "bridge/b.py": "import distributor.store",
    "agent/a.py": "import distributor.cli",
    "conformance/a.py": "import distributor.agent",
    "app/a.py": "import distributor.testing",
}


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache", "--no-logo"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=50)


@pytest.fixture
def skeleton(tmp_path: Path) -> Path:
    """A package with our layers, nothing in them, and our contracts."""
    package = tmp_path / PACKAGE.name
    for module in (*(f"{folder}/__init__" for folder in FOLDERS), *FILES):
        path = package / f"{module}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_layers_hold() -> None:
    checked = lint_imports(ROOT)
    assert checked.returncode == 0, checked.stdout


def test_wrong_imports_are_found(skeleton: Path) -> None:
    assert lint_imports(skeleton).returncode == 0
    for module, line in WRONG.items():
        (skeleton / PACKAGE.name / module).write_text(line + "\n")
    checked = lint_imports(skeleton)
    assert checked.returncode == 1
    assert "Contracts: 0 kept, 7 broken." in checked.stdout
    for module in WRONG:
        name = f"{PACKAGE.name}.{module.removesuffix('.py').replace('/', '.')}"
        assert f"{name} -> " in checked.stdout, checked.stdout


def test_a_module_outside_the_layers_is_found(skeleton: Path) -> None:
    (skeleton / PACKAGE.name / "managers.py").touch()
    checked = lint_imports(skeleton)
    assert checked.returncode == 1
    assert "distributor.managers" in checked.stdout


def test_generated_messages_stay_at_the_edges() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules()
        if layer(path) not in MAY_USE_GENERATED
        for name in imported_names(path)
        if name.startswith("distributor.v1")
    ]
    assert not wrong


def test_contributing_lists_the_layers_of_the_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    page = " ".join((ROOT / "CONTRIBUTING.md").read_text().split())
    assert f"``` {' → '.join(layers)} ```" in page
