#!/usr/bin/env bash
# PyAV 18.1.0: a Ctrl-C (SIGINT) that arrives while av.open refuses a file that is no video is lost: neither a KeyboardInterrupt nor a message, and the
# program goes on. In a loop over such a file nearly all are lost, in a loop over open() of a missing file none. Expected: KeyboardInterrupt, as from
# any other Python call. A program that goes through folders with files that are no videos has to expect that the first Ctrl-C does nothing.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet av==18.1.0
"$folder/venv/bin/python" - "$folder/notes.mp4" <<'PYTHON'
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

import av

TRIALS = 40
Path(sys.argv[1]).write_text("no video at all")
random.seed(0)
signal.signal(signal.SIGINT, signal.default_int_handler)


def lost(work):
    count = 0
    for _ in range(TRIALS):
        sender = threading.Timer(random.uniform(0.001, 0.02), os.kill, (os.getpid(), signal.SIGINT))
        try:
            sender.start()
            end = time.monotonic() + 0.2
            while time.monotonic() < end:
                try:
                    work()
                except (OSError, ValueError):
                    pass
            count += 1
        except KeyboardInterrupt:
            pass
        sender.join()
    return count


refused, missing = lost(lambda: av.open(sys.argv[1])), lost(lambda: open(sys.argv[1] + ".none"))
print(f"PyAV {av.__version__}, FFmpeg {av.ffmpeg_version_info}: of {TRIALS} interrupts {refused} lost in av.open, {missing} in open")
sys.exit(not (refused > TRIALS // 2 and missing == 0))
PYTHON
# printed: PyAV 18.1.0, FFmpeg 8.1.2: of 40 interrupts 40 lost in av.open, 0 in open
