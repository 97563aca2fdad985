"""Build hook: a wheel and an sdist contain the page's npm modules, or the build fails with the reason.

An sdist includes them and the stamp of `scripts/vendor_page.sh`, so building a wheel from it needs no npm.
An editable install uses the files in the checkout: `scripts/setup.sh` runs the same script.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class VendorPage(BuildHookInterface[Any]):
    """Runs before any file is collected."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Fill `distributor/page/vendor/`. Raises SystemExit if npm is missing or fails; the script prints which."""
        if version == "editable":
            return
        script = Path(self.root, "scripts", "vendor_page.sh")
        if subprocess.run([script, "--required"]).returncode:
            raise SystemExit("build: stopped, because the dashboard page would be incomplete")
