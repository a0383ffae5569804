#!/usr/bin/env bash
# Sends requests to `act2see serve` that schemathesis derives from its OpenAPI document: no response may be a 5xx, and each must be as documented.
#   scripts/serve_schema.sh [SCHEMATHESIS] [further arguments of `schemathesis run`]
# SCHEMATHESIS is the program, from an environment of its own: python -m venv st && st/bin/pip install schemathesis. The model is one of the tests'.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
schemathesis=${1:-schemathesis}
shift || true
port=${PORT:-8479}
export PYTHONPATH="$PWD/src:$PWD/tests/fakes${PYTHONPATH:+:$PYTHONPATH}"
"${PYTHON:-python}" -m act2see serve --port "$port" --backend serving_fakes:Slow --retriever serving_fakes:middle --generator none --model-name micro \
  --allow-root src/act2see/synthetic/demo --deadline-seconds 20 --max-upload-mb 1 --upload-seconds 1 &
server=$!
trap 'kill "$server" 2>/dev/null || true' EXIT
for _ in $(seq 120); do
  curl --silent --fail --output /dev/null "http://127.0.0.1:$port/health" && break
  sleep 0.5
done
"$schemathesis" run "http://127.0.0.1:$port/openapi.json" --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance "$@"
kill -TERM "$server"
wait "$server"
