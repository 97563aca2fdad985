#!/usr/bin/env bash
# Copies the npm modules of the dashboard page, at the versions in its lock file, into distributor/page/vendor/.
# Usage: scripts/vendor_page.sh [--required]
# Without npm, prints one line and succeeds; the page then has a plain terminal and no charts. With --required, as for a
# wheel or an sdist, fails instead. A stamp makes later calls instant.
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
  "") required=false ;;
  --required) required=true ;;
  *) echo "usage: scripts/vendor_page.sh [--required]" >&2; exit 2 ;;
esac

# Ends the script. $1: the problem; $2: the remedy.
do_without() {
  if "$required"; then
    echo "vendor_page: $1, and the dashboard page must be complete; $2" >&2
    exit 1
  fi
  echo "setup: $1: the dashboard page has no charts and no terminal colours; $2"
  exit 0
}

page=distributor/page
wanted=$(cat "$page/package-lock.json" scripts/vendor_page.sh | sha256sum | cut -d' ' -f1)
if [ "$(cat "$page/vendor/.vendored" 2>/dev/null)" = "$wanted" ]; then
  exit 0
fi
command -v npm >/dev/null || do_without "npm is missing" "on Debian: apt-get install npm"

echo "setup: fetching the page's modules with npm"
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
cp "$page/package.json" "$page/package-lock.json" "$fresh"
if ! (cd "$fresh" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >npm.log 2>&1); then
  cat "$fresh/npm.log" >&2
  do_without "npm failed" "see the lines above"
fi

modules=$fresh/node_modules
rm -rf "$page/vendor"
mkdir "$page/vendor"
for file in @xterm/xterm/lib/xterm.mjs @xterm/xterm/css/xterm.css @xterm/addon-fit/lib/addon-fit.mjs \
  uplot/dist/uPlot.esm.js uplot/dist/uPlot.min.css; do
  # Drop the reference to a source map that is not vendored.
  sed '/^\/\/# sourceMappingURL=/d' "$modules/$file" >"$page/vendor/$(basename "$file")"
done
for package in @xterm/xterm @xterm/addon-fit uplot; do
  cp "$modules/$package/LICENSE" "$page/vendor/LICENSE.$(basename "$package")"
done
echo "$wanted" >"$page/vendor/.vendored"
