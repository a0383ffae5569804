#!/usr/bin/env bash
# Writes requirements.lock: every package of every extra with its version and its files' hashes, for all platforms and Pythons that act2see runs on.
# Versions that stand there stay as long as pyproject.toml allows them. UPGRADE=--upgrade takes the newest, UPGRADE='-P NAME' of one package.
# torch is left out: it is installed first and on its own, and which build of it fits depends on the machine. No index is written down.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
"${PYTHON:-python3}" -m pip install --quiet --target "$fresh" uv==0.13.9
read -ra upgrade <<<"${UPGRADE:-}"
"$fresh/bin/uv" pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes --no-emit-package torch \
  --no-header --no-annotate --no-emit-index-url --no-emit-find-links --quiet ${upgrade[@]+"${upgrade[@]}"} --output-file requirements.lock >/dev/null
