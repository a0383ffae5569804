#!/usr/bin/env bash
# FFmpeg's scaler (8 and later, here in PyAV 18.1.0) refuses to convert a decoded picture whose stream names YCgCo or another of H.273's rarer colour
# matrices. The picture decodes; only its conversion to RGB fails, as "Operation not supported", and says nothing of colours. FFmpeg 5.1 converted such
# pictures (as BT.601). Expected: a conversion, or an error that names the matrix.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet av==18.1.0 numpy
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys

import av
import numpy as np

print("PyAV", av.__version__, "libswscale", av.library_versions["libswscale"])
found = {}
for matrix in (1, 5, 8, 10, 12, 14):
    path = f"{sys.argv[1]}/{matrix}.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.colorspace = matrix
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((96, 64), 120, np.uint8), format="yuv420p")))
        container.mux(stream.encode(None))
    with av.open(path) as container:
        frame = next(container.decode(video=0))
    try:
        frame.to_ndarray(format="rgb24")
        found[matrix] = "converted"
    except av.error.OSError as error:
        found[matrix] = f"refused: {error.strerror}"
    print(f"matrix_coefficients {frame.colorspace}: {found[matrix]}")
seen = {1: "converted", 5: "converted", **dict.fromkeys((8, 10, 12, 14), "refused: Operation not supported")}
sys.exit(found != seen)
PYTHON
