"""Text to frame with a SigLIP-class dual encoder through transformers: the frame whose match with the query is highest."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from act2see.errors import ConfigError, ToolError
from act2see.trace import Frame
from act2see.video import Video

_SAME_TIME_SECONDS = 0.02
"""Two times closer than this are the same frame: half of a 24 fps frame's length."""


@dataclass(frozen=True, slots=True)
class SiglipSettings:
    """Which encoder, and how densely it looks."""

    model: str
    """A folder, or a name on the hub, of a SigLIP or SigLIP 2 model."""
    fps: float = 3.0
    """Frames a second that are searched: 3 in the paper, denser than the 1 fps input."""
    device: str = "auto"
    dtype: str = "auto"
    batch: int = 32
    """Frames encoded at once."""


class SiglipRetriever:
    """Scores frames with sigmoid(scale × cosine + bias), as the model was trained to, and gives the best ones.

    A video's embeddings are kept in memory for the next query.
    """

    def __init__(self, settings: SiglipSettings, model: Any, tokenizer: Any, image_processor: Any) -> None:
        self.settings = settings
        self.model, self.tokenizer, self.image_processor = model, tokenizer, image_processor
        self._length = int(model.config.text_config.max_position_embeddings)
        self._embedded: dict[str, tuple[list[float], torch.Tensor]] = {}

    @classmethod
    def load(cls, settings: SiglipSettings) -> "SiglipRetriever":
        """Load the model. Raises `ConfigError` when it cannot be."""
        if settings.fps <= 0:
            raise ConfigError(f"retrieve-fps is {settings.fps:g}; it must be above 0, such as 3")
        device = settings.device if settings.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.float32 if settings.dtype == "auto" and device == "cpu" else settings.dtype
        try:
            model = AutoModel.from_pretrained(settings.model, dtype=dtype).to(device).eval()
            tokenizer = AutoTokenizer.from_pretrained(settings.model)
            processor = AutoImageProcessor.from_pretrained(settings.model, backend="pil")
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot load retriever {settings.model}: {str(error).splitlines()[0]}") from error
        if not hasattr(model, "logit_bias"):
            raise ConfigError(f"retriever {settings.model} is a {type(model).__name__}; a SigLIP or SigLIP 2 model is needed")
        return cls(settings, model, tokenizer, processor)

    @property
    def name(self) -> str:
        """The model's name and rate, for `Trace.made_with`."""
        return f"siglip:{Path(self.settings.model).name}@{self.settings.fps:g}fps"

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        """The `count` best frames at a time not in `shown`, best first; equal scores go to the earlier one. Raises `ToolError` when none is left."""
        times, _ = self._embeddings(video)
        scores = self.scores(video, query)
        free = [n for n, t in enumerate(times) if all(abs(t - other) > _SAME_TIME_SECONDS for other in shown)]
        if not free:
            raise ToolError(f"every frame at {self.settings.fps:g} fps has been shown: answer from what you have seen")
        best = sorted(free, key=lambda n: (-scores[n], n))[:count]
        found = {frame.seconds: frame for frame in video.frames_at([times[n] for n in best])}
        return [Frame(found[times[n]].image, times[n], score=scores[n]) for n in best]

    @torch.inference_mode()
    def scores(self, video: Video, query: str) -> list[float]:
        """A score in 0…1 for each of `video.times(fps)`."""
        _, images = self._embeddings(video)
        text = self.tokenizer([query], padding="max_length", truncation=True, max_length=self._length, return_tensors="pt")
        embedded = _unit(self.model.get_text_features(input_ids=text["input_ids"].to(self.model.device)).pooler_output)
        logits = images @ embedded[0] * self.model.logit_scale.exp() + self.model.logit_bias
        return [float(value) for value in torch.sigmoid(logits.float()).flatten()]

    @torch.inference_mode()
    def _embeddings(self, video: Video) -> tuple[list[float], torch.Tensor]:
        if video.digest not in self._embedded:
            frames = video.sample(self.settings.fps)
            times: list[float] = []
            parts: list[torch.Tensor] = []
            while batch := list(islice(frames, self.settings.batch)):
                times += [frame.seconds or 0.0 for frame in batch]
                made = self.image_processor(images=[frame.image for frame in batch], return_tensors="pt")
                pixels = made["pixel_values"].to(self.model.device, self.model.dtype)
                parts.append(_unit(self.model.get_image_features(pixel_values=pixels).pooler_output))
            self._embedded[video.digest] = (times, torch.cat(parts))
        return self._embedded[video.digest]


def _unit(rows: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(rows, dim=-1)
