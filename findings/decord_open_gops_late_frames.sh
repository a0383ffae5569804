#!/usr/bin/env bash
# decord 0.6.0: in an MP4 with open GOPs, get_batch over evenly spread indices gives late frames from the second GOP on, as x265 makes it by default.
#
# The pictures shown just before a GOP's key frame follow it in the file. decord numbers key frames by their place in the file (get_key_indices),
# which is two to four too low, and counts on from there after a seek. Read in order, or asked for alone by a fresh reader, most indices give the
# right frame: one index gives two frames, by what was read before. Nothing is raised, and get_frame_timestamp gives the time of the index, not of the
# frame. Expected: the same frame for an index, as with closed GOPs. Many video models are fed by get_batch over evenly spread indices.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet av==18.1.0 decord==0.6.0 numpy==2.4.6
cat > "$folder/read.py" <<'PYTHON'
import sys
from fractions import Fraction

import av
import decord
import numpy as np

FRAMES, BITS = 200, 8
print("decord", decord.__version__, "PyAV", av.__version__)


def write(path: str, codec: str, params: str) -> None:
    """Frames that show their number in black and white bars."""
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=25, options={f"{codec[3:]}-params": f"keyint=24:min-keyint=24:scenecut=0:log-level=none:{params}"})
        stream.width, stream.height, stream.pix_fmt = 20 * BITS, 128, "yuv420p"
        for number in range(FRAMES):
            bars = [255 if number >> bit & 1 else 0 for bit in range(BITS)]
            picture = np.tile(np.repeat(np.array(bars, np.uint8), 20)[None, :, None], (128, 1, 3))
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def shown(picture: np.ndarray) -> int:
    return sum(1 << bit for bit in range(BITS) if picture[64, 20 * bit + 10].mean() > 127)


def off(indices: list[int], pictures: list[np.ndarray]) -> list[int]:
    """How many frames late each is."""
    return [shown(picture) - index for index, picture in zip(indices, pictures, strict=True)]


every, spread = list(range(FRAMES)), list(range(0, FRAMES, 12))
held = []
cases = [("x265, its default", "libx265", ""), ("x264, open GOPs", "libx264", "open-gop=1"), ("x265, closed GOPs", "libx265", "open-gop=0")]
for name, codec, params in cases:
    path = f"{sys.argv[1]}/clip.mp4"
    write(path, codec, params)
    with av.open(path) as container:
        assert [shown(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)] == every, "the file is not as it was meant"
    reader = decord.VideoReader(path)
    in_order = off(every, [reader[index].asnumpy() for index in every])
    batch = off(spread, list(decord.VideoReader(path).get_batch(spread).asnumpy()))
    alone = off(spread[::3], [decord.VideoReader(path)[index].asnumpy() for index in spread[::3]])
    begin, end = reader.get_frame_timestamp(96)
    print(f"{name}: key frames said to be {reader.get_key_indices()[:4]}, frame 96 at {begin:.2f} s")
    print(f"    frames late: {sum(in_order)} in order; each 12th by get_batch {batch}; each 36th by a fresh reader {alone}")
    late = [by for by in batch[2:] if by in (2, 4)]
    held.append(not any(in_order) and (not any(batch) if params == "open-gop=0" else batch[:2] == [0, 0] and len(late) == len(batch) - 2))
    held.append(abs(begin - 96 / 25) < 0.001)
sys.exit(not all(held))
PYTHON
"$folder/venv/bin/python" "$folder/read.py" "$folder"
