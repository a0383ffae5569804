"""Several questions about one video: frames decoded once, the shared part of the prompt computed once, answers as of separate questions."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import act2see
from act2see.backends.huggingface import HuggingFaceBackend, HuggingFaceSettings
from act2see.core.trace import Answer, Observation, Retrieve, Step
from act2see.evaluation.conversation import Models
from act2see.video import Video
from cli_fakes import Finder, Halfway, Looker

CONFIG = act2see.ModelConfig()
QUESTIONS = ("What colour is the star?", "Where is the ring?", "What is it?")


@pytest.fixture
def models() -> Models:
    return Models(Looker(CONFIG), Finder(CONFIG))


def loaded(folder: Path) -> Models:
    return Models(HuggingFaceBackend.load(HuggingFaceSettings(str(folder), temperature=0, max_tokens=12)))


def test_frames_are_decoded_once(video: Video, models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    conversation = act2see.Conversation(video, CONFIG, models=models)
    first = conversation.stream("One?")
    list(first)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(Video, "sample", refuse)
    second = conversation.stream("Two?", ("blue", "red"))
    list(second)
    assert second.trace.frames is first.trace.frames
    assert second.trace.id != first.trace.id
    assert (first.result.answer, second.result.answer, second.result.choice) == ("B", "red", 1)
    assert first.trace.steps is not second.trace.steps


def test_a_stream_yields_text_and_steps_and_ends_with_the_answer(video: Video, models: Models) -> None:
    answering = act2see.stream(video, "What?", act2see.AskConfig(choices=("blue", "red")), models=models)
    text, steps = "", list[Step]()
    for event in answering:
        if isinstance(event, act2see.Delta):
            text += event.text
        else:
            assert event == answering.trace.steps[-1] or event in answering.trace.steps
            steps.append(event)
    assert "It is not here." in text
    assert [type(step) for step in steps if not isinstance(step, act2see.Thought)] == [Retrieve, Observation, Answer]
    assert answering.result.answer == "red"


def test_a_stream_that_is_closed_saves_what_it_has(video: Video, tmp_path: Path) -> None:
    models = Models(Halfway(CONFIG), Finder(CONFIG))
    with act2see.Conversation(video, CONFIG, models=models, save=tmp_path / "run").stream("What?") as answering:
        for event in answering:
            if isinstance(event, Observation):
                break
    assert answering.result.answer is None
    assert [trace.looks for trace in act2see.Run.open(tmp_path / "run").traces()] == [1]


def test_later_questions_compute_only_the_question(tiny_vlm: Path, video: Video) -> None:
    shared = loaded(tiny_vlm)
    conversation = act2see.Conversation(video, CONFIG, models=shared)
    together: list[act2see.Trace] = []
    alone: list[act2see.Trace] = []
    for question in QUESTIONS:
        for answering in (conversation.stream(question), act2see.Conversation(video, CONFIG, models=loaded(tiny_vlm)).stream(question)):
            list(answering)
            (together if len(together) == len(alone) else alone).append(answering.trace)
    assert [trace.steps for trace in together] == [trace.steps for trace in alone]
    computed = [trace.cost.tokens_in - trace.cost.tokens_reused for trace in together]
    assert all(more < computed[0] / 4 for more in computed[1:])
    assert all(trace.cost.tokens_reused == 0 for trace in alone)


@pytest.mark.parametrize("layer", [0, 1])
def test_an_interrupt_inside_a_forward_pass_leaves_no_trace_in_the_next_answer(
    tiny_vlm: Path, video: Video, layer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = loaded(tiny_vlm)
    conversation = act2see.Conversation(video, CONFIG, models=models)
    list(conversation.stream(QUESTIONS[0]))
    assert isinstance(models.backend, HuggingFaceBackend)
    with monkeypatch.context() as patch:
        # In the middle of a model's layers: some have the new tokens, others do not.
        inner = models.backend.model.model.language_model.layers[layer].mlp
        patch.setattr(inner, "forward", _interrupted(inner.forward, after=3))
        with pytest.raises(KeyboardInterrupt):
            list(conversation.stream(QUESTIONS[1]))
    after = conversation.stream(QUESTIONS[2])
    list(after)
    fresh = act2see.Conversation(video, CONFIG, models=loaded(tiny_vlm)).stream(QUESTIONS[2])
    list(fresh)
    assert after.trace.steps == fresh.trace.steps
    assert after.trace.cost.tokens_reused > 0.6 * after.trace.cost.tokens_in
    cache = models.backend._conversation.cache
    assert len({cache.get_seq_length(number) for number in range(len(cache.layers))}) == 1


def _interrupted(forward: Callable[..., torch.Tensor], after: int) -> Callable[..., torch.Tensor]:
    calls = 0

    def interrupted(*inputs: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls > after:
            raise KeyboardInterrupt
        return forward(*inputs)

    return interrupted
