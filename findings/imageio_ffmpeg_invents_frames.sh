#!/usr/bin/env bash
# imageio's FFMPEG plugin (imageio 2.38.1, imageio-ffmpeg 0.8.1): a file whose frames stay on screen for different times gives three times as many
# frames as it has, at a rate that its metadata does not name.
#
# The plugin has ffmpeg write raw pictures, which fills a constant rate with repetitions (here 25, the stream's base rate), while its metadata's fps
# is the average rate, 8.62. The usual number / fps then puts the last frame of a clip of 14 s at 41 s. imageio's pyav plugin gives the file's own
# frames, once each, but names the rate of 25, so that the same division ends at 5 s. Phones and screen recordings make such files. Expected: each
# frame once, or the rate at which the frames are given.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet av==18.1.0 imageio==2.38.1 imageio-ffmpeg==0.8.1 numpy==2.4.6
cat > "$folder/read.py" <<'PYTHON'
import sys
from fractions import Fraction
from importlib.metadata import version

import av
import imageio.v3
import numpy as np

print("imageio", version("imageio"), "imageio-ffmpeg", version("imageio-ffmpeg"), "PyAV", av.__version__)
path = f"{sys.argv[1]}/clip.mp4"
# 60 frames of 40 ms, then 60 of 200 ms
times = [40 * number if number < 60 else 2400 + 200 * (number - 60) for number in range(120)]
with av.open(path, "w") as container:
    stream = container.add_stream("libx264", rate=25)
    stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
    stream.codec_context.time_base = Fraction(1, 1000)
    for number, milliseconds in enumerate(times):
        frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 2 * number, np.uint8), format="rgb24")
        frame.pts, frame.time_base = milliseconds, Fraction(1, 1000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode())
found = {}
for plugin in ("FFMPEG", "pyav"):
    pictures = list(imageio.v3.imiter(path, plugin=plugin))
    said = imageio.v3.immeta(path, plugin=plugin)
    repeated = sum(np.array_equal(one, other) for one, other in zip(pictures, pictures[1:], strict=False))
    found[plugin] = (len(pictures), repeated, float(said["fps"]), round((len(pictures) - 1) / said["fps"], 1))
    last = found[plugin][3]
    print(f"{plugin}: {len(pictures)} frames, {repeated} of them repetitions; fps {said['fps']}; the last frame, by number / fps, at {last} s")
print(f"in the file: {len(times)} frames, the last at {times[-1] / 1000} s")
sys.exit(found != {"FFMPEG": (356, 236, 8.62, 41.2), "pyav": (120, 0, 25.0, 4.8)})
PYTHON
"$folder/venv/bin/python" "$folder/read.py" "$folder"
