"""scripts/vendor_page.sh with an npm that is a stub."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.support.source_tree import PACKAGE, ROOT

TOOLS: Final = ("basename", "bash", "cat", "cp", "cut", "dirname", "env", "mkdir", "mktemp", "rm", "sed", "sha256sum")

NPM: Final = """\
echo "npm $*" >>"$HERE/log"
[ ! -e "$HERE/npm-fails" ] || { echo "npm: no network"; exit 1; }
mkdir -p node_modules/@xterm/{xterm/lib,xterm/css,addon-fit/lib} node_modules/uplot/dist
for file in @xterm/xterm/lib/xterm.mjs @xterm/xterm/css/xterm.css @xterm/addon-fit/lib/addon-fit.mjs \\
  uplot/dist/uPlot.esm.js uplot/dist/uPlot.min.css @xterm/xterm/LICENSE @xterm/addon-fit/LICENSE uplot/LICENSE; do
  printf 'code\\n//# sourceMappingURL=x.map\\n' >"node_modules/$file"
done
"""


class Checkout:
    """The script, the page's lock file, and a PATH with nothing but stubs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.page = folder / "distributor" / "page"
        self.bin = folder / "bin"
        for made in (self.page, self.bin, folder / "scripts"):
            made.mkdir(parents=True)
        shutil.copy(ROOT / "scripts" / "vendor_page.sh", folder / "scripts")
        for name in ("package.json", "package-lock.json"):
            shutil.copy(PACKAGE / "page" / name, self.page)
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool) or tool)

    def has_npm(self) -> None:
        """Put an npm on the PATH."""
        npm = self.bin / "npm"
        npm.write_text(f"#!{shutil.which('bash')}\n{NPM}")
        npm.chmod(0o755)

    def vendor(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the script."""
        script = str(self.folder / "scripts" / "vendor_page.sh")
        environment = {"PATH": str(self.bin), "HERE": str(self.folder)}
        return subprocess.run([script, *arguments], env=environment, capture_output=True, text=True, timeout=20)

    def installed(self) -> int:
        """How often npm was called."""
        log = self.folder / "log"
        return len(log.read_text().splitlines()) if log.exists() else 0


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_it_copies_what_the_page_imports_once(checkout: Checkout) -> None:
    checkout.has_npm()
    assert checkout.vendor().returncode == 0
    vendored = {path.name for path in (checkout.page / "vendor").iterdir()}
    assert vendored >= {"xterm.mjs", "xterm.css", "addon-fit.mjs", "uPlot.esm.js", "uPlot.min.css", "LICENSE.xterm"}
    assert (checkout.page / "vendor" / "xterm.mjs").read_text() == "code\n"
    assert checkout.vendor().stdout == ""
    assert checkout.installed() == 1


def test_it_copies_again_when_the_lock_file_changed(checkout: Checkout) -> None:
    checkout.has_npm()
    checkout.vendor()
    (checkout.page / "package-lock.json").write_text("{}")
    assert checkout.vendor().returncode == 0
    assert checkout.installed() == 2


def test_without_npm_it_says_so_in_one_line_and_goes_on(checkout: Checkout) -> None:
    ended = checkout.vendor()
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.count("\n") == 1
    assert "npm is missing" in ended.stdout
    assert not (checkout.page / "vendor").exists()


def test_a_failing_npm_is_told_and_tried_again(checkout: Checkout) -> None:
    checkout.has_npm()
    (checkout.folder / "npm-fails").touch()
    ended = checkout.vendor()
    assert ended.returncode == 0
    assert ended.stderr == "npm: no network\n"
    assert "setup: npm failed" in ended.stdout
    (checkout.folder / "npm-fails").unlink()
    assert checkout.vendor().stderr == ""
    assert (checkout.page / "vendor" / "xterm.mjs").exists()


def test_a_build_without_npm_fails_and_says_what_to_install(checkout: Checkout) -> None:
    ended = checkout.vendor("--required")
    assert ended.returncode == 1
    assert ended.stderr == (
        "vendor_page: npm is missing, and the dashboard page must be complete; on Debian: apt-get install npm\n"
    )


def test_a_build_whose_npm_fails_fails_with_the_words_of_npm(checkout: Checkout) -> None:
    checkout.has_npm()
    (checkout.folder / "npm-fails").touch()
    ended = checkout.vendor("--required")
    assert ended.returncode == 1
    assert ended.stderr.startswith("npm: no network\nvendor_page: npm failed")
    assert not (checkout.page / "vendor").exists()


def test_a_build_needs_no_npm_where_the_modules_are_there(checkout: Checkout) -> None:
    checkout.has_npm()
    checkout.vendor()
    (checkout.bin / "npm").unlink()
    ended = checkout.vendor("--required")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_a_mistyped_option_is_refused(checkout: Checkout) -> None:
    assert checkout.vendor("--require").returncode == 2


def test_the_lock_file_pins_content_and_names_no_registry() -> None:
    packages = json.loads((PACKAGE / "page" / "package-lock.json").read_text())["packages"]
    del packages[""]
    assert packages
    for package in packages.values():
        assert package["integrity"].startswith("sha512-")
        assert "resolved" not in package
