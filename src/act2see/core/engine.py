"""The reasoning loop: decode up to a tool call or an answer, run the tool, append its observation, repeat."""

import re
import time
from collections.abc import Collection, Iterator, Sequence
from collections.abc import Generator as Yields
from dataclasses import dataclass
from typing import TYPE_CHECKING

from act2see.core import chat, decoding, spots
from act2see.core.errors import BackendError, NoFrameError, ToolError, VideoError
from act2see.core.flops import add, counting
from act2see.core.framing import MAX_STRETCH_FRAMES, FrameLimit, at_size, server_limit
from act2see.core.interfaces import Backend, Continuation, Generator, LimitsFrames, Retriever, unwrapped
from act2see.core.protocol import is_thinking, parse_chunk
from act2see.core.trace import Answer, Finish, Frame, Generate, Observation, Retrieve, Step, Thought, Trace

if TYPE_CHECKING:
    from act2see.video import Video

SPOT_TOOLS: tuple[chat.Tool, ...] = ("clip", "zoom")
MAX_ERRORS_IN_A_ROW = 3
"""After this many failed calls in a row the trace ends without an answer. Not in the paper; our choice."""


@dataclass(frozen=True, slots=True)
class Delta:
    """Streamed text; the step that contains it follows later."""

    text: str


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of one answer. Once one is reached, each further call fails with an error that says so, and the model has to answer."""

    seconds: float | None = None
    """Total wall time of all stages. Checked before each call only, so the last decoding may exceed it."""
    frames: int | None = None
    """Number of initial frames and frames from looks together."""

    def spent(self, trace: Trace) -> str | None:
        """Why the budget is exhausted; None if it is not."""
        if self.seconds is not None and trace.cost.total_seconds >= self.seconds:
            return f"the {self.seconds:g} seconds for this answer are spent"
        if self.frames is not None and len(trace.all_frames) >= self.frames:
            return f"the {self.frames} frames for this answer are spent"
        return None


NO_BUDGET = Budget()


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """Limits, seed and tools of the reasoning loop."""

    max_looks: int = 1
    """Maximum number of looks: tool calls that return a frame (1 in the paper)."""
    seed: int = 0
    """Seed for generated frames."""
    offered: tuple[chat.Tool, ...] = ("retrieve", "generate")
    """The tools in the prompt, of those that are available. A generated frame's anchor is retrieved in any case."""
    budget: Budget = NO_BUDGET


DEFAULTS = LoopOptions()


def new_trace(
    video: "Video", question: str, choices: Sequence[str], *, fps: float, id: str, backend: Backend | None = None, max_frames: int | None = None
) -> Trace:
    """A new trace with the video's frames at `fps` (1 in the paper), before any step.

    If there are more frames than `max_frames` or than the backend's model takes, an evenly spaced subset is used and `made_with` records how many
    of how many. Frames are stored at the model's input size; without a backend, at their own. Raises `VideoError`.
    """
    wanted = len(video.times(fps))
    count = wanted if max_frames is None else min(wanted, max_frames)
    limit = _frame_limit(backend, video, count)
    at_most = limit.frames if limit.frames < wanted else None
    return Trace(
        id=id,
        video=str(video.path),
        question=question,
        frames=tuple(at_size(frame, limit.size, video.size) for frame in video.sample(fps, at_most=at_most)),
        choices=tuple(choices),
        made_with={} if at_most is None else {"initial_frames": f"{at_most} of {wanted}"},
        duration_seconds=video.duration_seconds,
    )


def frames_left_out(trace: Trace) -> int:
    """How many frames at the requested rate were left out of the initial frames because of a limit."""
    recorded = re.fullmatch(r"(\d{1,9}) of (\d{1,9})", trace.made_with.get("initial_frames", ""))
    return 0 if recorded is None else max(0, int(recorded[2]) - int(recorded[1]))


def _frame_limit(backend: Backend | None, video: "Video", frames: int) -> FrameLimit:
    """The limit of a backend's model, or of the one that it wraps."""
    if backend is None:
        return FrameLimit(frames)
    limiting = next((one for one in unwrapped(backend) if isinstance(one, LimitsFrames)), None)
    if limiting is None:
        return server_limit(video.size, frames)
    try:
        return limiting.frame_limit(video.size, frames)
    except VideoError as error:
        raise VideoError(f"{video.path.name}: {error}") from error


def insert(trace: Trace, video: "Video", retriever: Retriever, count: int = 1, backend: Backend | None = None) -> None:
    """Add the frames that match the question to the initial frames, without a call by the model, as ViTCoT does.

    They are stored at the same size. If the retriever finds nothing, the trace does not change. Raises `VideoError`.
    """
    times = tuple(frame.seconds for frame in trace.frames if frame.seconds is not None)
    try:
        with counting() as flops:
            found = retriever.find(video, trace.question, shown=times, count=count)
    except ToolError:
        return
    finally:
        add(trace.cost.flops, flops)
    size = _frame_limit(backend, video, len(trace.frames)).size
    found = [at_size(frame, size, video.size) for frame in found]
    trace.frames = tuple(sorted((*trace.frames, *found), key=lambda frame: frame.seconds or 0.0))
    trace.made_with["inserted"] = f"{len(found)} by {retriever.name}"


def reason(
    trace: Trace,
    video: "Video",
    backend: Backend,
    retriever: Retriever | None,
    generator: Generator | None = None,
    options: LoopOptions = DEFAULTS,
) -> Iterator[Delta | Step]:
    """Continue the trace until it ends. Yields text as it streams, and each step after it has been added to the trace.

    All state is in `trace.steps` and `trace.cost`: stop at any point, and call again with the same trace to resume. Raises `BackendError` and
    `VideoError`. A failed tool or a malformed call becomes an observation that the model reads.
    """
    if trace.finish is not None:
        return
    tools = available_tools(retriever, generator, options)
    trace.made_with |= _made_with(backend, retriever, generator, tools)
    tool_calls = _ToolCalls(trace, video, backend, retriever, generator, options)
    while trace.finish is None:
        last = trace.steps[-1] if trace.steps else None
        if isinstance(last, Retrieve | Generate):
            observation = tool_calls.run(last)
            trace.steps.append(observation)
            yield observation
        elif isinstance(last, Answer):  # a trace that was cut off between its answer and its finish
            trace.finish = "answer"
        elif _errors_in_a_row(trace.steps) >= MAX_ERRORS_IN_A_ROW:
            trace.finish = "errors"
        else:
            before = decoding.before(trace, backend)
            continuation = yield from _streamed(decoding.decode(backend, trace, tools))
            yield from _append(trace, continuation, before)


def _made_with(backend: Backend, retriever: Retriever | None, generator: Generator | None, tools: Sequence[chat.Tool]) -> dict[str, str]:
    recorded = {**backend.made_with, "tools": ",".join(tools) or "none"}
    if retriever is not None and any(tool in tools for tool in ("retrieve", *SPOT_TOOLS)):  # a control decides what any of these returns
        recorded["retriever"] = retriever.name
    if "generate" in tools and generator is not None:
        recorded["generator"] = generator.name
    return recorded


def _streamed(stream: Yields[str, None, Continuation]) -> Yields[Delta, None, Continuation]:
    while True:
        try:
            yield Delta(next(stream))
        except StopIteration as end:
            continuation: Continuation = end.value
            return continuation


def _append(trace: Trace, continuation: Continuation, before: str) -> list[Step]:
    """Append the decoded steps to the trace, all at once: the trace stays resumable if the caller stops iterating between them."""
    trace.cost.add(continuation.cost)
    steps, problem = parse_chunk(continuation.text, before, ended=continuation.stopped == "end")
    last = steps[-1] if steps else None
    if problem is not None:
        steps.append(Observation(error=problem))
    elif continuation.stopped == "tag" and not isinstance(last, Retrieve | Generate | Answer):
        raise BackendError("the backend stopped at a closing tag, but its text does not end with one: it must return its text up to the tag")
    elif isinstance(last, Answer) and is_thinking(before + "".join(step.text for step in steps if isinstance(step, Thought))):
        trace.made_with["answered"] = "while its reasoning was open"
    ended: dict[str, Finish] = {"end": "end", "length": "length"}
    trace.steps.extend(steps)
    trace.finish = "answer" if any(isinstance(step, Answer) for step in steps) else ended.get(continuation.stopped)
    return steps


def available_tools(retriever: Retriever | None, generator: Generator | None, options: LoopOptions) -> tuple[chat.Tool, ...]:
    """The tools in the prompt: none if no look is allowed. A generator needs a retriever, for its anchor; a look at a time or a place needs none."""
    if options.max_looks <= 0:
        return ()
    there: list[chat.Tool] = [] if retriever is None else ["retrieve", "generate"] if generator is not None else ["retrieve"]
    return tuple(tool for tool in (*there, *SPOT_TOOLS) if tool in options.offered)


@dataclass(frozen=True, slots=True)
class _ToolCalls:
    """Runs tool calls: each returns a retrieved frame, a generated one, or an error that the model reads."""

    trace: Trace
    video: "Video"
    backend: Backend
    retriever: Retriever | None
    generator: Generator | None
    options: LoopOptions

    def run(self, call: Retrieve | Generate) -> Observation:
        """Run one call and add its FLOPs to the trace's cost, and its seconds under the tool's name."""
        with counting() as flops:
            try:
                return self._timed(call)
            finally:
                add(self.trace.cost.flops, flops)

    def _timed(self, call: Retrieve | Generate) -> Observation:
        started = time.perf_counter()
        tool = spots.tool_of(call, self.options.offered)
        try:
            self._check_allowed(tool)
            if (spot := spots.parse(call.query, tool) if isinstance(call, Retrieve) else None) is not None:
                return Observation(frames=self._shown(spot))
            return Observation(frames=self._look(call))
        except ToolError as error:
            return Observation(error=chat.error_for_model(error))
        finally:
            seconds = self.trace.cost.seconds
            seconds[tool] = seconds.get(tool, 0.0) + time.perf_counter() - started

    def _check_allowed(self, tool: chat.Tool) -> None:
        """Raise `NoFrameError` if a limit is reached or the tool is not offered."""
        if self.trace.looks >= self.options.max_looks:
            raise NoFrameError(f"no look is left (at most {self.options.max_looks})")
        if (spent := self.options.budget.spent(self.trace)) is not None:
            raise NoFrameError(spent)
        if tool not in self.options.offered:
            if tool == "retrieve" and any(other in self.options.offered for other in SPOT_TOOLS):
                raise ToolError(spots.advice(self.options.offered))
            raise NoFrameError("this cannot be asked for here")

    def _shown(self, spot: spots.Spot) -> tuple[Frame, ...]:
        """The frames of a look with a time or a place, no more than the budget leaves."""
        spots.check_inside(spot, self.video)
        left = self.options.budget.frames
        count = MAX_STRETCH_FRAMES if left is None else min(MAX_STRETCH_FRAMES, left - len(self.trace.all_frames))
        if spots.is_known(spot, self.video, self.trace.all_frames, count):
            raise ToolError("this has been shown already: name another time or part of the picture, or answer")
        found = spots.shown_by(self.retriever, self.video, spot, shown=_times_shown(self.trace), count=count)
        size = _frame_limit(self.backend, self.video, len(self.trace.frames)).brought
        return tuple(at_size(frame, size, self.video.size) if frame.box is None else spots.fitted(frame, size) for frame in found)

    def _look(self, call: Retrieve | Generate) -> tuple[Frame, ...]:
        if self.retriever is None:
            raise NoFrameError("there is no retriever here")
        if isinstance(call, Retrieve):
            found = _found(self.retriever, self.video, call.query, _times_shown(self.trace))
            size = _frame_limit(self.backend, self.video, len(self.trace.frames)).brought
            return tuple(at_size(frame, size, self.video.size) for frame in found)
        if self.generator is None:
            raise NoFrameError("nothing can be generated here")
        anchor = _found(self.retriever, self.video, call.prompt, ())[0]
        return (self.generator.generate(call.prompt.strip(), anchor, seed=self.options.seed),)


def _found(retriever: Retriever, video: "Video", query: str, shown: Collection[float]) -> tuple[Frame, ...]:
    frames = tuple(retriever.find(video, query.strip(), shown=shown))
    if not frames:
        raise NoFrameError("no frame was found")
    return frames


def _times_shown(trace: Trace) -> tuple[float, ...]:
    return tuple(frame.seconds for frame in trace.all_frames if frame.seconds is not None)


def _errors_in_a_row(steps: list[Step]) -> int:
    count = 0
    for step in reversed(steps):
        if isinstance(step, Observation):
            if step.error is None:
                break
            count += 1
    return count
