"""Generates the parts of docs/ that are taken from the code; `--check` only compares.

Each part is between two markers, `<!-- name:begin -->` and `<!-- name:end -->`:

    settings    docs/operations.md      from the settings groups
    functions   docs/architecture.md    from the header and the flags of each Lua file
    files       docs/architecture.md    from the first sentence of each module's docstring
    page        docs/page.md            from the first sentence of each script of the page
    peers       docs/peers.md           from the differences that the benchmark prints
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench.peers.differences import DIFFERENCES
from distributor.settings.loading import GROUPS
from distributor.settings.values import SettingsGroup

ROOT: Final = Path(__file__).parent.parent
DOCS: Final = ROOT / "docs"
PACKAGE: Final = ROOT / "distributor"
FUNCTIONS: Final = PACKAGE / "store" / "functions"
PAGE_SCRIPTS: Final = PACKAGE / "page" / "js"
LAYERS: Final = (
    "model",
    "identity",
    "dispatch",
    "store",
    "rpc",
    "client",
    "agent",
    "bridge",
    "conformance",
    "app",
    "cli",
    "testing",
    "wire",
    "processes",
    "observability",
    "settings",
)

_SENTENCE: Final = re.compile(r"(.+?[.?])(?:\s|$)")
_WHEN_FULL: Final = {"": "refused", "'allow-oom'": "goes on"}


_FILE_HEAD: Final = ("| file | what it is for |", "|---|---|")


class Part(NamedTuple):
    """A generated part of a page."""

    page: str
    name: str
    lines: Callable[[], Iterator[str]]


def main() -> int:
    """Update all pages and return 0; with --check, return 1 if a page is out of date."""
    only_compare = sys.argv[1:] == ["--check"]
    stale = False
    for page in sorted({part.page for part in PARTS}):
        path = DOCS / page
        text = path.read_text(encoding="utf-8")
        fresh = with_parts(text, page)
        if fresh == text:
            continue
        if only_compare:
            print(f"{page} is out of date: run make docs", file=sys.stderr)
            stale = True
        else:
            path.write_text(fresh, encoding="utf-8")
    return int(stale)


def with_parts(text: str, page: str) -> str:
    """Return `text` with the text between the markers replaced by the parts of `page`."""
    for part in PARTS:
        if part.page == page:
            text = _with_part(text, part)
    return text


def _with_part(text: str, part: Part) -> str:
    marks = f"<!-- {part.name}:begin -->", f"<!-- {part.name}:end -->"
    before, begin, rest = text.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not begin or not end:
        raise SystemExit(f"{part.page} must contain the markers {marks[0]} and {marks[1]}")
    return before + begin + "\n" + "\n".join(part.lines()) + "\n" + end + after


# Settings


def settings() -> Iterator[str]:
    """Yield the tables of all settings groups."""
    for place, group in enumerate(GROUPS):
        yield from ["", *_group(group)] if place else _group(group)


def _group(group: type[SettingsGroup]) -> Iterator[str]:
    yield f"### `[{group.table}]`, environment prefix `{group.model_config.get('env_prefix')}`"
    yield ""
    yield "| setting | default | allowed | meaning |"
    yield "|---|---|---|---|"
    schemas = group.model_json_schema()["properties"]
    for name in group.names():
        schema = schemas[name]
        yield f"| `{name}` | {_default(schema)} | {_allowed(schema)} | {schema['description']} |"


def _default(schema: dict[str, Any]) -> str:
    if "shown_default" in schema:
        return str(schema["shown_default"])
    default = schema["default"]
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default:g}`" if isinstance(default, float) and default < 1e6 else f"`{default}`"


def _allowed(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{choice}`" for choice in schema["enum"])
    if "maximum" not in schema:
        return "`true`, `false`" if schema.get("type") == "boolean" else ""
    low = f"{schema['minimum']:,}" if "minimum" in schema else f"over {schema['exclusiveMinimum']:,}"
    return f"{low} to {schema['maximum']:,}".replace(".0 ", " ").removesuffix(".0")


# Store functions


def functions() -> Iterator[str]:
    """Yield the table of store functions."""
    yield "| function | does | when Valkey is full |"
    yield "|---|---|---|"
    for path in sorted(FUNCTIONS.glob("*.lua")):
        if not path.name.startswith("_"):
            yield f"| `{path.stem}` | {_cell(_purpose(path))} | {_when_full(path)} |"


def _purpose(path: Path) -> str:
    found = re.match(r"-- Purpose: (.*?)\n-- KEYS", path.read_text(encoding="utf-8"), re.DOTALL)
    if found is None:
        raise SystemExit(f"{path.name} must begin with its purpose, followed by KEYS")
    return found[1].replace("\n--", "\n")


def _when_full(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    if re.search(r"^register_reader\('\w+', \w+\)$", text, re.MULTILINE):
        return "reads only"
    found = re.search(r"^register\('\w+', \w+, \{(.*)\}(?:, '\w+')?\)$", text, re.MULTILINE)
    if found is None:
        raise SystemExit(f"{path.name} must register its function")
    return _WHEN_FULL[found[1]]


# Files


def files() -> Iterator[str]:
    """Yield the tables of all modules, layer by layer."""
    yield from _table("At the top", sorted(path for path in PACKAGE.glob("*.py") if path.stem != "__init__"))
    for layer in LAYERS:
        yield ""
        yield from _table(layer, sorted((PACKAGE / layer).rglob("*.py"), key=_order))


def _order(path: Path) -> tuple[int, str, str]:
    """Sort the modules of a layer first, then each subfolder, headed by the folder itself."""
    return len(path.parts), str(path.parent), "" if path.stem == "__init__" else path.name


def _table(title: str, paths: list[Path]) -> Iterator[str]:
    yield f"### {title}"
    yield ""
    top = paths[0].parent
    if paths[0].stem == "__init__":
        yield f"{summary(paths.pop(0))}."
        yield ""
    yield from _FILE_HEAD
    for path in paths:
        name = f"{path.parent.relative_to(top)}/" if path.stem == "__init__" else str(path.relative_to(top))
        yield f"| `{name}` | {summary(path)} |"


def summary(path: Path) -> str:
    """Return the first sentence of a module's docstring, without the full stop."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if docstring is None:
        raise SystemExit(f"{path} must begin with a docstring")
    return _cell(docstring.partition("\n\n")[0])


def page_scripts() -> Iterator[str]:
    """Yield the table of the page's scripts."""
    yield from _FILE_HEAD
    for path in sorted(PAGE_SCRIPTS.rglob("*.js"), key=_order):
        yield f"| `{path.relative_to(PAGE_SCRIPTS)}` | {_first_comment(path)} |"


def _first_comment(path: Path) -> str:
    found = re.match(r"/\*\*(.*?)(?:\*/|\n \*\n)", path.read_text(encoding="utf-8"), re.DOTALL)
    if found is None:
        raise SystemExit(f"{path} must begin with a comment that states its purpose")
    return _cell(found[1].replace("\n *", "\n"))


# Peers of the benchmark


def peers() -> Iterator[str]:
    """Yield the table of what each peer does."""
    yield "| this project can | JetStream | BullMQ | taskiq |"
    yield "|---|---|---|---|"
    for difference in DIFFERENCES:
        yield f"| {' | '.join(difference)} |"


def _cell(text: str) -> str:
    """Return the first sentence of `text`, escaped for a table cell."""
    line = " ".join(text.split())
    found = _SENTENCE.match(line)
    return (found[1] if found else line).removesuffix(".").replace("|", "\\|")


PARTS: Final = (
    Part("operations.md", "settings", settings),
    Part("architecture.md", "functions", functions),
    Part("architecture.md", "files", files),
    Part("page.md", "page", page_scripts),
    Part("peers.md", "peers", peers),
)

if __name__ == "__main__":
    sys.exit(main())
