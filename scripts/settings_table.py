"""Writes the table of settings in docs/operations.md from the settings themselves; `--check` only compares."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from distributor.settings.loading import GROUPS
from distributor.settings.values import SettingsGroup

PAGE: Final = Path(__file__).parent.parent / "docs" / "operations.md"
BEGIN: Final = "<!-- settings:begin -->"
END: Final = "<!-- settings:end -->"


def main() -> int:
    """Exit code 0 when the page is, or now is, up to date."""
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else f"# Operations\n\n## Settings\n\n{BEGIN}\n{END}\n"
    fresh = with_tables(page)
    if sys.argv[1:] == ["--check"]:
        if fresh != page or not PAGE.exists():
            print(f"{PAGE.name} does not show the settings as they are: run make docs", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(fresh, encoding="utf-8")
    return 0


def with_tables(page: str) -> str:
    """`page` with what stands between the markers replaced by the tables."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{PAGE.name} must hold the markers {BEGIN} and {END}")
    return before + BEGIN + "\n" + "\n".join(line for group in GROUPS for line in table(group)) + END + after


def table(group: type[SettingsGroup]) -> Iterator[str]:
    """The lines of the Markdown table of one group."""
    yield f"### `[{group.table}]`, environment prefix `{group.model_config.get('env_prefix')}`"
    yield ""
    yield "| setting | default | allowed | meaning |"
    yield "|---|---|---|---|"
    for name, schema in group.model_json_schema()["properties"].items():
        yield f"| `{name}` | {_default(schema)} | {_allowed(schema)} | {schema['description']} |"
    yield ""


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


if __name__ == "__main__":
    sys.exit(main())
