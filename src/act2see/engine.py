"""The one loop: decode until a call or an answer closes, turn the call into an observation, go on."""

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from act2see import chat
from act2see.errors import BackendError, ToolError
from act2see.interfaces import Backend, Generator, Retriever
from act2see.trace import Answer, Finish, Frame, Generate, Observation, Retrieve, Step, Trace
from act2see.video import Video

MAX_ERRORS_IN_A_ROW = 3
"""A model that does not recover from three failed calls in a row is stopped without an answer. Not in the paper; our choice."""


@dataclass(frozen=True, slots=True)
class Delta:
    """A bit of text as it streams; the step that it becomes a part of follows later."""

    text: str


@dataclass(frozen=True, slots=True)
class Budget:
    """What an answer may cost before nothing more is brought: a call is then answered by an error that says so, and the model answers."""

    seconds: float | None = None
    """Of all stages so far, as the trace's cost counts them. One decoding is never cut off: the last may go beyond it."""
    frames: int | None = None
    """Initial frames and brought ones together."""

    def spent(self, trace: Trace) -> str | None:
        """What is spent; None while there is something left."""
        if self.seconds is not None and trace.cost.total_seconds >= self.seconds:
            return f"the {self.seconds:g} seconds for this answer are spent"
        brought = sum(len(step.frames) for step in trace.steps if isinstance(step, Observation))
        if self.frames is not None and len(trace.frames) + brought >= self.frames:
            return f"the {self.frames} frames for this answer are spent"
        return None


NO_BUDGET = Budget()


def new_trace(video: Video, question: str, choices: Sequence[str], *, fps: float, id: str) -> Trace:
    """A trace that has yet to begin, with the video's frames at `fps` (1 in the paper). Raises `VideoError`."""
    return Trace(
        id=id,
        video=str(video.path),
        question=question,
        frames=tuple(video.sample(fps)),
        choices=tuple(choices),
        duration_seconds=video.duration_seconds,
    )


def insert(trace: Trace, video: Video, retriever: Retriever, count: int = 1) -> None:
    """Put the frames that fit the question's own words among the initial ones: looking without being asked to, as ViTCoT does.

    A retriever that finds nothing leaves the trace as it is. Raises `VideoError`.
    """
    times = tuple(frame.seconds for frame in trace.frames if frame.seconds is not None)
    try:
        found = retriever.find(video, trace.question, shown=times, count=count)
    except ToolError:
        return
    trace.frames = tuple(sorted((*trace.frames, *found), key=lambda frame: frame.seconds or 0.0))
    trace.made_with["inserted"] = f"{len(found)} by {retriever.name}"


def reason(
    trace: Trace,
    video: Video,
    backend: Backend,
    retriever: Retriever | None,
    generator: Generator | None = None,
    *,
    max_looks: int = 1,
    seed: int = 0,
    offered: Collection[chat.Tool] = ("retrieve", "generate"),
    budget: Budget = NO_BUDGET,
) -> Iterator[Delta | Step]:
    """Carry the trace on until it ends, yielding text as it streams and every step once it is in the trace.

    `trace.steps` and `trace.cost` are all the state: stop at any point and call again with the same trace to go on. `max_looks` is 1 in the
    paper. Of the tools that there are, the model is told of those in `offered` alone, and may call no other: an imagined picture's anchor is found by
    the retriever all the same. Raises `BackendError` and `VideoError`; a tool's failure and a malformed call are observations that the model reads.
    """
    if trace.finish is not None:
        return
    tools = available_tools(retriever, generator, max_looks, offered)
    trace.made_with.update(backend.made_with)
    trace.made_with["tools"] = ",".join(tools) or "none"
    if "retrieve" in tools and retriever is not None:
        trace.made_with["retriever"] = retriever.name
    if "generate" in tools and generator is not None:
        trace.made_with["generator"] = generator.name

    def observe(call: Retrieve | Generate) -> Observation:
        started = time.perf_counter()
        stage: chat.Tool = "retrieve" if isinstance(call, Retrieve) else "generate"
        try:
            _refuse(stage, trace, max_looks, offered, budget)
            return Observation(frames=_look(call, trace, video, retriever, generator, seed))
        except ToolError as error:
            return Observation(error=str(error))
        finally:
            trace.cost.seconds[stage] = trace.cost.seconds.get(stage, 0.0) + time.perf_counter() - started

    while trace.finish is None:
        last = trace.steps[-1] if trace.steps else None
        if isinstance(last, Retrieve | Generate):
            observation = observe(last)
            trace.steps.append(observation)
            yield observation
            continue
        if isinstance(last, Answer):  # a trace that was cut off between its answer and its finish
            trace.finish = "answer"
            return
        if _errors_in_a_row(trace.steps) >= MAX_ERRORS_IN_A_ROW:
            trace.finish = "errors"
            return
        stream = backend.decode(trace, tools)
        while True:
            try:
                yield Delta(next(stream))
            except StopIteration as end:
                continuation = end.value
                break
        trace.cost.add(continuation.cost)
        steps, problem = chat.parse_chunk(continuation.text)
        if problem is not None:
            steps.append(Observation(error=problem))
        elif continuation.stopped == "tag" and not isinstance(steps[-1] if steps else None, Retrieve | Generate | Answer):
            raise BackendError("the backend stopped at a closing tag, but its text does not end with one: it must return its text up to the tag")
        ended: dict[str, Finish] = {"end": "end", "length": "length"}
        finish = "answer" if any(isinstance(step, Answer) for step in steps) else ended.get(continuation.stopped)
        # All at once before the first is yielded: whoever stops listening in between still holds a trace that can go on.
        trace.steps.extend(steps)
        trace.finish = finish
        yield from steps


def available_tools(
    retriever: Retriever | None, generator: Generator | None, max_looks: int, offered: Collection[chat.Tool] = ("retrieve", "generate")
) -> tuple[chat.Tool, ...]:
    """The tools that the model is told about: none when it may not look. A generator needs a retriever, for its anchor."""
    if max_looks <= 0 or retriever is None:
        return ()
    there: tuple[chat.Tool, ...] = ("retrieve", "generate") if generator is not None else ("retrieve",)
    return tuple(tool for tool in there if tool in offered)


def _refuse(tool: chat.Tool, trace: Trace, max_looks: int, offered: Collection[chat.Tool], budget: Budget) -> None:
    """Raise `ToolError` where nothing more may be brought."""
    if trace.looks >= max_looks:
        raise ToolError(f"no look is left (at most {max_looks}): answer from what you have seen")
    if (spent := budget.spent(trace)) is not None:
        raise ToolError(f"{spent}: answer from what you have seen")
    if tool not in offered:
        raise ToolError("this cannot be asked for here: answer from what you have seen")


def _look(
    call: Retrieve | Generate, trace: Trace, video: Video, retriever: Retriever | None, generator: Generator | None, seed: int
) -> tuple[Frame, ...]:
    if retriever is None:
        raise ToolError("there is no retriever here: answer from what you have seen")
    if isinstance(call, Retrieve):
        return _found(retriever, video, call.query, _times_shown(trace))
    if generator is None:
        raise ToolError("nothing can be generated here: answer from what you have seen")
    anchor = _found(retriever, video, call.prompt, ())[0]
    return (generator.generate(call.prompt.strip(), anchor, seed=seed),)


def _found(retriever: Retriever, video: Video, query: str, shown: Collection[float]) -> tuple[Frame, ...]:
    frames = tuple(retriever.find(video, query.strip(), shown=shown))
    if not frames:
        raise ToolError("no frame was found: answer from what you have seen")
    return frames


def _times_shown(trace: Trace) -> tuple[float, ...]:
    observed = [frame for step in trace.steps if isinstance(step, Observation) for frame in step.frames]
    return tuple(frame.seconds for frame in (*trace.frames, *observed) if frame.seconds is not None)


def _errors_in_a_row(steps: list[Step]) -> int:
    count = 0
    for step in reversed(steps):
        if isinstance(step, Observation):
            if step.error is None:
                break
            count += 1
    return count
