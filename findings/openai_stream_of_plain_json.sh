#!/usr/bin/env bash
# The openai client, asked to stream, takes a whole completion in plain JSON for a stream without chunks: no text, no error.
# Servers that do not stream (and proxies that gather a stream) answer so. Exits with 0 as long as it is so.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check openai==3.54.0 httpx2==2.16.2
"$folder/venv/bin/python" - <<'PY'
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import openai

COMPLETION = {
    "id": "1",
    "object": "chat.completion",
    "created": 0,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "red"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps(COMPLETION).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


with HTTPServer(("127.0.0.1", 0), Handler) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = openai.OpenAI(api_key="none", base_url=f"http://127.0.0.1:{server.server_address[1]}/v1")
    asked = {"model": "m", "messages": [{"role": "user", "content": "What colour?"}]}
    plain = client.chat.completions.create(**asked).choices[0].message.content
    chunks = list(client.chat.completions.create(**asked, stream=True))
    server.shutdown()
print(f"openai {openai.__version__}: without stream the text is {plain!r}; with stream=True the same answer gives {len(chunks)} chunks and no error")
sys.exit(0 if (plain, chunks) == ("red", []) else 1)
PY
