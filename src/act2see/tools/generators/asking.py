"""A vision-language model as the judge of generated pictures: it is shown the picture and asked whether it is what was wanted."""

from dataclasses import dataclass

from PIL import Image

from act2see.core import chat, decoding
from act2see.core.errors import BackendError, ToolError
from act2see.core.interfaces import Backend, Verdict
from act2see.core.protocol import parse_chunk
from act2see.core.trace import Answer, Frame, Trace

CHOICES = ("yes", "no")
_MAX_DECODES = 4
"""A model that writes calls, though it is told of no tool, is given up after as many."""


def question(prompt: str) -> str:
    """What the judge is asked. Ours: the paper checks no picture. The prompt is a model's: it is quoted and its tags are taken out."""
    return f'Does this picture show "{prompt.strip().replace("<", "(").replace(">", ")")}"?'


@dataclass(frozen=True, slots=True)
class ModelJudge:
    """Asks any backend a yes/no question about the generated picture. Costs one short answer a picture; the anchor is not looked at."""

    backend: Backend

    @property
    def name(self) -> str:
        """For `Trace.made_with`."""
        return f"verified by {self.backend.made_with.get('model', 'a model')}"

    def judge(self, prompt: str, anchor: Image.Image, picture: Image.Image) -> Verdict:
        """Passes on a clear yes; `says_yes` is 1 or 0. Raises `ToolError` when the model cannot be asked."""
        says_yes = self._answer(prompt, picture) == 0
        return Verdict(says_yes, {"says_yes": float(says_yes)})

    def _answer(self, prompt: str, picture: Image.Image) -> int | None:
        trace = Trace("check", "", question(prompt), (Frame(picture, None),), CHOICES)
        for _ in range(_MAX_DECODES):
            before = decoding.before(trace, self.backend)
            try:
                continuation = decoding.silently(decoding.decode(self.backend, trace, ()))
            except BackendError as error:
                raise ToolError(f"the picture could not be checked: {error}") from error
            steps, _ = parse_chunk(continuation.text, before, ended=continuation.stopped == "end")
            trace.steps.extend(steps)
            if steps and isinstance(steps[-1], Answer):
                return chat.chosen(steps[-1].text, CHOICES)
            if continuation.stopped != "tag":
                return None
        return None
