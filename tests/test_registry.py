"""Names become objects; every name that cannot is one line that says what can."""

import subprocess
import sys
from pathlib import Path

import pytest

from act2see import registry
from act2see.backends.openai import OpenAIBackend
from act2see.config import ModelConfig, SearchConfig
from act2see.core.errors import ConfigError
from act2see.tools.retrievers.search import SearchRetriever
from act2see.tools.retrievers.selection import Random
from tiny_encoder import Grey

PLUGIN = """
from act2see.core.interfaces import Continuation
from act2see.core.trace import Cost


class Parrot:
    made_with = {"backend": "parrot"}

    def __init__(self, config):
        self.config = config

    def decode(self, trace, tools):
        yield "<answer>hello</answer>"
        return Continuation("<answer>hello</answer>", "tag", Cost())


class Finder:
    name = "finder"

    def __init__(self, config):
        self.config = config

    def find(self, video, query, *, shown, count=1):
        return []


class HalfEncoder:
    def __init__(self, config):
        pass

    def encode_frames(self, images):
        pass


class NoBackend:
    def __init__(self, config):
        pass


class NeedsMore:
    def __init__(self, config, address):
        pass


number = 3
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "registry_plugin.py").write_text(PLUGIN, encoding="utf-8")
    (tmp_path / "registry_broken.py").write_text("import a_package_that_nobody_has\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "registry_plugin", raising=False)
    return "registry_plugin"


def test_a_third_partys_class_is_made_from_the_config(plugin: str) -> None:
    config = ModelConfig(max_looks=7)
    made = registry.backend(f"{plugin}:Parrot", config)
    assert made.made_with == {"backend": "parrot"}
    assert getattr(made, "config") is config  # noqa: B009
    found = registry.retriever(f"{plugin}:Finder", config)
    assert found is not None
    assert found.name == "finder"


def test_a_third_partys_encoder_becomes_a_retriever_as_the_config_says(tmp_path: Path) -> None:
    config = SearchConfig(retrieve_fps=2.0, select="argmax", cache=False, skip_duplicates=True)
    found = registry.retriever("tiny_encoder:Grey", config)
    assert isinstance(found, SearchRetriever)
    assert isinstance(found.encoder, Grey)
    assert found.name == "grey@2fps+argmax+skip-duplicates"
    assert found.cache is None
    kept = registry.retriever("tiny_encoder:Grey", SearchConfig())
    assert isinstance(kept, SearchRetriever)
    assert (kept.name, kept.cache is not None) == ("grey@3fps+grounding", True)


def test_a_random_choice_is_drawn_by_the_seed() -> None:
    found = registry.retriever("tiny_encoder:Grey", SearchConfig(select="random", seed=7))
    assert isinstance(found, SearchRetriever)
    assert found.select == Random(7)


def test_the_embedded_encoder_is_a_siglip() -> None:
    found = registry.encoder("micro")
    assert type(found).__name__ == "SiglipEncoder"
    assert found.encode_text("the red star").ndim == 1


def test_an_encoder_that_lacks_something_is_refused(plugin: str) -> None:
    with pytest.raises(ConfigError, match="encoder 'registry_plugin:Finder' is invalid: it has no 'encode_frames'"):
        registry.encoder(f"{plugin}:Finder")
    with pytest.raises(ConfigError, match="retriever 'registry_plugin:HalfEncoder' is invalid: it has no 'encode_text'"):
        registry.retriever(f"{plugin}:HalfEncoder", SearchConfig())


def test_none_is_no_retriever() -> None:
    assert registry.retriever("none", ModelConfig()) is None


@pytest.mark.parametrize(
    ("spec", "part"),
    [
        ("{}:Missing", "registry_plugin has no class or function Missing"),
        ("{}:number", "registry_plugin has no class or function number"),
        ("{}:NoBackend", "is invalid: it has no 'decode'"),
        ("{}:NeedsMore", "cannot be created from a ModelConfig alone"),
        ("registry_broken:X", "No module named 'a_package_that_nobody_has'"),
        ("registry_plugin.inner:X", "cannot import registry_plugin.inner"),
        ("no_such_module_at_all:X", "no package 'no_such_module_at_all' is installed"),
    ],
)
def test_a_third_party_that_is_no_backend_is_refused(plugin: str, spec: str, part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        registry.backend(spec.format(plugin), ModelConfig())
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("hugginface:x", ["no backend 'hugginface:x'", "did you mean huggingface:DIR?"]),
        ("huggingfac", ["did you mean huggingface:DIR?", "micro, huggingface:DIR, vllm:DIR, openai:MODEL, package.module:Class"]),
        ("", ["no backend ''", "allowed are micro"]),
        ("gpt 5", ["no backend 'gpt 5'"]),
        ("os.path:../x", ["no backend"]),
        ("micro:big", ["micro takes no argument"]),
        ("openai:", ["incomplete: write openai:MODEL"]),
        ("huggingface", ["incomplete: write huggingface:DIR"]),
        ("huggingface:/no/such/folder", ["no folder /no/such/folder"]),
    ],
)
def test_an_unknown_backend_is_refused_before_anything_is_loaded(spec: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        registry.check_backend(spec)
    assert all(part in str(caught.value) for part in parts)


def test_an_unknown_retriever_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no retriever 'siglp': did you mean siglip:DIR\?"):
        registry.check_retriever("siglp")


def test_folders_and_hub_names_are_accepted(tmp_path: Path) -> None:
    registry.check_backend(f"huggingface:{tmp_path}")
    registry.check_backend("huggingface:Qwen/Qwen3-VL-8B-Thinking")
    registry.check_backend("openai:Qwen/Qwen3-VL-8B-Thinking")
    for kind in ("siglip", "clip", "blip2", "embedding"):
        registry.check_retriever(f"{kind}:{tmp_path}")
        registry.check_retriever(f"{kind}:Some/model-name")


@pytest.mark.parametrize(
    ("package", "call", "message"),
    [
        ("torch", "backend('micro', how)", "backend 'micro' needs torch: pip install 'act2see[local]'"),
        ("openai", "backend('openai:some-model', how)", "backend 'openai' needs openai: pip install 'act2see[openai]'"),
        ("torch", "retriever('micro', how)", "retriever 'micro' needs torch: pip install 'act2see[local]'"),
    ],
)
def test_a_missing_extra_is_named(package: str, call: str, message: str) -> None:
    # In a process of its own: torch and transformers cannot be unloaded. None in sys.modules is how Python marks what must not be imported.
    program = f"""
import sys
sys.modules[{package!r}] = None
from act2see import registry
from act2see.config import ModelConfig
from act2see.core.errors import ConfigError
how = ModelConfig()
try:
    registry.{call}
except ConfigError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == message + "\n"


def test_what_a_server_cannot_do_is_refused() -> None:
    with pytest.raises(ConfigError, match="takes no adapter"):
        registry.backend("openai:some-model", ModelConfig(base_url="http://127.0.0.1:9/v1", adapter=Path("lora")))
    with pytest.raises(ConfigError, match="frames as images"):
        registry.backend("openai:some-model", ModelConfig(base_url="http://127.0.0.1:9/v1", frames_as="video"))


def test_a_server_is_asked_as_the_config_says() -> None:
    config = ModelConfig(base_url="http://127.0.0.1:9/v1", rendering="tool_turn", temperature=0.5, greedy=True, max_tokens=77)
    made = registry.backend("openai:some/model", config).made_with
    assert made["model"] == "some/model"
    assert made["rendering"] == "tool_turn"
    assert made["decoding"] == "greedy"  # it wins over a temperature, and no seed is sent that nobody gave
    assert made["max_tokens"] == "77"


def test_the_limits_of_an_answer_reach_the_server_and_the_generator() -> None:
    config = ModelConfig(base_url="http://127.0.0.1:9/v1", generator_url="http://127.0.0.1:9/v1", answer_seconds=60.0, answer_characters=500)
    backend = registry.backend("openai:some/model", config)
    assert isinstance(backend, OpenAIBackend)
    assert (backend.settings.answer_seconds, backend.settings.answer_characters) == (60.0, 500)
    assert backend._caller.policy.answer_seconds == 60.0


@pytest.mark.parametrize(("tools", "frames"), [("both", 125), ("both,zoom", 125), ("retrieve,clip", 104)])
def test_a_server_is_left_room_for_all_frames_of_all_looks(tools: str, frames: int) -> None:
    made = registry.backend("openai:m", ModelConfig(base_url="http://127.0.0.1:9/v1", max_looks=3, tools=tools))
    assert isinstance(made, OpenAIBackend)
    assert made.frame_limit((640, 360), 999).frames == frames


def test_tools_that_there_are_not_are_refused_from_python_too() -> None:
    with pytest.raises(ConfigError, match="tools is 'all'; Must be none, or some of both"):
        registry.loop_options(ModelConfig(tools="all"))
