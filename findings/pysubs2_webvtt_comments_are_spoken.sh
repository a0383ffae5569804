#!/usr/bin/env bash
# pysubs2 1.8.1: of a WebVTT file, the comments (NOTE) and the names of cues become what is said in the cue before them.
#
# A WebVTT cue may have a name on the line above its times, and comments may stand between cues. pysubs2 reads everything up to the next times as
# text, and takes away only names that are numbers, as SubRip has them. Times within a cue stay in its text too. Nothing is raised. Expected: the text
# of the cue alone, as webvtt-py 0.6.0 gives it for the same file. In a transcript that a model reads or that is searched, an editor's remark is then
# a sentence of the film, with a time.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pysubs2==1.8.1 webvtt-py==0.6.0
cat > "$folder/talk.vtt" <<'VTT'
WEBVTT

arrival
00:01.000 --> 00:02.000
A red star.

NOTE Ask the author whether it was red.

1
00:03.000 --> 00:04.000
A green ring.

departure
00:05.000 --> 00:06.000
It <00:05.500>leaves.
VTT
"$folder/venv/bin/python" - "$folder/talk.vtt" <<'PYTHON'
import sys
from importlib.metadata import version

import pysubs2
import webvtt

print("pysubs2", version("pysubs2"), "webvtt-py", version("webvtt-py"))
found = [event.plaintext for event in pysubs2.load(sys.argv[1])]
right = [caption.text for caption in webvtt.read(sys.argv[1])]
for number, (one, other) in enumerate(zip(found, right, strict=True), 1):
    print(f"cue {number}: pysubs2 {one!r}, webvtt-py {other!r}")
wrong = ["A red star.\n\nNOTE Ask the author whether it was red.", "A green ring.\n\ndeparture", "It <00:05.500>leaves."]
sys.exit(not (found == wrong and right == ["A red star.", "A green ring.", "It leaves."]))
PYTHON
