"""The official client against the server: questions, streams, uploads and errors."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from served import Running, until
from serving_fakes import LOOK

REASONING = "Where is it? I write `<answer>` only later.<retrieve> the star </retrieve>There it is <on the left>."
CHOICES = {"act2see": {"choices": ["red", "blue"]}}


@pytest.fixture(scope="module")
def client(running: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=running.url, api_key="none", max_retries=0, timeout=20) as found:
        yield found


def asked(client: openai.OpenAI, question: str = "Which colour?", video: Any = None, **more: Any) -> Any:
    part = video or {"type": "video_url", "video_url": {"url": "clip.mp4"}}
    messages: Any = [{"role": "user", "content": [part, {"type": "text", "text": question}]}]
    return client.chat.completions.create(model="held", messages=messages, **{"extra_body": CHOICES, **more})


def test_an_answer_carries_its_reasoning_and_its_evidence(client: openai.OpenAI, running: Running) -> None:
    found = asked(client, temperature=0.3)
    (choice,) = found.choices
    assert (choice.message.content, choice.finish_reason) == ("red", "stop")
    assert choice.message.reasoning_content == REASONING
    assert (found.usage.prompt_tokens, found.usage.prompt_tokens_details.cached_tokens) == (20, 10)
    evidence = found.act2see
    assert [step["type"] for step in evidence["steps"]] == ["thought", "retrieve", "observation", "thought", "answer"]
    assert evidence["steps"][0]["text"] + "<retrieve> the star </retrieve>" == LOOK
    (brought,) = evidence["steps"][2]["frames"]
    assert (brought["seconds"], brought["score"], brought["imagined"]) == (1.0, 0.75, False)
    assert brought["sha256"] == evidence["frames"][1]["sha256"]  # the picture at one second is the second initial frame
    assert [frame["seconds"] for frame in evidence["frames"]] == [0.0, 1.0]
    assert (evidence["choice"], evidence["finish"], evidence["looks"], evidence["video"]) == (0, "answer", 1, "clip.mp4")
    assert evidence["cost"]["tokens_in"] == 20
    assert evidence["ignored"] == ["temperature"]
    assert str(running.root) not in json.dumps(evidence)


def test_a_stream_says_the_same_piece_by_piece(client: openai.OpenAI) -> None:
    whole, chunks = asked(client), list(asked(client, stream=True, stream_options={"include_usage": True}))
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    pieces = [piece for delta in deltas if (piece := getattr(delta, "reasoning_content", None))]
    assert "".join(pieces) == whole.choices[0].message.reasoning_content
    assert len(pieces) > 10
    assert "".join(delta.content or "" for delta in deltas) == "red"
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens
    assert len({chunk.id for chunk in chunks}) == 1
    steps = [chunk.act2see["step"] for chunk in chunks if "step" in (getattr(chunk, "act2see", None) or {})]
    assert [step["type"] for step in steps] == ["retrieve", "observation"]
    (evidence,) = [found for chunk in chunks if (found := getattr(chunk, "act2see", None)) and "steps" in found]
    assert evidence["steps"] == whole.act2see["steps"]


def test_an_open_question_is_answered_in_the_models_words(client: openai.OpenAI) -> None:
    found = asked(client, "An open one", extra_body={"act2see": {"max_looks": 0}})
    assert (found.choices[0].message.content, found.act2see["choice"], found.act2see["looks"]) == ("a red star", None, 0)


def test_an_upload_is_asked_about_until_it_is_deleted(client: openai.OpenAI, running: Running) -> None:
    uploaded = client.files.create(file=("../../<b>own.mp4", (running.root / "clip.mp4").read_bytes()), purpose="user_data")
    assert uploaded.bytes == (running.root / "clip.mp4").stat().st_size
    for part in ({"type": "file", "file": {"file_id": uploaded.id}}, {"type": "video_url", "video_url": {"url": uploaded.id}}):
        assert asked(client, video=part).act2see["video"] == uploaded.id
    assert client.files.retrieve(uploaded.id).filename == uploaded.filename
    assert running.temporary == [uploaded.id]
    assert client.files.delete(uploaded.id).deleted
    assert running.temporary == []
    with pytest.raises(openai.NotFoundError, match="no such file"):
        asked(client, video={"type": "file", "file": {"file_id": uploaded.id}})


def test_a_video_in_the_request_is_deleted_with_its_answer(client: openai.OpenAI, running: Running) -> None:
    url = "data:video/mp4;base64," + base64.b64encode((running.root / "clip.mp4").read_bytes()).decode()
    assert asked(client, video={"type": "video_url", "video_url": {"url": url}}).choices[0].message.content == "red"
    until(lambda: running.temporary == [])


def test_the_last_question_is_asked_about_the_last_video(client: openai.OpenAI) -> None:
    messages: Any = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "video_url", "video_url": {"url": "more/second.mp4"}}, {"type": "text", "text": "crash"}]},
        {"role": "assistant", "content": "red"},
        {"role": "user", "content": "And now?"},
    ]
    found: Any = client.chat.completions.create(model="held", messages=messages, extra_body=CHOICES)
    assert (found.act2see["video"], found.act2see["ignored"]) == ("more/second.mp4", ["earlier messages"])


def test_the_model_is_listed_and_another_one_is_unknown(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["held"]
    assert client.models.retrieve("held").owned_by == "act2see"
    with pytest.raises(openai.NotFoundError, match="no model 'gpt-4o'; this server has 'held'"):
        client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Why?"}], extra_body={"messages": [_user("clip.mp4")]})


def _user(url: str) -> dict[str, object]:
    return {"role": "user", "content": [{"type": "video_url", "video_url": {"url": url}}, {"type": "text", "text": "Why?"}]}


def test_a_crash_of_the_model_is_one_error_and_the_next_question_is_answered(client: openai.OpenAI) -> None:
    for stream in (False, True):
        with pytest.raises(openai.InternalServerError) as crashed:
            asked(client, "crash", stream=stream)
        assert crashed.value.status_code == 500
        assert "secret" not in str(crashed.value)
        with pytest.raises(openai.InternalServerError, match="connection refused") as refused:
            asked(client, "gone", stream=stream)
        assert refused.value.status_code == 502
    assert asked(client).choices[0].message.content == "red"
