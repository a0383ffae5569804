"""How act2see and others get frames out of a file, each in a process of its own: `python video_peers.py JOB`, JOB in JSON. See `video.py`."""

import importlib.metadata
import json
import math
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from video_files import number_in

THREADS = 2
Job = dict[str, Any]  # path, task, fps, side, size, seconds
Numbers = Iterator[tuple[int, int]]  # the set that a frame belongs to, and the number that it carries


def size_for(job: Job, side: int) -> tuple[int, int]:
    """Width and height when the shorter side is to have at most `side` pixels."""
    width, height = job["size"]
    scale = min(1, side / min(width, height))
    return round(width * scale), round(height * scale)


def ffmpeg() -> str:
    """The system's ffmpeg, or else the one that imageio-ffmpeg brings."""
    found = shutil.which("ffmpeg")
    if found:
        return found
    return str(import_module("imageio_ffmpeg").get_ffmpeg_exe())


def run_ffmpeg(job: Job) -> Callable[[], Numbers]:
    """The full-decode limit: everything is decoded, nothing converted."""
    command = [ffmpeg(), "-v", "error", "-threads", str(THREADS), "-i", job["path"], "-an", "-f", "null", "-"]

    def numbers() -> Numbers:
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        yield from ()

    return numbers


def run_act2see(job: Job) -> Callable[[], Numbers]:
    """The decode plan, walk over the packets included: nothing is cached."""
    ours = import_module("act2see.video")

    def numbers() -> Numbers:
        video = ours.Video(job["path"])
        if job["task"] == "random":
            found: Iterable[tuple[int, Any]] = ((0, frame) for frame in video.frames_at(job["seconds"], job["side"]))
        elif job["task"] == "keyframes":
            found = ((0, frame) for frame in video.keyframes(job["side"]))
        else:
            found = video.sample_sets([ours.Sampling(fps, side) for fps, side in job["sets"]])
        for place, frame in found:
            width, height = frame.image.size
            yield place, number_in(np.asarray(frame.image.crop((0, 0, width, height // 20))), height)  # the whole as an array would be a copy

    return numbers


def run_pyav(job: Job) -> Callable[[], Numbers]:
    """A careful plain use: frames by their times, only wanted ones scaled; random access by a seek to the key frame before."""
    av = import_module("av")
    reformatter = import_module("av.video.reformatter").VideoReformatter()

    def shown(container: Any, at: Sequence[float], first: float) -> Iterator[Any]:
        wanted, last = iter(at), None
        now = next(wanted, None)
        for frame in container.decode(video=0):
            while now is not None and last is not None and frame.time - first > now + 0.001:
                yield last
                now = next(wanted, None)
            last = frame
            if now is None:
                return
        while now is not None:
            yield last
            now = next(wanted, None)

    def numbers() -> Numbers:
        with av.open(job["path"]) as container:
            stream = container.streams.video[0]
            stream.thread_type, stream.codec_context.thread_count = "AUTO", THREADS
            first = next(container.decode(stream)).time
            width, height = size_for(job, job["side"])
            for at in [[second] for second in job["seconds"]] if job["task"] == "random" else [job["seconds"]]:
                container.seek(int((first + at[0]) / stream.time_base) if job["task"] == "random" else 0, stream=stream)
                for frame in shown(container, at, first):
                    rgb = reformatter.reformat(frame, width, height, format="rgb24", interpolation="AREA", threads=1)
                    yield 0, number_in(rgb.to_ndarray())

    return numbers


def run_torchcodec(job: Job) -> Callable[[], Numbers]:
    """By time, exactly, scaled in its filter graph."""
    decoders, transforms = import_module("torchcodec.decoders"), import_module("torchcodec.transforms")

    def numbers() -> Numbers:
        width, height = size_for(job, job["side"])
        decoder = decoders.VideoDecoder(job["path"], num_ffmpeg_threads=THREADS, transforms=[transforms.Resize((height, width))])
        begin, end = decoder.metadata.begin_stream_seconds, decoder.metadata.end_stream_seconds
        at = [min(second + begin + 1e-4, math.nextafter(end, 0)) for second in job["seconds"]]
        for start in range(0, len(at), 16):  # so that no more than 16 frames are held
            for picture in decoder.get_frames_played_at(at[start : start + 16]).data:
                yield 0, number_in(picture.permute(1, 2, 0).numpy())

    return numbers


def run_decord(job: Job) -> Callable[[], Numbers]:
    """By index times average rate: it knows no times to ask for."""
    decord = import_module("decord")

    def numbers() -> Numbers:
        width, height = size_for(job, job["side"])
        reader = decord.VideoReader(job["path"], ctx=decord.cpu(0), width=width, height=height, num_threads=THREADS)
        places = [min(int(second * reader.get_avg_fps() + 1e-6), len(reader) - 1) for second in job["seconds"]]
        for start in range(0, len(places), 16):
            for picture in reader.get_batch(places[start : start + 16]).asnumpy():
                yield 0, number_in(picture)

    return numbers


def run_opencv(job: Job) -> Callable[[], Numbers]:
    """By index times nominal rate: everything is grabbed, only wanted frames are converted; random access by POS_FRAMES."""
    cv2 = import_module("cv2")

    def numbers() -> Numbers:
        capture = cv2.VideoCapture(job["path"], cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, THREADS])
        rate, place = capture.get(cv2.CAP_PROP_FPS), -1
        for second in job["seconds"]:
            wanted = int(second * rate + 1e-6)
            if job["task"] == "random":
                capture.set(cv2.CAP_PROP_POS_FRAMES, wanted)
                place = wanted - 1
            while place < wanted and capture.grab():
                place += 1
            is_there, picture = capture.retrieve()
            if not is_there:
                return
            yield 0, number_in(cv2.cvtColor(cv2.resize(picture, size_for(job, job["side"]), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB))

    return numbers


# name, how to run it, what its version is asked by
PEERS: dict[str, tuple[Callable[[Job], Callable[[], Numbers]], str]] = {
    "ffmpeg -f null": (run_ffmpeg, ""),
    "act2see": (run_act2see, ""),
    "PyAV plain": (run_pyav, "av"),
    "torchcodec": (run_torchcodec, "torchcodec"),
    "decord": (run_decord, "decord"),
    "OpenCV": (run_opencv, "opencv-python-headless"),
}


def version_of(peer: str) -> str | None:
    """The installed version; None where the peer is absent."""
    package = PEERS[peer][1]
    try:
        if peer == "ffmpeg -f null":
            said = subprocess.run([ffmpeg(), "-version"], capture_output=True, text=True, check=True).stdout
            found = re.search(r"version (\S+)", said)
            return found.group(1) if found else "?"
        return importlib.metadata.version(package) if package else ""
    except (importlib.metadata.PackageNotFoundError, ModuleNotFoundError):
        return None


def _used() -> float:
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in parts)


def main() -> None:
    """Run one job and print a line of JSON: CPU and wall seconds without imports, peak memory, and the numbers of the frames."""
    job = json.loads(sys.argv[1])
    if limit := job.get("limit_cpu_seconds"):
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))  # some never come to an end
    numbers = PEERS[job["peer"]][0](job)
    cpu, wall = _used(), time.perf_counter()
    found = list(numbers())
    cpu, wall = _used() - cpu, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss if job["peer"] == "ffmpeg -f null" else _peak_kibibytes()
    print(json.dumps({"cpu_seconds": cpu, "wall_seconds": wall, "peak_mebibytes": peak / 1024, "found": found}))


def _peak_kibibytes() -> int:
    """This process's own peak; `ru_maxrss` also knows what the process was before it became Python."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(found.group(1)) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
