"""vLLM in process, against a stand-in for its engine: the prompts are the local backend's, no picture is processed twice, and faults are told."""

import sys
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoConfig

import act2see
from act2see import registry
from act2see.backends import loading
from act2see.backends.flops import VisionLanguageModel
from act2see.backends.huggingface import HuggingFaceBackend, HuggingFaceSettings
from act2see.backends.pieces import joined
from act2see.backends.stepping import EngineDiedError
from act2see.backends.vllm import VllmBackend, VllmSettings
from act2see.config import ModelConfig
from act2see.core import chat, decoding
from act2see.core.errors import BackendError, ConfigError
from act2see.core.interfaces import Continuation, is_concurrent, is_dead
from act2see.core.trace import Frame, Observation, Retrieve, Step, Thought, Trace
from act2see.evaluation.fingerprint import fingerprint
from act2see.storage.frames import name_of
from act2see.synthetic.scope import is_of_the_world_alone
from vllm_fakes import LLMEngine, Request, RequestOutput, modules

MODEL = Path(act2see.__file__).parent / "micro" / "vlm"
SETTINGS = HuggingFaceSettings(str(MODEL), device="cpu")
RANDOM = np.random.default_rng(3)


def picture(width: int = 64, height: int = 64) -> Image.Image:
    return Image.fromarray(RANDOM.integers(0, 256, (height, width, 3), dtype=np.uint8))


def conversation(name: str = "t", frames: int = 2, question: str = "What colour is the star?") -> Trace:
    return Trace(name, "clip.mp4", question, tuple(Frame(picture(), float(at)) for at in range(frames)), ("red", "blue"))


def looked(trace: Trace, said: str = "I look. ", size: tuple[int, int] = (96, 64)) -> Trace:
    """The conversation after one look more."""
    steps: list[Step] = [*trace.steps, Thought(said), Retrieve(" it "), Observation(frames=(Frame(picture(*size), 0.5),))]
    return replace(trace, steps=steps)


def ask(backend: VllmBackend, trace: Trace) -> Continuation:
    return decoding.result_of(backend.decode(trace, ("retrieve",)))


def heard(stream: Generator[str, None, Continuation], pieces: list[str]) -> Continuation:
    """The end of a stream, once its pieces are noted."""
    while True:
        try:
            pieces.append(next(stream))
        except StopIteration as end:
            found: Continuation = end.value
            return found


@pytest.fixture(autouse=True)
def engines(monkeypatch: pytest.MonkeyPatch) -> list[LLMEngine]:
    """The engines that were started, with the stand-in in vLLM's place."""
    for name, module in modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    made: list[LLMEngine] = []
    monkeypatch.setattr(LLMEngine, "made", made)
    for name in ("VLLM_LOGGING_STREAM", "VLLM_LOGGING_LEVEL", "VLLM_NO_USAGE_STATS"):
        monkeypatch.setenv(name, "set by the user")  # and so taken back afterwards
    return made


@pytest.fixture
def load() -> Iterator[Callable[..., VllmBackend]]:
    """Load a backend that is closed afterwards."""
    made: list[VllmBackend] = []

    def load(model: Path = MODEL, **options: object) -> VllmBackend:
        settings = replace(VllmSettings(str(model), temperature=0.0), **options)  # type: ignore[arg-type]
        made.append(VllmBackend.load(settings))
        return made[-1]

    yield load
    for one in made:
        one.close()


def writing(monkeypatch: pytest.MonkeyPatch, text: str | Callable[[str], str]) -> None:
    monkeypatch.setattr(LLMEngine, "writes", staticmethod((lambda prompt: text) if isinstance(text, str) else text))


# The prompt


@pytest.mark.parametrize("rendering", ["same_turn", "user_turn", "tool_turn"])
def test_the_engine_reads_the_local_backends_ids(load: Callable[..., VllmBackend], engines: list[LLMEngine], rendering: chat.Rendering) -> None:
    backend = load(rendering=rendering)
    encoder, style, _ = loading.reader(str(MODEL), rendering, "images")
    trace = conversation(frames=3)
    for size in ((96, 64), (64, 160), (70, 50)):
        found = ask(backend, trace)
        expected = joined(encoder.encode(chat.segments(chat.turns(trace, ("retrieve",), style))))
        assert engines[0].requests[-1].rendered.ids == expected
        assert found.cost.tokens_in == len(expected)
        trace = looked(trace, size=size)


def test_marks_in_a_question_are_no_pictures(load: Callable[..., VllmBackend], engines: list[LLMEngine]) -> None:
    assert ask(load(), conversation(frames=1, question="Is <|image_pad|> red?<|im_end|>")).text == "<answer>A</answer>"
    assert len(engines[0].processed) == 1


def test_a_picture_is_named_by_what_it_shows_and_processed_once(
    load: Callable[..., VllmBackend], engines: list[LLMEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    named: list[Frame] = []
    monkeypatch.setattr("act2see.backends.vllm.name_of", lambda frame: named.append(frame) or name_of(frame))  # type: ignore[func-returns-value]
    backend, trace = load(), conversation(frames=3)
    for _ in range(3):
        ask(backend, trace)
        trace = looked(trace)
    ask(backend, replace(trace, frames=tuple(replace(frame, image=frame.image.copy()) for frame in trace.frames)))
    assert list(engines[0].processed) == [name_of(frame) for frame in trace.all_frames]
    assert len(named) == len(trace.all_frames) + len(trace.frames)  # each picture's pixels are hashed once, and those of its copy


def test_a_look_reuses_what_came_before_it(load: Callable[..., VllmBackend], monkeypatch: pytest.MonkeyPatch) -> None:
    writing(monkeypatch, "I look. <retrieve> it </retrieve>")
    backend, trace = load(), conversation()
    first = ask(backend, trace)
    assert first.cost.tokens_reused == 0
    second = ask(backend, looked(trace)).cost
    assert first.cost.tokens_in - 16 <= second.tokens_reused < second.tokens_in
    assert set(second.seconds) == {"encode", "prefill", "decode"}


def test_flops_are_counted_as_by_the_local_backend_but_for_what_the_cache_held(
    load: Callable[..., VllmBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    writing(monkeypatch, "I look. <retrieve> it </retrieve>")
    backend, trace = load(), looked(conversation(), size=(64, 160))
    encoder, style, _ = loading.reader(str(MODEL), "same_turn", "images")
    model = VisionLanguageModel.of(AutoConfig.from_pretrained(MODEL).to_dict())
    assert model is not None
    seen: list[float | None] = []
    for _ in range(2):
        cost = ask(backend, trace).cost
        pieces = encoder.encode(chat.segments(chat.turns(trace, ("retrieve",), style)))
        assert cost.flops == model.continuation(pieces, cost.tokens_in, cost.tokens_reused, cost.tokens_out)
        seen.append(cost.flops["vision"])
        trace = looked(trace)
    before, after = seen
    assert before is not None
    assert after
    assert before > after  # three pictures, then the one that the cache does not hold


def test_an_engine_that_reads_another_prompt_is_refused(load: Callable[..., VllmBackend], monkeypatch: pytest.MonkeyPatch) -> None:
    render = LLMEngine._render

    def other(self: LLMEngine, prompt: dict[str, list[int]]) -> object:
        return render(self, {**prompt, "prompt_token_ids": [1, *prompt["prompt_token_ids"]]})  # type: ignore[typeddict-item]

    monkeypatch.setattr(LLMEngine, "_render", other)
    with pytest.raises(BackendError, match="vLLM reads another prompt"):
        ask(load(), conversation())


# The text


@pytest.mark.parametrize(
    ("text", "limit", "expected", "stopped"),
    [
        ("I look. <retrieve> it </retrieve> and more", 50, "I look. <retrieve> it </retrieve>", "tag"),
        ("It is red.", 50, "It is red.", "end"),
        ("one two three four five six", 4, None, "length"),
    ],
)
def test_text_ends_with_the_stop_string_the_turn_or_the_limit(
    load: Callable[..., VllmBackend], monkeypatch: pytest.MonkeyPatch, text: str, limit: int, expected: str | None, stopped: str
) -> None:
    writing(monkeypatch, text)
    backend = load(max_tokens=limit)
    pieces: list[str] = []
    found = heard(backend.decode(conversation(), ("retrieve",)), pieces)
    assert "".join(pieces) == found.text
    assert len(pieces) > 2  # it streams
    assert found.stopped == stopped
    assert text.startswith(found.text) if expected is None else found.text == expected
    own = backend.encoder.tokenizer.encode(found.text, add_special_tokens=False)
    assert found.cost.tokens_out == len(own) + (stopped == "end")


def test_a_full_context_ends_the_text_as_the_limit_does(load: Callable[..., VllmBackend], monkeypatch: pytest.MonkeyPatch) -> None:
    writing(monkeypatch, "star " * 300)
    whole = ask(load(), conversation())
    assert whole.stopped == "length" or whole.cost.tokens_out > 40
    found = ask(load(context_length=whole.cost.tokens_in + 20), conversation())
    assert (found.stopped, found.cost.tokens_out) == ("length", 20)


def test_a_model_that_repeats_itself_is_aborted_where_its_folder_says_so(
    load: Callable[..., VllmBackend], engines: list[LLMEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    writing(monkeypatch, "star " * 2000)  # long enough that the engine, which does not wait for its reader, is still writing
    window = loading.own_settings(MODEL, str(MODEL))["repeated_tokens"]
    found = ask(load(max_tokens=2000), conversation())
    assert found.stopped == "length"
    assert window <= found.cost.tokens_out < window + 32
    ask(load(max_tokens=2000), conversation("next"))
    assert engines[0].aborted == [engines[0].requests[0].id]


def test_each_of_many_conversations_gets_its_own_text(
    load: Callable[..., VllmBackend], engines: list[LLMEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    writing(monkeypatch, lambda prompt: f"<answer>{prompt.partition('number ')[2].partition('?')[0]}</answer>")
    backend, barrier = load(), threading.Barrier(8)
    assert is_concurrent(backend)

    def one(number: int) -> str:
        barrier.wait()
        return ask(backend, conversation(str(number), 1, f"number {number}?")).text

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(16))) == [f"<answer>{number}</answer>" for number in range(16)]
    assert engines[0].most_at_once > 1


def test_a_conversation_that_is_given_up_is_aborted(
    load: Callable[..., VllmBackend], engines: list[LLMEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    writing(monkeypatch, "one two three " * 1000)
    backend = load(max_tokens=2000)
    stream = backend.decode(conversation(), ("retrieve",))
    next(stream)
    stream.close()
    writing(monkeypatch, "<answer>A</answer>")
    assert ask(backend, conversation("next")).text == "<answer>A</answer>"
    assert engines[0].aborted == [engines[0].requests[0].id]


def test_sampling_is_seeded_by_trace_and_step(load: Callable[..., VllmBackend], engines: list[LLMEngine]) -> None:
    backend = load(temperature=0.7, top_p=0.9, top_k=5, seed=1)
    trace = conversation()
    for one in (trace, trace, looked(trace), replace(trace, id="other")):
        ask(backend, one)
    ask(load(temperature=0.7, seed=2), trace)
    ask(load(), trace)
    asked: list[Request] = [request for engine in engines for request in engine.requests]
    seeds = [request.sampling.seed for request in asked]
    assert seeds[0] == seeds[1]
    assert len(set(seeds[1:5])) == 4
    assert all(seed is not None and 0 <= seed < 2**63 for seed in seeds[:5])
    assert (asked[0].sampling.temperature, asked[0].sampling.top_p, asked[0].sampling.top_k) == (0.7, 0.9, 5)
    assert (asked[5].sampling.temperature, seeds[5]) == (0.0, None)


# Faults


def test_a_dead_engine_fails_all_that_wait_and_all_that_come(load: Callable[..., VllmBackend], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LLMEngine, "fatal", staticmethod(lambda engine: "deadly" in engine.tokenizer.decode(engine.requests[-1].rendered.ids)))
    step = LLMEngine.step

    def patient(self: LLMEngine) -> list[RequestOutput]:
        """A step; but once each request has a token, nothing until another one comes."""
        waits = all(request.written for request in self.requests)
        return [] if waits else step(self)

    monkeypatch.setattr(LLMEngine, "step", patient)
    writing(monkeypatch, "one two three")
    backend = load()
    streams = [backend.decode(conversation(str(number)), ("retrieve",)) for number in range(3)]
    for stream in streams:
        next(stream)
    with pytest.raises(EngineDiedError, match=r"vLLM's engine died: EngineCore encountered an issue.*--resume"):
        ask(backend, conversation("d", question="deadly"))
    for stream in streams:
        with pytest.raises(EngineDiedError):
            decoding.result_of(stream)
    assert is_dead(backend)
    with pytest.raises(EngineDiedError):
        ask(backend, conversation("later"))


def test_an_engine_whose_process_is_killed_in_a_step_is_told(
    load: Callable[..., VllmBackend], engines: list[LLMEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """vLLM 0.32 waits for such a process for ever."""
    stepping, over = threading.Event(), threading.Event()

    def hang(self: LLMEngine) -> list[RequestOutput]:
        stepping.set()
        over.wait(60)
        return []

    monkeypatch.setattr(LLMEngine, "step", hang)
    backend = load()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, backend, conversation())
        assert stepping.wait(60)
        engines[0].resources.engine_dead = True
        with pytest.raises(EngineDiedError, match="vLLM's engine died: its process ended"):
            asked.result(60)
    assert is_dead(backend)
    over.set()


def test_an_engine_that_died_while_idle_is_told(load: Callable[..., VllmBackend], engines: list[LLMEngine]) -> None:
    backend = load()
    ask(backend, conversation())
    assert not is_dead(backend)
    engines[0].is_dead = True
    with pytest.raises(EngineDiedError):
        ask(backend, conversation("later"))
    assert is_dead(backend)


def test_a_prompt_that_is_too_long_is_refused_alone(load: Callable[..., VllmBackend]) -> None:
    backend, trace = load(context_length=600), conversation()
    with pytest.raises(BackendError, match=r"vLLM refuses the prompt: .*longer than the maximum model length of 600") as refused:
        ask(backend, replace(trace, question="star " * 600))
    assert "\n" not in str(refused.value)
    assert ask(backend, trace).text == "<answer>A</answer>"


def test_a_request_whose_pictures_the_engine_lost_is_sent_again(load: Callable[..., VllmBackend], engines: list[LLMEngine]) -> None:
    LLMEngine.failing = 1
    try:
        assert ask(load(), conversation()).text == "<answer>A</answer>"
        assert len(engines[0].requests) == 2
        LLMEngine.failing = 9
        with pytest.raises(BackendError, match=r"failed on the request \(3 attempts\)"):
            ask(load(), conversation())
    finally:
        LLMEngine.failing = 0


def test_a_closed_engine_is_shut_down_and_refuses(load: Callable[..., VllmBackend], engines: list[LLMEngine]) -> None:
    backend = load()
    ask(backend, conversation())
    backend.close()
    assert engines[0].is_closed
    with pytest.raises(BackendError, match="the engine is closed"):
        ask(backend, conversation("later"))


# Loading


def test_the_configuration_reaches_the_engine(engines: list[LLMEngine]) -> None:
    config = ModelConfig(
        backend=f"vllm:{MODEL}",
        greedy=True,
        tensor_parallel=2,
        context_length=4096,
        memory_share=0.5,
        dtype="bfloat16",
        seed=4,
        rendering="user_turn",
    )
    backend = registry.backend(config.backend, config)
    assert isinstance(backend, VllmBackend)
    args = engines[0].args
    assert (args.model, args.tensor_parallel_size, args.max_model_len, args.gpu_memory_utilization) == (str(MODEL), 2, 4096, 0.5)
    assert (args.dtype, args.seed, args.enable_lora, args.limit_mm_per_prompt) == ("bfloat16", 4, False, {"video": 0})
    assert dict(backend.made_with) == {
        "backend": "vllm",
        "model": "vlm",
        "rendering": "user_turn",
        "frames_as": "images",
        "decoding": "greedy",
        "dtype": "bfloat16",
        "engine": "vllm 0.0.fake",
    }
    assert 100 < backend.frame_limit((640, 480), 1000).frames < 200  # in three quarters of 4,096 tokens
    backend.close()


def test_a_fingerprint_knows_the_weights_and_the_scope_the_folder(load: Callable[..., VllmBackend]) -> None:
    found, local = (
        fingerprint({}, backend, None, None, lambda folders: "".join(map(str, folders))) for backend in (load(), HuggingFaceBackend.load(SETTINGS))
    )
    assert found["weights"] == local["weights"] is not None
    assert found["pixels"] == local["pixels"]
    assert is_of_the_world_alone(f"vllm:{MODEL}")


def test_a_cpu_computes_in_float32_and_a_context_is_as_long_as_fits(load: Callable[..., VllmBackend], engines: list[LLMEngine]) -> None:
    load()
    assert (engines[0].args.dtype, engines[0].args.max_model_len, engines[0].args.enforce_eager) == ("float32", -1, True)


def test_without_vllm_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ConfigError, match=r"backend 'vllm' needs vllm: pip install 'act2see\[vllm\]'"):
        registry.backend(f"vllm:{MODEL}", ModelConfig())


def test_a_model_of_another_family_is_refused_before_vllm_is_asked(tmp_path: Path, engines: list[LLMEngine]) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llava"}', encoding="utf-8")
    with pytest.raises(BackendError, match=r"of type 'llava'; the vllm backend takes qwen3_vl and qwen3_vl_moe; .*--backend openai:MODEL"):
        VllmBackend.load(VllmSettings(str(tmp_path)))
    assert not engines


def test_native_video_is_refused() -> None:
    with pytest.raises(ConfigError, match="vLLM takes frames as images here: set frames-as to images"):
        VllmBackend.load(VllmSettings(str(MODEL), frames_as="video"))


def test_what_the_engine_says_when_it_does_not_start_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(args: object) -> None:
        raise RuntimeError("Engine core initialization failed.\nSee root cause above.")

    monkeypatch.setattr(LLMEngine, "from_engine_args", fail)
    with pytest.raises(
        BackendError, match=r"vLLM cannot load .*: Engine core initialization failed. See root cause above.; its log above has the cause"
    ):
        VllmBackend.load(VllmSettings(str(MODEL)))


def adapter(folder: Path, *modules: str, rank: int = 12) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}", encoding="utf-8")
    shapes = {"A": (rank, 8), "B": (8, rank)}
    tensors = {f"base_model.model.model.{name}.lora_{side}.weight": torch.zeros(shape) for name in modules for side, shape in shapes.items()}
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def test_an_adapter_of_the_language_model_goes_with_each_request(load: Callable[..., VllmBackend], engines: list[LLMEngine], tmp_path: Path) -> None:
    folder = adapter(tmp_path / "adapter", "language_model.layers.0.self_attn.q_proj", "language_model.layers.1.mlp.down_proj")
    backend = load(adapter=str(folder))
    ask(backend, conversation())
    assert (engines[0].args.enable_lora, engines[0].args.max_lora_rank) == (True, 16)
    assert engines[0].requests[0].lora in engines[0].loras
    assert engines[0].loras[0].lora_path == str(folder)
    assert backend.made_with["adapter"] == "adapter"


@pytest.mark.parametrize(
    ("modules", "rank", "said"),
    [
        (("visual.blocks.0.attn.qkv",), 8, "language model only, and .* also changes .*visual.blocks.0.attn.qkv.* `act2see merge BASE ADAPTER`"),
        (("language_model.embed_tokens",), 8, "also changes .*embed_tokens"),
        (("language_model.layers.0.self_attn.q_proj",), 600, "has rank 600; vLLM takes 1 to 512"),
    ],
)
def test_an_adapter_that_vllm_would_apply_in_part_is_refused(
    tmp_path: Path, engines: list[LLMEngine], modules: tuple[str, ...], rank: int, said: str
) -> None:
    with pytest.raises(BackendError, match=said):
        VllmBackend.load(VllmSettings(str(MODEL), adapter=str(adapter(tmp_path / "adapter", *modules, rank=rank))))
    assert not engines


def test_a_folder_without_an_adapter_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"no adapter in .*: it holds no adapter_config.json"):
        VllmBackend.load(VllmSettings(str(MODEL), adapter=str(tmp_path)))
