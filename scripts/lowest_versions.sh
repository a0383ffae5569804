#!/usr/bin/env bash
# Tests with the lowest versions that pyproject.toml allows, in an environment that is thrown away afterwards: that the bounds are true.
#
#     scripts/lowest_versions.sh [FILE_OR_FOLDER …]
#
# Without arguments the tests of the core, of the records of every data set, of the local backend and of the exports. torch is 2.13.0, as in the lock.
# The extra `vllm`, which wants a torch of its own choice, is left out; scripts/vllm_check.py tests it, with the transformers that it wants.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
"${PYTHON:-python3}" -m venv "$fresh/venv"
python=$fresh/venv/bin/python
"$python" -m pip install --quiet torch==2.13.0
"$python" -m pip install --quiet --target "$fresh/uv" uv==0.13.9
read -ra extras < <("$python" -c 'import tomllib; print(*(f"--extra {one}" for one in
  tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"] if one != "vllm"))')
"$fresh/uv/bin/uv" pip compile pyproject.toml "${extras[@]}" --resolution lowest-direct --python "$python" --no-emit-package torch \
  --no-header --no-annotate --no-emit-index-url --no-emit-find-links --quiet --output-file "$fresh/lowest.txt" >/dev/null
cat "$fresh/lowest.txt"
"$python" -m pip install --quiet --no-compile --no-deps --requirement "$fresh/lowest.txt"
"$python" -m pip install --quiet --no-deps --no-build-isolation --editable .
"$python" -m pip check
[ $# -gt 0 ] || set -- tests/test_trace.py tests/test_store.py tests/test_chat.py tests/test_chat_template.py tests/test_engine.py tests/test_cache.py \
  tests/test_index.py tests/test_report.py tests/test_export.py tests/test_registry.py tests/test_imagined_frames.py tests/test_evaluation.py tests/video \
  tests/benchmarks tests/backends tests/generators/test_diffusion.py tests/cli/test_cli_ask.py tests/cli/test_cli_eval.py tests/cli/test_cli_plot.py
OMP_NUM_THREADS=1 "$python" -m pytest -p no:cacheprovider -n logical --maxprocesses 8 --dist loadscope "$@"
