"""Sources of questions that people have reasoned about, and teachers, for whole constructions."""

import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from act2see.core.chat import Tool
from act2see.core.errors import BackendError
from act2see.core.interfaces import Continuation, Sample
from act2see.core.trace import Cost, Trace
from eval_fakes import Many, Steady


class Told(Many):
    """Each question with a person's reasoning, all videos but that of q003 there."""

    name = "told"

    def samples(self) -> Iterator[Sample]:
        for sample in super().samples():
            yield replace(sample, reasoning=f"I looked at {sample.id} and saw something {sample.answer}.", licence="CC BY 4.0")


class OneClip(Told):
    """The same about one clip: however many questions, nothing is copied."""

    def samples(self) -> Iterator[Sample]:
        clip = Path(os.environ["ACT2SEE_TEST_CLIP"])
        for number in range(self._count):
            yield Sample(f"q{number:05}", clip, "What colour?", ("blue", "red", "green"), "red", "told", reasoning=f"It is red, {number}.")


class Untold(Many):
    """No person has reasoned about these."""


class Unanswered(Told):
    def samples(self) -> Iterator[Sample]:
        for sample in super().samples():
            yield replace(sample, answer="")


class Gone(Told):
    """Its videos were never downloaded, but for one."""

    def samples(self) -> Iterator[Sample]:
        for number, sample in enumerate(super().samples()):
            yield sample if number == 0 else replace(sample, video=sample.video.with_name(f"gone-{number}.mp4"))


class Garbage(Steady):
    """Writes what no protocol knows."""

    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Generator[str, None, Continuation]:
        text = "\x1b[31m<frame><answer></answer></frame>\u202e" * 3
        yield text
        return Continuation(text, "end", Cost(10, 10))


class Throttled(Steady):
    """Refuses its first requests, as a server does that is asked too often."""

    refusals = 4

    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Generator[str, None, Continuation]:
        if Throttled.refusals > 0:
            Throttled.refusals -= 1
            raise BackendError("still failed after 4 tries (429): too many requests; try again later")
        return (yield from super().decode(trace, tools))


class Curious(Steady):
    """Answers with what the question tells: B where it holds a person's reasoning, else what is wrong."""

    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Generator[str, None, Continuation]:
        knows = "saw something" in trace.question
        text = f"<think>hm</think><answer>{'knows' if knows else 'guesses'}</answer>"
        yield text
        return Continuation(text, "tag", Cost(10, 10))


class Well(Steady):
    """Answers rightly in words that are much like the person's, after a look at every other question; copies them at q002, and guesses at q004."""

    in_words = False

    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Generator[str, None, Continuation]:
        sample = trace.id.partition("#")[0]
        colour = trace.choices[int(sample[1:]) % 3] if sample != "q004" else "brown"
        answer = "ABC"[int(sample[1:]) % 3] if sample != "q004" and not self.in_words else colour
        said = f"Looked at {sample}: the picture shows something {colour}, I saw it."
        if sample == "q002":
            said = f"I looked at {sample} and saw something {colour}."
        looks = int(sample[1:]) % 2 == 1 and not trace.steps
        text = "<think>I looked, and should look again.<retrieve>something</retrieve>" if looks else f"{said}</think><answer>{answer}</answer>"
        if not looks and not trace.steps:
            text = f"<think>{text}"
        yield text
        return Continuation(text, "tag", Cost(10, 10, seconds={"decode": 0.5}))


class WellInWords(Well):
    """Names the choice by its text, which the source's own rule does not read: it is asked again, and as right."""

    in_words = True
