#!/usr/bin/env bash
# rapidocr 3.10.0: the words of a slightly slanted line come in reverse order as soon as the picture is large enough.
#
# Boxes are put into reading order by their tops: those that differ by less than 10 pixels are one line, however large the picture and its letters
# are. A line that rises by 2.3 degrees is read from left to right at 640 x 360 and from right to left at 960 x 540 and above; the same picture,
# enlarged, gives another text. Expected: a tolerance that goes with the height of the letters. A sign in a hand-held 4K video is read scrambled, and
# right after the frame was scaled down. Right for all sizes is to put the boxes in order by how far their heights overlap.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q rapidocr==3.10.0 onnxruntime==1.32.0 opencv-python-headless==5.0.0.93 numpy==2.4.6 pillow==13.0.0
cat > "$work/read.py" <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rapidocr import RapidOCR

print("rapidocr", version("rapidocr"), "onnxruntime", version("onnxruntime"))
engine = RapidOCR(params={"Global.log_level": "critical"})
found = {}
for scale in (1, 2, 3, 4):
    picture = Image.new("RGB", (320 * scale, 180 * scale), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(16 * scale)
    for number, word in enumerate(("ALPHA", "BRAVO", "CHARLIE")):
        draw.text(((20 + 100 * number) * scale, (48 - 4 * number) * scale), word, font=font, fill="black")
    read = engine(np.asarray(picture)[:, :, ::-1])
    found[scale] = " ".join(read.txts)
    tops = [round(float(box[:, 1].min())) for box in read.boxes]
    print(f"{picture.width} x {picture.height}: {found[scale]!r}, tops of the boxes at {tops}")
forwards, backwards = "ALPHA BRAVO CHARLIE", "CHARLIE BRAVO ALPHA"
sys.exit(list(found.values()) != [forwards, forwards, backwards, backwards])
PYTHON
"$work/venv/bin/python" "$work/read.py"
