#!/usr/bin/env bash
# Writes requirements.lock: every package with its version and its files' hashes, for all platforms and Pythons that act2see runs on.
# Versions that stand there stay as long as pyproject.toml allows them. UPGRADE=--upgrade takes the newest, UPGRADE='-P NAME' of one package.
# The extras `speech`, `text` and `vllm` are left out: 440 MB and some GB that no check needs. So is torch: it is installed first and on its own, and
# which build of it fits depends on the machine. No index is written down.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
"${PYTHON:-python3}" -m pip install --quiet --target "$fresh" uv==0.13.9
extras=()
for extra in local openai train embedding plot export ray inspect serve mcp docs dev; do extras+=(--extra "$extra"); done
read -ra upgrade <<<"${UPGRADE:-}"
"$fresh/bin/uv" pip compile pyproject.toml "${extras[@]}" --universal --python-version 3.11 --generate-hashes --no-emit-package torch \
  --no-header --no-annotate --no-emit-index-url --no-emit-find-links --quiet ${upgrade[@]+"${upgrade[@]}"} --output-file requirements.lock >/dev/null
