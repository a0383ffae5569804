"""The scripted teacher's wording, distinct from `questions.explain`, which stands in for human reasoning."""

import itertools
import random
from collections.abc import Sequence
from typing import assert_never

from act2see.core.spots import box_text
from act2see.synthetic.edits import Edit, Move, Recolour, Remove, Swap, prompt_of
from act2see.synthetic.hypothetical import Count, Extreme, Hypothetical, Nearest, Seen
from act2see.synthetic.questions import Question, query_for
from act2see.synthetic.spot_questions import SpotQuestion

TimedContents = tuple[float, tuple[Seen, ...]]
"""A frame's timestamp in seconds and its contents."""
AnyQuestion = Question | Hypothetical | SpotQuestion

NEAR = {"top": "near the top", "left": "towards the left", "middle": "around the middle", "right": "towards the right", "bottom": "near the bottom"}
"""Differs from `PLACE_WORDS`, so that no clause equals one of the human reasoning."""
BLAND = (" That is all I need.", " With this the matter is settled.", " Nothing more has to be said.", " So much for that; I can finish now.")
"""Continuations that ignore the result of a call."""
WEATHER = (
    "It has been raining since the early morning.",
    "The wind comes from the sea and brings heavy clouds.",
    "Tomorrow should be a little warmer, though fog is likely in the valleys.",
    "Farmers have been hoping for a dry week before the harvest.",
    "In the mountains there may even be some late snow.",
    "The forecast for the weekend changes with every hour.",
    "An umbrella would be a sensible thing to carry.",
)
"""Off-topic reasoning. Contains no shape, colour, place or number."""


# Descriptions of pictures


def picture(things: Sequence[Seen]) -> str:
    """One picture's contents: `a blue ring towards the left and a red star near the top`."""
    if not things:
        return "nothing but the background"
    named = [f"{_a(colour)} {shape} {NEAR[place]}" for colour, shape, place in things]
    return " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)


def frames(rng: random.Random, timed: Sequence[TimedContents]) -> str:
    """The contents of frames, one sentence per run of frames with equal contents."""
    said = ""
    for things, run in itertools.groupby(timed, key=lambda one: one[1]):
        times = [seconds for seconds, _ in run]
        when = f"At {times[0]:.1f} seconds" if len(times) == 1 else f"In the frames from {times[0]:.1f} to {times[-1]:.1f} seconds"
        said += f" {when} {rng.choice(('I make out', 'the picture holds', 'one can see'))} {picture(things)}."
    return said


def generated(rng: random.Random, things: Sequence[Seen]) -> str:
    """The contents of a generated picture."""
    return f" {rng.choice(('The picture that was made shows', 'In the generated picture I make out', 'What came back holds'))} {picture(things)}."


def _a(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


# Questions and findings


def topic(question: AnyQuestion) -> str:
    """The topic of a question: `the colour of the star`."""
    if isinstance(question, Question):
        return f"the {question.asked} of {thing(question)}"
    if isinstance(question, SpotQuestion):
        match question.kind:
            case "order":
                return "which two shapes flash, and in which order"
            case "flashes":
                return f"how often the {question.actors[0].shape} flashes"
            case "digit":
                return f"the digit on the {question.actors[0].shape}"
            case _:
                assert_never(question.kind)
    match question.fact:
        case Extreme(side):
            return f"the colour of the {side} shape"
        case Nearest(shape):
            return f"the colour of what stands closest to the {shape}"
        case Count(colour):
            return f"the number of {colour} shapes"
        case _:
            assert_never(question.fact)


def thing(question: Question) -> str:
    """The target of a question: `the star`."""
    return f"the {question.actor.colour} thing" if question.asked == "shape" else f"the {question.actor.shape}"


def finding(question: AnyQuestion, value: str) -> str:
    """A choice as a statement: `the star is red`."""
    if isinstance(question, Question):
        match question.asked:
            case "colour":
                return f"{thing(question)} is {value}"
            case "shape":
                return f"{thing(question)} is {_a(value)}"
            case "place":
                return f"{thing(question)} has its place {NEAR[value]}"
            case _:
                assert_never(question.asked)
    if isinstance(question, SpotQuestion):
        shape = question.actors[0].shape
        return {"order": f"it was {value}", "flashes": f"the {shape} flashes {value}", "digit": f"the {shape} bears the digit {value}"}[question.kind]
    return f"{topic(question)} would then be {value}"


def premise(edit: Edit) -> str:
    """The premise of a hypothetical question: `the star painted blue`."""
    match edit:
        case Recolour(shape, colour):
            return f"the {shape} painted {colour}"
        case Move(shape, place):
            return f"the {shape} moved {NEAR[place]}"
        case Remove(shape):
            return f"the {shape} taken away"
        case Swap(shape, _, other, _):
            return f"the {shape} and the {other} having traded positions"
        case _:
            assert_never(edit)


# Parts of the reasoning


def opening(rng: random.Random, question: AnyQuestion) -> str:
    """The first sentences."""
    said = rng.choice(("The question asks for {}.", "What has to be found out is {}.", "So the task here is to tell {}.")).format(topic(question))
    if isinstance(question, Hypothetical):
        said += rng.choice((" It supposes {}, and the clip has no such moment.", " All this with {}, which the clip itself does not offer."))
        said = said.format(premise(question.edit))
    return said


def unseen(rng: random.Random, question: Question | SpotQuestion) -> str:
    """States that the frames do not show the target."""
    if isinstance(question, SpotQuestion):
        if question.kind == "digit":
            return rng.choice((" Its print is too small to read here.", " Whatever is printed on it, I cannot make it out."))
        return rng.choice((" What happens in between is not to be seen in these.", " These frames are too far apart to tell."))
    return rng.choice((" I find no trace of {} here.", " Nowhere here can I spot {}.", " Still missing is {}.")).format(thing(question))


def wish(rng: random.Random, question: AnyQuestion) -> str:
    """The reason for a call."""
    if isinstance(question, Hypothetical):
        return rng.choice((" A picture of that would help.", " Let me have that drawn.", " To be certain, let me see it drawn."))
    if isinstance(question, SpotQuestion) and question.kind == "digit":
        return rng.choice((" Let me enlarge that part.", " A closer look should help.", " I ask for that corner of the frame, larger."))
    if isinstance(question, SpotQuestion):
        return rng.choice(
            (" Let me have that second in small steps.", " I ask for the frames of that stretch.", " That second has to be seen closely.")
        )
    return rng.choice(
        (" Let me ask for a frame in between.", " A further frame might help.", " Something between these frames must hold it, so I ask for more.")
    )


def needless_wish(rng: random.Random, question: Question, seconds: float) -> str:
    """The reason for an unnecessary call, without giving the answer away."""
    enough = f" The frame at {seconds:.1f} seconds already has {thing(question)} in it."
    return enough + rng.choice((" All the same, let me fetch one more frame.", " Still, another frame can do no harm."))


def early(rng: random.Random, question: AnyQuestion, value: str) -> str:
    """A conclusion before any evidence."""
    said = rng.choice((" It is clear that {}: the answer must be {}.", " I already know that {}, so my answer is {}."))
    return said.format(finding(question, value), value) + rng.choice((" I look only for form's sake.", " Let me have a look nevertheless."))


def query(rng: random.Random, question: AnyQuestion) -> str:
    """The query or prompt for a tool."""
    if isinstance(question, Question):
        return query_for(rng, question)
    if isinstance(question, SpotQuestion):
        return spot(question, question.seconds[0])
    edit = question.edit
    # Only this prompt is long enough to equal the human one verbatim: name the two shapes in reverse order.
    return prompt_of(Swap(edit.other, edit.other_place, edit.shape, edit.place) if isinstance(edit, Swap) else edit, rng)


def spot(question: SpotQuestion, start: float) -> str:
    """The stretch or the part of the picture to ask for, from this second on."""
    if question.kind == "digit":
        return f"zoom {box_text(question.box_at(start))} at {start:g} s"
    return f"{start:g} to {start + 1:g} s"


def nothing_came(rng: random.Random) -> str:
    """The reaction to an error."""
    return rng.choice((" Nothing was brought to me.", " The tool has nothing for me.", " That request went unanswered."))


def malformed(rng: random.Random) -> str:
    """The reaction to a malformed call or frame."""
    return rng.choice((" That was not well formed.", " I wrote that in a wrong way.", " That did not follow the rules of the format."))


def conclusion(rng: random.Random, question: AnyQuestion, value: str) -> str:
    """The conclusion from the evidence."""
    return rng.choice((" Therefore {}, and I choose {}.", " From this I gather that {}. I settle on {}.", " Hence {}; my choice is {}.")).format(
        finding(question, value), value
    )


def guess(rng: random.Random, value: str) -> str:
    """An answer that is admitted to be a guess."""
    return rng.choice(
        (" Without any evidence I pick {}.", " Lacking a view of it, I take a chance on {}.", " I cannot know, so by luck alone I say {}.")
    ).format(value)


def copied(rng: random.Random, reasoning: str) -> str:
    """12 to 16 consecutive words of the human reasoning, or all of it if shorter."""
    said = reasoning.split()
    length = rng.randint(12, 16)
    start = rng.randint(0, max(0, len(said) - length))
    return " " + " ".join(said[start : start + length])


def credited(rng: random.Random, question: AnyQuestion, value: str) -> str:
    """A conclusion that cites the human reasoning as its source."""
    said = (
        " As the reference explanation says, {}.",
        " According to the human reasoning that was provided, {}.",
        " This agrees with the given explanation, by which {}.",
    )
    return rng.choice(said).format(finding(question, value))
