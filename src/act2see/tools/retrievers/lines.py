"""A retriever whose frames come with what is said and written around them."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from act2see.core.interfaces import FrameEncoder, IndexingRetriever, Retriever, encoder_of
from act2see.core.trace import Frame
from act2see.tools.retrievers.words import WordsRetriever
from act2see.video import Video
from act2see.video.transcript.prompting import lines_for


class RetrieverWithLines:
    """Adds the transcript's lines to each frame that another retriever finds; the model reads them with the frame."""

    def __init__(self, inner: Retriever, words: WordsRetriever) -> None:
        self.inner, self.words = inner, words

    @property
    def name(self) -> str:
        """Both names, for `Trace.made_with`."""
        return f"{self.inner.name}, with lines of {self.words.name}"

    @property
    def encoder(self) -> FrameEncoder | None:
        """The other retriever's encoder."""
        return encoder_of(self.inner)

    def index(self, video: Video) -> object:
        """Read the transcript, and build the other retriever's index, if it has one."""
        self.words.index(video)
        return self.inner.index(video) if isinstance(self.inner, IndexingRetriever) else None

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        """See `Retriever`."""
        transcript = self.words.index(video)
        return [replace(frame, lines=lines_for(frame, transcript)) for frame in self.inner.find(video, query, shown=shown, count=count)]
