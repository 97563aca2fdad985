from __future__ import annotations

import itertools
import re
import sys
from pathlib import Path

import pytest

from tests.support.source_tree import GENERATED, PACKAGE, ROOT

LAUNCHERS = sorted((ROOT / "cmd").glob("*.py"))
LUA = sorted(path for path in (PACKAGE / "store" / "functions").glob("*.lua") if not path.name.startswith("_"))


def test_cmd_is_not_a_package() -> None:
    """It would shadow the standard library's cmd, which pdb needs."""
    assert LAUNCHERS
    assert not (ROOT / "cmd" / "__init__.py").exists()


@pytest.mark.parametrize("launcher", LAUNCHERS, ids=lambda path: path.name)
def test_launchers_shadow_nothing(launcher: Path) -> None:
    assert launcher.stem != PACKAGE.name
    assert launcher.stem not in sys.stdlib_module_names


def test_the_generated_folder_holds_generated_files_only() -> None:
    files = [path for path in GENERATED.iterdir() if path.name != "__pycache__"]
    assert files
    for path in files:
        assert re.fullmatch(r"\w+_pb2(_grpc)?\.pyi?", path.name), path
        assert re.search(r"generated (by|code|protocol)", path.read_text()[:200], re.IGNORECASE), path


def test_every_proto_file_is_generated() -> None:
    protos = {path.stem for path in (ROOT / "proto" / "distributor" / "v1").glob("*.proto")}
    assert protos == {path.stem.removesuffix("_pb2") for path in GENERATED.glob("*_pb2.py")}


@pytest.mark.parametrize("function", LUA, ids=lambda path: path.stem)
def test_every_store_function_says_what_it_is(function: Path) -> None:
    lines = function.read_text(encoding="utf-8").splitlines()
    header = itertools.takewhile(lambda line: line.startswith("--"), lines)
    words = [line.removeprefix("--").split()[0].rstrip(":") for line in header if line.startswith("-- ")]
    order = [word for word in words if word in {"Purpose", "KEYS", "ARGV", "Returns", "Invariants"}]
    assert order == ["Purpose", "KEYS", "ARGV", "Returns", "Invariants"]


def test_test_folders_are_not_packages() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_no_test_is_skipped() -> None:
    words = re.compile(r"mark\.(skip|xfail)|pytest\.(skip|xfail)")
    tests = [path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)]
    assert not [path for path in tests if words.search(path.read_text(encoding="utf-8"))]
