"""A vision-language model as judge of generated pictures: a yes/no question about each picture."""

from dataclasses import dataclass

from PIL import Image

from act2see.core import chat, decoding
from act2see.core.errors import BackendError, ToolError
from act2see.core.flops import count
from act2see.core.interfaces import Backend, PictureCheck
from act2see.core.protocol import parse_chunk
from act2see.core.trace import Answer, Frame, Trace

CHOICES = ("yes", "no")
_MAX_DECODES = 4
"""Give up on a model that keeps writing tool calls although it has no tools."""


def question(prompt: str) -> str:
    """The question to the judge. Ours: the paper verifies no pictures. The prompt is untrusted model output: quote it and neutralise its tags."""
    return f'Does this picture show "{prompt.strip().replace("<", "(").replace(">", ")")}"?'


@dataclass(frozen=True, slots=True)
class ModelJudge:
    """Asks a backend a yes/no question about the generated picture. Costs one short answer per picture; ignores the anchor."""

    backend: Backend

    @property
    def name(self) -> str:
        """For `Trace.made_with`."""
        return f"verified by {self.backend.made_with.get('model', 'a model')}"

    def judge(self, prompt: str, anchor: Image.Image, picture: Image.Image) -> PictureCheck:
        """Pass only on a clear yes; the score `says_yes` is 1 or 0. Raises `ToolError` if the backend fails."""
        says_yes = self._answer(prompt, picture) == 0
        return PictureCheck(says_yes, {"says_yes": float(says_yes)})

    def _answer(self, prompt: str, picture: Image.Image) -> int | None:
        trace = Trace("check", "", question(prompt), (Frame(picture, None),), CHOICES)
        for _ in range(_MAX_DECODES):
            before = decoding.before(trace, self.backend)
            try:
                continuation = decoding.result_of(decoding.decode(self.backend, trace, ()))
            except BackendError as error:
                raise ToolError(f"the picture could not be checked: {error}") from error
            spent = continuation.cost.flops
            for part in spent or ("decode",):
                count(part, spent.get(part))
            steps, _ = parse_chunk(continuation.text, before, ended=continuation.stopped == "end")
            trace.steps.extend(steps)
            if steps and isinstance(steps[-1], Answer):
                return chat.chosen(steps[-1].text, CHOICES)
            if continuation.stopped != "tag":
                return None
        return None
