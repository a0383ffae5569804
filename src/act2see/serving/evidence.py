"""The evidence of an answer as JSON: steps, frames with times and hashes, and cost. Sent as the field `act2see` beside OpenAI's."""

from dataclasses import asdict
from pathlib import PurePath
from typing import assert_never

from act2see.api import AskResult
from act2see.core.trace import Answer, Frame, Generate, Observation, Retrieve, Step, Thought
from act2see.storage.codec import JSON, encode_provenance
from act2see.storage.frames import name_of
from act2see.synthetic.scope import NOTICE


def evidence_of(result: AskResult, video_name: str) -> dict[str, JSON]:
    """What an answer rests on. `video_name` stands in for the file's path on this machine."""
    trace = result.trace
    made_with: dict[str, JSON] = {name: value for name, value in trace.made_with.items() if name != NOTICE}
    cost: dict[str, JSON] = {**asdict(trace.cost), "total_seconds": trace.cost.total_seconds}
    return {
        "id": trace.id,
        "video": video_name,
        "duration_seconds": trace.duration_seconds,
        "finish": trace.finish,
        "choice": result.choice,
        "frames": [frame_record(frame) for frame in trace.frames],
        "steps": [step_record(step) for step in trace.steps],
        "looks": trace.looks,
        "cost": cost,
        "made_with": made_with,
        "notice": trace.made_with.get(NOTICE),
    }


def step_record(step: Step) -> dict[str, JSON]:
    """One step of the reasoning."""
    match step:
        case Thought(text):
            return {"type": "thought", "text": text}
        case Retrieve(query):
            return {"type": "retrieve", "query": query.strip()}
        case Generate(prompt):
            return {"type": "generate", "prompt": prompt.strip()}
        case Observation(frames, error):
            return {"type": "observation", "frames": [frame_record(frame) for frame in frames], "error": error}
        case Answer(text):
            return {"type": "answer", "text": text.strip()}
        case _:
            assert_never(step)


def frame_record(frame: Frame) -> dict[str, JSON]:
    """A frame without its picture. `sha256` is that of its size and RGB pixels (and provenance), as in the names of a run's frame files."""
    record: dict[str, JSON] = {
        "seconds": frame.seconds,
        "imagined": frame.provenance is not None,
        "sha256": PurePath(name_of(frame)).stem,
        "width": frame.image.width,
        "height": frame.image.height,
    }
    if frame.score is not None:
        record["score"] = frame.score
    if frame.match is not None:
        record["is_fallback"] = frame.match.is_fallback
        if frame.match.line is not None:
            record["line"] = asdict(frame.match.line)
    if frame.box is not None:
        record["box"] = list(frame.box)
    if frame.lines:
        record["lines"] = [asdict(line) for line in frame.lines]
    if frame.provenance is not None:
        record["provenance"] = encode_provenance(frame.provenance)
    return record
