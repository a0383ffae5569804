"""The content of a trace's page as plain values; the template only lays them out."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import PurePath
from typing import Literal, assert_never

from markupsafe import Markup

from act2see.core import chat
from act2see.core.flops import in_units
from act2see.core.spots import box_text, tool_of
from act2see.core.trace import Answer, Cost, Finish, Frame, Generate, Observation, Provenance, Retrieve, Thought, Trace
from act2see.report.pictures import Album, Picture

_STRIP_HEIGHTS = 16.0  # the film strip's aspect ratio: 11 on a desktop, and pictures may be cropped by a third at their sides
_PIN_PERCENT = 10.0  # a square picture's pin on a phone, in percent of the timeline's width: closer pins go into another lane
_MAX_TICKS = 6
_NOT_IN_THE_VIDEO = "Imagined picture, not in the video"
_SAME_SECONDS = 1e-3  # frames of a video are further apart
_CURVE_POINTS = 120  # more cannot be told apart in a drawing as wide as the text


@dataclass(frozen=True, slots=True)
class Shown:
    """One frame as the page shows it. `facts` are its provenance by name; `anchor` is the real frame that it was made from."""

    picture: Picture
    alt: str
    time: str | None
    score: str | None = None
    imagined: bool = False
    facts: tuple[tuple[str, str], ...] = ()
    anchor: "Shown | None" = None

    @property
    def svg(self) -> Markup:
        """The picture as an element of the page."""
        return self.picture.svg(self.alt)


@dataclass(frozen=True, slots=True)
class Curve:
    """A retriever's scores over the video, in a drawing 100 wide and 24 high: time from left to right, the highest score at the top."""

    points: str
    """The line's points as SVG takes them."""
    picked: tuple[float, ...]
    """Where the retrieved frames stand on the x axis."""
    alt: str
    low: str
    high: str
    end: str
    """The lowest and the highest score, and the time at the right edge, as texts."""


@dataclass(frozen=True, slots=True)
class Block:
    """One part of the reasoning. `number` counts the calls from 1; an observation has the number of its call."""

    kind: Literal["thought", "retrieve", "generate", "clip", "zoom", "frames", "error", "answer"]
    text: str = ""
    frames: tuple[Shown, ...] = ()
    number: int | None = None
    curve: Curve | None = None
    """The scores by which an observation's frames were chosen, if the trace holds them."""


@dataclass(frozen=True, slots=True)
class Dot:
    """An initial frame's place on the timeline, in percent of its length."""

    percent: float
    title: str

    @property
    def style(self) -> str:
        """Its place as CSS."""
        return f"left:{self.percent:.2f}%"


@dataclass(frozen=True, slots=True)
class Pin:
    """A retrieved frame's place on the timeline, in percent of its length. `lane` 0 is the topmost."""

    percent: float
    title: str
    picture: Picture
    number: int | None
    seconds: float
    lane: int = 0

    @property
    def style(self) -> str:
        """Its place and its picture's shape as CSS."""
        return f"left:{self.percent:.2f}%;--at:{self.percent:.2f};--lane:{self.lane};--ratio:{self.picture.ratio}"


@dataclass(frozen=True, slots=True)
class Slot:
    """A span of the film strip, in percent, that shows the frame at its start."""

    percent: float
    width_percent: float
    picture: Picture

    @property
    def style(self) -> str:
        """Its place and its picture's shape as CSS."""
        return f"left:{self.percent:.2f}%;width:{self.width_percent:.2f}%;--ratio:{self.picture.ratio}"


@dataclass(frozen=True, slots=True)
class Tick:
    """A labelled time on the timeline's axis."""

    percent: float
    label: str

    @property
    def style(self) -> str:
        """Its place as CSS."""
        return f"left:{self.percent:.2f}%"


@dataclass(frozen=True, slots=True)
class Timeline:
    """The video's time from left to right, with the real frames; generated ones have no time."""

    slots: tuple[Slot, ...]
    dots: tuple[Dot, ...]
    pins: tuple[Pin, ...]
    ticks: tuple[Tick, ...]
    lanes: int
    length_seconds: float
    duration_known: bool


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of the trace's cost in time."""

    name: str
    seconds: float
    percent: float


@dataclass(frozen=True, slots=True)
class Page:
    """Everything that the template needs."""

    trace: Trace
    video: str
    choices: tuple[tuple[str, str, bool], ...]
    no_answer: str
    timeline: Timeline | None
    initial: tuple[Shown, ...]
    blocks: tuple[Block, ...]
    stages: tuple[Stage, ...]
    computed: str | None = None
    """The FLOPs of the trace in words, if they are known."""
    prefix: str = ""
    """Prefix of the ids in the page, where it shows several traces."""
    right: int | None = None
    """Index of the right choice, where it is known."""


def page(trace: Trace, album: Album, prefix: str = "", right: int | None = None) -> Page:
    """The content of a trace's page, finished or not; its pictures are added to the album."""
    initial, blocks = seen_and_said(trace, album, album.sizes.max_initial)
    return Page(
        trace=trace,
        video=PurePath(trace.video).name,
        choices=lettered(trace.choices, chat.chosen(trace.answer, trace.choices)),
        no_answer=why_no_answer(trace.finish),
        timeline=timeline(trace, album),
        initial=initial,
        blocks=blocks,
        stages=_stages(trace.cost),
        computed=computed_text(trace.cost),
        prefix=prefix,
        right=right,
    )


def seen_and_said(trace: Trace, album: Album, most: int) -> tuple[tuple[Shown, ...], tuple[Block, ...]]:
    """At most `most` of the initial frames, and the reasoning; their pictures are added to the album."""
    return tuple(_initial(frame, album) for frame in evenly(trace.frames, most)), tuple(_blocks(trace, album))


def lettered(choices: Sequence[str], marked: int | None) -> tuple[tuple[str, str, bool], ...]:
    """Each choice's letter and text, and whether it is the marked one."""
    letters = chat.letters(len(choices)).ljust(len(choices))
    return tuple((letter, choice, number == marked) for number, (letter, choice) in enumerate(zip(letters, choices, strict=True)))


def why_no_answer(finish: Finish | None) -> str:
    """The reason why a trace has no answer, to follow "no answer: "."""
    match finish:
        case None:
            return "the trace was cut off before its end and can be continued"
        case "end":
            return "the model ended its turn without one"
        case "length":
            return "the token budget ran out first"
        case "errors":
            return "too many calls in a row failed"
        case "answer":
            return "the trace says that it ended with one, but its last step is none"
        case _:
            assert_never(finish)


def evenly(frames: Sequence[Frame], count: int) -> Sequence[Frame]:
    """At most `count` of the frames, evenly chosen; the first is always among them, and the last if `count` is 2 or more."""
    if len(frames) <= count:
        return frames
    return [frames[round(place * (len(frames) - 1) / max(1, count - 1))] for place in range(count)]


# The reasoning


def _blocks(trace: Trace, album: Album) -> Iterable[Block]:
    known = [*trace.frames, *(frame for _, frame in _inserted_frames(trace))]
    calls = 0
    open_call: Retrieve | Generate | None = None
    tools = chat.tools_of(trace)
    for step in trace.steps:
        match step:
            case Thought(text):
                if words := re.sub(r"</?think>", "", text).strip():
                    yield Block("thought", words)
            case Retrieve(query):
                calls, open_call = calls + 1, step
                yield Block(tool_of(step, tools), query.strip(), number=calls)
            case Generate(prompt):
                calls, open_call = calls + 1, step
                yield Block("generate", prompt.strip(), number=calls)
            case Observation(error=str(error)):
                # An error without a call before it is about malformed words meant as a call.
                yield Block("error", error, number=calls if open_call else None)
                open_call = None
            case Observation(frames=frames):
                wish = open_call.query.strip() if isinstance(open_call, Retrieve) else ""
                shown = tuple(_inserted(frame, wish, known, album) for frame in frames)
                yield Block("frames", frames=shown, number=calls if open_call else None, curve=_curve(frames, trace.duration_seconds))
                open_call = None
            case Answer(text):
                yield Block("answer", text.strip())
            case _:
                assert_never(step)


def _curve(frames: Sequence[Frame], duration_seconds: float | None) -> Curve | None:
    """The first scored frame's curve with the times of all that were chosen by it; None where no frame has one of at least two scores."""
    curve = next((frame.match.curve for frame in frames if frame.match is not None and len(frame.match.curve) > 1), None)
    if curve is None:
        return None
    picked = [frame.seconds for frame in frames if frame.seconds is not None]
    end = max([duration_seconds or 0.0, curve[-1][0], *picked])
    low, high = min(score for _, score in curve), max(score for _, score in curve)
    # The highest of each stretch: a peak must not vanish between two points.
    stride = math.ceil(len(curve) / _CURVE_POINTS)
    drawn = [max(curve[place : place + stride], key=itemgetter(1)) for place in range(0, len(curve), stride)] if stride > 1 else curve

    def x(seconds: float) -> float:
        return 100 * min(1.0, max(0.0, seconds / end)) if end > 0 else 0.0

    points = " ".join(f"{x(seconds):.1f},{23 - 22 * ((score - low) / (high - low) if high > low else 0.5):.1f}" for seconds, score in drawn)
    times = ", ".join(seconds_text(seconds) for seconds in picked)
    texts = f"{low:.2f}", f"{high:.2f}"
    alt = f"The retriever's score over the video, from {texts[0]} to {texts[1]}; chosen: {times}"
    return Curve(points, tuple(round(x(seconds), 1) for seconds in picked), alt, *texts, seconds_text(end))


def _initial(frame: Frame, album: Album) -> Shown:
    if frame.provenance is not None:
        return Shown(album.add(frame.image, album.sizes.initial_pixels, imagined=True), _NOT_IN_THE_VIDEO, None, imagined=True)
    time = None if frame.seconds is None else seconds_text(frame.seconds)
    return Shown(album.add(frame.image, album.sizes.initial_pixels), f"Initial frame at {time}" if time else "Initial frame without a time", time)


def _inserted(frame: Frame, wish: str, known: Sequence[Frame], album: Album) -> Shown:
    if frame.seconds is None:
        return _imagined(frame, known, album)
    time = seconds_text(frame.seconds)
    looked_for = f", retrieved for “{wish}”" if wish else ""
    part = "" if frame.box is None else f"Part {box_text(frame.box)} of the "
    caption = f"{part}{'frame' if part else 'Frame'} of the video at {time}{looked_for}"
    line = frame.match.line if frame.match is not None else None
    facts = () if line is None else ((f"{seconds_text(line.start_seconds)} to {seconds_text(line.stop_seconds)}, {line.source}", line.text),)
    picture = album.add(frame.image, album.sizes.inserted_pixels)
    return Shown(picture, caption, f"{time}, enlarged" if part else time, score_text(frame.score), facts=facts)


def _imagined(frame: Frame, known: Sequence[Frame], album: Album) -> Shown:
    picture = album.add(frame.image, album.sizes.inserted_pixels, imagined=True)
    made = frame.provenance
    if made is None:
        return Shown(picture, _NOT_IN_THE_VIDEO, None, score_text(frame.score), imagined=True)
    facts = [("prompt", made.prompt)]
    if made.anchor_seconds is not None:
        facts.append(("made from", f"the frame at {seconds_text(made.anchor_seconds)}"))
    facts += [("model", made.model), ("seed", str(made.seed))]
    if made.strength is not None:
        facts.append(("strength", f"{made.strength:g}"))
    facts += [(name, f"{score:.2f}") for name, score in made.scores.items()]
    facts += [("not verified", made.unverified)] if made.unverified else []
    alt, anchor = f"{_NOT_IN_THE_VIDEO}: {made.prompt}", _anchor(made, known, album)
    return Shown(picture, alt, None, score_text(frame.score), imagined=True, facts=tuple(facts), anchor=anchor)


def _anchor(made: Provenance, known: Sequence[Frame], album: Album) -> Shown | None:
    """The frame that a picture was made from, where the trace holds it; otherwise only its time is known."""
    if made.anchor_seconds is None:
        return None
    for frame in known:
        if frame.seconds is not None and frame.box is None and abs(frame.seconds - made.anchor_seconds) < _SAME_SECONDS:
            time = seconds_text(frame.seconds)
            return Shown(
                album.add(frame.image, album.sizes.inserted_pixels), f"Frame of the video at {time}, from which the imagined picture was made", time
            )
    return None


def computed_text(cost: Cost) -> str | None:
    """The FLOPs of an answer, such as `1.2 TFLOPs`; None if unknown."""
    return None if cost.total_flops is None else in_units(cost.total_flops)


def seconds_text(seconds: float) -> str:
    """A time or a duration as the page shows it."""
    return f"{seconds:.1f} s"


def score_text(score: float | None) -> str | None:
    """A retriever's score as the page shows it."""
    return None if score is None else f"{score:.2f}"


# The timeline


def timeline(trace: Trace, album: Album) -> Timeline | None:
    """The video's time with the real frames, whose pictures are added to the album. None when no frame has a time."""
    initial = [(frame.seconds, frame) for frame in trace.frames if frame.seconds is not None]
    inserted = [(frame.seconds, number, frame) for number, frame in _inserted_frames(trace) if frame.seconds is not None]
    times = [*(seconds for seconds, _ in initial), *(seconds for seconds, _, _ in inserted)]
    if not times:
        return None
    # A frame may lie beyond the duration in the file's header; the timeline then ends at the last frame.
    length = max([trace.duration_seconds or 0.0, *times])

    def percent(seconds: float) -> float:
        return 100 * min(1.0, max(0.0, seconds / length)) if length > 0 else 0.0

    pins = _in_lanes([_pin(number, frame, seconds, percent(seconds), album) for seconds, number, frame in inserted])
    return Timeline(
        slots=tuple(_slots([(percent(seconds), frame) for seconds, frame in initial], album)),
        dots=tuple(Dot(percent(seconds), f"initial frame at {seconds_text(seconds)}") for seconds, _ in initial),
        pins=pins,
        ticks=tuple(Tick(percent(seconds), f"{seconds:g} s") for seconds in _tick_seconds(length)),
        lanes=max((pin.lane + 1 for pin in pins), default=0),
        length_seconds=length,
        duration_known=bool(trace.duration_seconds),
    )


def _inserted_frames(trace: Trace) -> Iterable[tuple[int | None, Frame]]:
    """Every inserted frame, with the number of its call."""
    calls = 0
    for step in trace.steps:
        if isinstance(step, Retrieve | Generate):
            calls += 1
        elif isinstance(step, Observation):
            for frame in step.frames:
                yield calls or None, frame


def _pin(number: int | None, frame: Frame, seconds: float, percent: float, album: Album) -> Pin:
    look = "" if number is None else f"look {number}: "
    score = "" if frame.score is None else f", score {score_text(frame.score)}"
    return Pin(percent, f"{look}frame at {seconds_text(seconds)}{score}", album.add(frame.image, album.sizes.inserted_pixels), number, seconds)


def _in_lanes(pins: Sequence[Pin]) -> tuple[Pin, ...]:
    """The pins in order of time, each in the first lane where the previous pin is far enough to the left."""
    last_in_lane: list[float] = []
    placed = []
    for pin in sorted(pins, key=lambda pin: pin.percent):
        apart = _PIN_PERCENT * pin.picture.width / pin.picture.height
        lane = next((number for number, last in enumerate(last_in_lane) if pin.percent - last >= apart), len(last_in_lane))
        last_in_lane[lane : lane + 1] = [pin.percent]
        placed.append(replace(pin, lane=lane))
    return tuple(placed)


def _slots(placed: Sequence[tuple[float, Frame]], album: Album) -> Iterable[Slot]:
    """As many frames as fit side by side, each up to the next one; every nth frame if there are more."""
    if not placed:
        return
    first = album.add(placed[0][1].image, album.sizes.initial_pixels)
    stride = math.ceil(len(placed) / max(1.0, _STRIP_HEIGHTS * first.height / first.width))
    chosen = placed[::stride]
    stops = [*(start for start, _ in chosen[1:]), 100.0]
    for (start, frame), stop in zip(chosen, stops, strict=True):
        yield Slot(start, stop - start, album.add(frame.image, album.sizes.initial_pixels))


def _tick_seconds(length: float) -> list[float]:
    """Round times from 0 to at most the length."""
    if length <= 0:
        return [0.0]
    step = next(step for step in _round_steps() if length / step <= _MAX_TICKS)
    return [number * step for number in range(int(length / step + 1e-9) + 1)]


def _round_steps() -> Iterable[float]:
    yield from (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800)
    step = 3600.0
    while True:
        yield step
        step *= 2


# Cost


def _stages(cost: Cost) -> tuple[Stage, ...]:
    total = cost.total_seconds
    return tuple(Stage(name, seconds, 100 * seconds / total if total > 0 else 0.0) for name, seconds in cost.seconds.items())
