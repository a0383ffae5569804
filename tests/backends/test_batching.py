"""Several conversations in one forward pass: the texts of one alone, whoever else is in the batch, and failures that stay in their row."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import act2see
from act2see.backends.batching import DecodingBatch, Row
from act2see.backends.drafts import Drafts
from act2see.backends.huggingface import BatchedBackend, HuggingFaceBackend, HuggingFaceSettings
from act2see.core import decoding
from act2see.core.errors import Act2SeeError, InternalError
from act2see.core.interfaces import Continuation, batched, is_concurrent
from act2see.core.trace import Frame, Observation, Retrieve, Step, Thought, Trace

RANDOM = np.random.default_rng(5)
WORDS = ("What", "colour", "is", "the", "star", "after", "circle", "and", "then")


def picture() -> Image.Image:
    return Image.fromarray(RANDOM.integers(0, 256, (64, 64, 3), dtype=np.uint8))


def conversation(number: int) -> Trace:
    """One of its own length, so that rows join and leave at different times."""
    frames = tuple(Frame(picture(), float(at)) for at in range(1 + number % 3))
    return Trace(f"t{number}", "clip.mp4", " ".join(WORDS[: 2 + number % 7]), frames, ("red", "blue"))


def looked(trace: Trace, said: str) -> Trace:
    """The same conversation once a frame was brought."""
    steps: list[Step] = [Thought(said), Retrieve(" it "), Observation(frames=(trace.frames[0],))]
    return Trace(trace.id, trace.video, trace.question, trace.frames, trace.choices, steps=steps)


def settings(model: Path, temperature: float = 0.0) -> HuggingFaceSettings:
    # Without top-k the shares of a random model are flat: any mistake in a row's logits or generator shows in its text.
    return HuggingFaceSettings(str(model), device="cpu", temperature=temperature, top_k=0, max_tokens=20, seed=3)


def ask(backend: Any, trace: Trace) -> list[Continuation]:
    """A first continuation, and a second one after a look."""
    first = decoding.result_of(backend.decode(trace, ("retrieve",)))
    return [first, decoding.result_of(backend.decode(looked(trace, first.text), ("retrieve",)))]


def texts(found: list[Continuation]) -> list[tuple[str, str, int, int]]:
    return [(one.text, one.stopped, one.cost.tokens_in, one.cost.tokens_out) for one in found]


@pytest.fixture(scope="module")
def embedded() -> Path:
    """A trained model: a random one repeats one word."""
    return Path(act2see.__file__).parent / "micro" / "vlm"


@pytest.fixture(scope="module")
def traces() -> list[Trace]:
    return [conversation(number) for number in range(9)]


@pytest.mark.parametrize("temperature", [0.0, 2.0])
@pytest.mark.parametrize("rows", [4, 16])
def test_texts_do_not_depend_on_the_number_of_rows(embedded: Path, traces: list[Trace], rows: int, temperature: float) -> None:
    alone = HuggingFaceBackend.load(settings(embedded, temperature))
    expected = [texts(ask(alone, trace)) for trace in traces]
    assert len({one[0][0] for one in expected}) > 1
    together = batched(alone, rows)
    assert is_concurrent(together)
    with ThreadPoolExecutor(rows) as pool:
        found = list(pool.map(lambda trace: ask(together, trace), traces))
    assert [texts(one) for one in found] == expected


class Guesses(Drafts):
    """Drafts of what the texts will be, every third token wrong."""

    def __init__(self, sequences: list[tuple[int, ...]]) -> None:
        super().__init__()
        self.sequences = sequences

    def after(self, ids: Sequence[int]) -> list[int]:
        known = next((one for one in self.sequences if one[: len(ids)] == tuple(ids)), ())
        return [token + (place % 3 == 2) for place, token in enumerate(known)][len(ids) : len(ids) + 4]


@pytest.mark.parametrize("temperature", [0.0, 2.0])
def test_drafted_tokens_save_passes_and_change_no_text(embedded: Path, traces: list[Trace], temperature: float) -> None:
    alone = HuggingFaceBackend.load(settings(embedded, temperature))
    expected = [ask(alone, trace) for trace in traces[:4]]
    steps = []  # of all conversations: passes would depend on which of them run at the same time
    for drafts in (Guesses([]), Guesses([alone.encoder.words(one.text) for found in expected for one in found])):
        backend = alone.batched(4)
        assert isinstance(backend, BatchedBackend)
        backend._batch._drafts = drafts
        with faulty(alone, lambda given: None) as guarded:
            found = together(backend, traces[:4])
        assert [one if isinstance(one, Act2SeeError) else texts(one) for one in found] == [texts(one) for one in expected]
        steps.append(sum(one.rows for one in guarded.passes if not one.is_prefill))
    assert 0 < steps[1] < 0.7 * steps[0]


def test_a_conversation_that_comes_back_is_not_prefilled_again(embedded: Path, traces: list[Trace]) -> None:
    together = batched(HuggingFaceBackend.load(settings(embedded)), 2)
    first, second = ask(together, traces[2])
    assert second.cost.tokens_reused >= first.cost.tokens_in


def test_one_conversation_at_once_needs_no_batch(embedded: Path) -> None:
    backend = HuggingFaceBackend.load(settings(embedded))
    assert batched(backend, 1) is backend


# Failures


@dataclass(frozen=True)
class Pass:
    """What a forward pass is given."""

    rows: int
    ids: torch.Tensor
    is_prefill: bool


class Guarded:
    """The model's forward pass, with a fault, which is called before each pass."""

    def __init__(self, backend: HuggingFaceBackend, fault: Callable[[Pass], None]) -> None:
        self.forward, self.fault, self.passes = backend.model.forward, fault, [Pass(0, torch.zeros(0), is_prefill=True)]

    def __call__(self, **inputs: Any) -> Any:
        rows = inputs.get("row_ends")
        self.passes.append(Pass(1 if rows is None else len(rows), inputs["input_ids"], is_prefill=rows is None))
        self.fault(self.passes[-1])
        return self.forward(**inputs)


@contextmanager
def faulty(backend: HuggingFaceBackend, fault: Callable[[Pass], None]) -> Iterator[Guarded]:
    guarded = Guarded(backend, fault)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend.model, "forward", guarded)
        yield guarded


def together(backend: HuggingFaceBackend | BatchedBackend, traces: list[Trace]) -> list[list[Continuation] | Act2SeeError]:
    """All at once: none begins before all are there."""
    barrier = threading.Barrier(len(traces))

    def one(trace: Trace) -> list[Continuation] | Act2SeeError:
        barrier.wait()
        try:
            return ask(backend, trace)
        except Act2SeeError as error:
            return error

    with ThreadPoolExecutor(len(traces)) as pool:
        return list(pool.map(one, traces))


@pytest.mark.parametrize("temperature", [0.0, 2.0])
@pytest.mark.parametrize("most", [1, 2, 5])
def test_out_of_memory_halves_the_batch_and_changes_no_text(
    embedded: Path, traces: list[Trace], most: int, temperature: float, caplog: pytest.LogCaptureFixture
) -> None:
    alone = HuggingFaceBackend.load(settings(embedded, temperature))
    expected = [texts(ask(alone, trace)) for trace in traces]

    def fault(given: Pass) -> None:
        if given.rows > most:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with faulty(alone, fault) as guarded, caplog.at_level(logging.WARNING, logger="act2see"):
        found = together(alone.batched(9), traces)
    assert [one if isinstance(one, Act2SeeError) else texts(one) for one in found] == expected
    assert max(one.rows for one in guarded.passes) > most
    assert "out of memory with" in caplog.text
    assert all(one.rows <= most for one in guarded.passes[-10:])


def test_out_of_memory_in_a_prefill_waits_for_room(embedded: Path, traces: list[Trace]) -> None:
    alone = HuggingFaceBackend.load(settings(embedded))
    expected = [texts(ask(alone, trace)) for trace in traces]
    failures = iter([False, False, True, False, True])

    def fault(given: Pass) -> None:
        if given.is_prefill and next(failures, False):
            raise torch.OutOfMemoryError("CUDA out of memory")

    with faulty(alone, fault):
        found = together(alone.batched(9), traces)
    assert next(failures, None) is None
    assert [one if isinstance(one, Act2SeeError) else texts(one) for one in found] == expected


def test_what_does_not_fit_alone_fails_alone(embedded: Path, traces: list[Trace]) -> None:
    alone = HuggingFaceBackend.load(settings(embedded))

    def fault(given: Pass) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    backend = alone.batched(4)
    with faulty(alone, fault), pytest.raises(InternalError, match="out of memory with one conversation"):
        ask(backend, traces[0])
    assert texts(ask(backend, traces[1])) == texts(ask(alone, traces[1]))


def test_a_row_that_fails_is_its_own_question_only(embedded: Path, traces: list[Trace], monkeypatch: pytest.MonkeyPatch) -> None:
    alone = HuggingFaceBackend.load(settings(embedded))
    expected = [texts(ask(alone, trace)) for trace in traces]
    sampler = alone._sampler

    def draws(trace: Trace) -> Callable[[torch.Tensor], int]:
        draw, left = sampler(trace), iter(range(5))

        def failing(logits: torch.Tensor) -> int:
            if trace.id == "t4" and next(left, None) is None:
                raise ValueError("the row's own")
            return draw(logits)

        return failing

    monkeypatch.setattr(alone, "_sampler", draws)
    found = together(alone.batched(9), traces)
    failed = found.pop(4)
    assert isinstance(failed, InternalError)
    assert "the row's own" in str(failed)
    expected.pop(4)
    assert [one if isinstance(one, Act2SeeError) else texts(one) for one in found] == expected


def test_a_forward_pass_that_one_row_breaks_goes_on_without_it(embedded: Path, traces: list[Trace]) -> None:
    alone = HuggingFaceBackend.load(settings(embedded, 2.0))
    expected = [texts(ask(alone, trace)) for trace in traces]
    hit = next(token for token in alone.encoder.words(expected[3][0][0])[2:] if expected[3][0][0])

    def fault(given: Pass) -> None:
        if not given.is_prefill and (given.ids == hit).any():
            raise ValueError("a bad token")

    with faulty(alone, fault):
        found = together(alone.batched(9), traces)
    failed = [number for number, one in enumerate(found) if isinstance(one, Act2SeeError)]
    assert failed
    for number, one in enumerate(found):
        if not isinstance(one, Act2SeeError):
            assert texts(one) == expected[number]
    assert len(failed) < len(traces)


def test_a_fault_of_the_batch_itself_leaves_nobody_waiting(embedded: Path, traces: list[Trace], monkeypatch: pytest.MonkeyPatch) -> None:
    backend = batched(HuggingFaceBackend.load(settings(embedded)), 3)
    assert isinstance(backend, BatchedBackend)

    def broken(self: DecodingBatch, number: int) -> None:
        raise RuntimeError("a slot was lost")

    with monkeypatch.context() as patch:
        patch.setattr(DecodingBatch, "_leave", broken)
        found = together(backend, traces[:3])
        assert [type(one) for one in found] == [InternalError] * 3
    assert not any(isinstance(one, Act2SeeError) for one in together(backend, traces[:3]))  # the next ones are decoded


class Interrupted(threading.Event):
    """Ctrl-C in the thread that waits for a row, once the row is at work."""

    def __init__(self) -> None:
        super().__init__()
        self.at_work = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.at_work.wait()
        raise KeyboardInterrupt


def test_an_interrupted_conversation_makes_room_for_the_others(embedded: Path, traces: list[Trace]) -> None:
    alone = HuggingFaceBackend.load(settings(embedded))
    expected = texts(ask(alone, traces[1]))
    backend = BatchedBackend(alone, 2)
    finished = Interrupted()
    row = Row("t0", alone._pieces(traces[0], ()), alone._decoding(traces[0]), finished=finished)
    with faulty(alone, lambda given: finished.at_work.set()), pytest.raises(KeyboardInterrupt):
        backend._batch.run(row)
    assert texts(ask(backend, traces[1])) == expected
    assert row not in backend._batch._active
