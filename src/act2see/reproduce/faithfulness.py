"""Whether generated frames show what was asked for, read from their pixels: the synthetic world knows what an edit should look like."""

from dataclasses import dataclass

from act2see.core.trace import Frame, Trace
from act2see.storage.runs import Run
from act2see.synthetic.dataset import Place, item
from act2see.synthetic.edits import apply
from act2see.synthetic.hypothetical import Hypothetical
from act2see.synthetic.judging import judge
from act2see.synthetic.world import FRAME_RATE


@dataclass(frozen=True, slots=True)
class JudgedPicture:
    """A generated frame of an answer, and whether it shows the question's edit and leaves all else as it was."""

    question: str
    is_faithful: bool


def judged_pictures(run: Run) -> list[JudgedPicture]:
    """The first generated frame of each answer to a hypothetical question, in the order of the traces' ids. Raises `StoreError`."""
    places = sorted(((trace.id, place) for place, trace in run.sketches([]) if _generated(trace) is not None), key=lambda one: one[0])
    found = [_judged(run.trace_at(place)) for _, place in places]
    return [one for one in found if one is not None]


def _generated(trace: Trace) -> Frame | None:
    frames = [frame for observation in trace.observations for frame in observation.frames if frame.provenance is not None]
    return frames[0] if frames else None


def _judged(trace: Trace) -> JudgedPicture | None:
    place, frame = Place.of(trace.id), _generated(trace)
    if place is None or frame is None or frame.provenance is None or frame.provenance.anchor_seconds is None:
        return None
    asked = item(place)
    if not isinstance(asked.question, Hypothetical):
        return None
    seconds = round(frame.provenance.anchor_seconds * FRAME_RATE) / FRAME_RATE
    after = apply(asked.question.edit, asked.clip, seconds)
    if after is None:  # the anchor does not show what is to be edited
        return JudgedPicture(trace.id, is_faithful=False)
    seen = judge(asked.question.edit, asked.clip, after, seconds, frame.image)
    return JudgedPicture(trace.id, seen.done and seen.kept == seen.others)
