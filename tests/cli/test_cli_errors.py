"""What goes wrong is one line on stderr: 1 for what the user can mend, 2 for wrong usage."""

from pathlib import Path

import pytest

from act2see import __version__
from cli_fakes import Act2See, Done, fakes

# Errors that the user can mend


def test_files_that_are_no_videos(act2see: Act2See, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video", encoding="utf-8")
    for name in ("nowhere.mp4", "empty.mp4", "text.mp4", "."):
        assert name in act2see("ask", name, "What colour?", *fakes("Direct")).complaint


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("",), "the question is empty"),
        (("  ",), "the question is empty"),
        (("Why?", "--choices", "one"), "1 choices: give 2 to 26"),
        (("Why?", "--choices", *(str(number) for number in range(27))), "27 choices: give 2 to 26"),
        (("Why?", "--choices", "red", "Red "), "duplicate choices"),
        (("Why?", "--choices", "red", " "), "a choice is empty"),
        (("Why?", "--backend", "hugginface:x"), "did you mean huggingface:DIR?"),
        (("Why?", "--backend", "cli_fakes:Nobody"), "cli_fakes has no class or function Nobody"),
        (("Why?", "--retriever", "sigclip"), "no retriever 'sigclip'"),
        (("Why?", "--report", "nowhere/out.html"), "folder nowhere does not exist"),
        (("Why?", "--report", "."), "it is a folder"),
        (("Why?", "--save", "a_file"), "a_file"),
        (("Why?", "--backend", "openai:m"), "give its address, as --base-url http://127.0.0.1:8000/v1"),
        (("Why?", "--backend", "openai:m", "--base-url", ""), "give its address, as --base-url http://127.0.0.1:8000/v1"),
        (("Why?", "--backend", "openai:m", "--base-url", "localhost:8000"), "the base URL does not begin with http:// or https://"),
        (("Why?", "--backend", "openai:m", "--base-url", "http://h/v1/chat/completions"), "leave that out; it must look like"),
        (("Why?", "--config", "nowhere.toml"), "cannot read the settings file nowhere.toml"),
    ],
)
def test_what_cannot_be_done_is_one_line(act2see: Act2See, clip: Path, arguments: tuple[str, ...], part: str) -> None:
    Path("a_file").touch()
    with_defaults = arguments if "--backend" in arguments else (*arguments, "--backend", "cli_fakes:Direct")
    with_defaults = with_defaults if "--retriever" in arguments else (*with_defaults, "--retriever", "none")
    assert part in act2see("ask", clip, *with_defaults).complaint


def test_a_dead_server_is_one_line_and_leaves_no_report(act2see: Act2See, clip: Path, tmp_path: Path) -> None:
    complaint = act2see("ask", clip, "What colour?", *fakes("Dead"), "--report", "out.html").complaint
    assert complaint == "act2see: no answer from the server at localhost: start it\n"
    assert not (tmp_path / "out.html").exists()


def test_a_key_is_never_printed(act2see: Act2See, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-to-be-seen")
    done = act2see(
        "ask",
        clip,
        "What?",
        "--backend",
        "openai:some-model",
        "--base-url",
        "http://127.0.0.1:9/v1",
        "--retriever",
        "none",
        "--save",
        "run",
        "--retries",
        "0",
    )
    assert "127.0.0.1:9" in done.complaint
    assert "sk-not" not in done.out + done.err
    assert all("sk-not" not in path.read_text(encoding="utf-8") for path in Path("run").rglob("*.json*"))


# Usage


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("aks",), "aks"),
        (("ask",), "VIDEO"),
        (("ask", "clip.mp4"), "QUESTION"),
        (("ask", "clip.mp4", "Why?", "more"), "more"),
        (("ask", "clip.mp4", "Why?", "--fpz", "2"), "Did you mean --fps?"),
        (("ask", "clip.mp4", "Why?", "--fps", "0"), "Must be >= 0.0001"),
        (("ask", "clip.mp4", "Why?", "--fps", "nan"), "--fps"),
        (("ask", "clip.mp4", "Why?", "--answer-seconds", "inf"), "--answer-seconds"),
        (("ask", "clip.mp4", "Why?", "--timeout-seconds", "1e300"), "--timeout-seconds"),
        (("ask", "clip.mp4", "Why?", "--answer-characters", "0"), "--answer-characters"),
        (("ask", "clip.mp4", "Why?", "--max-looks", "many"), "--max-looks"),
        (("ask", "clip.mp4", "Why?", "--dtype", "int"), "bfloat16"),
        (("completion", "cmd"), "bash"),
    ],
)
def test_usage_is_one_line_and_2(act2see: Act2See, arguments: tuple[str, ...], part: str) -> None:
    done = act2see(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("act2see: ")
    assert done.err.count("\n") == 1
    assert part in done.err


def test_version_help_template_and_completion_go_to_stdout(act2see: Act2See) -> None:
    assert act2see("--version") == Done(0, f"{__version__}\n", "")
    for words, part in (
        (("--help",), "ask"),
        (("ask", "--help"), "--max-looks"),
        (("template",), "<|im_start|>"),
        (("completion", "bash"), "complete"),
    ):
        done = act2see(*words)
        assert (done.code, done.err) == (0, "")
        assert part in done.out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_the_flags(act2see: Act2See, shell: str) -> None:
    assert "max-looks" in act2see("completion", shell).out


def test_every_argument_of_completion_is_explained(act2see: Act2See) -> None:
    assert "Shell to complete commands and flags in." in act2see("completion", "--help").out
