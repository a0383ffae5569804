"""Help that fits a screen, and `-o KEY=VALUE` in place of flags that one benchmark or generator alone has."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from act2see.benchmarks.catalogue import CATALOGUE
from act2see.cli import SETTINGS_OF
from act2see.cli.help import COMMON
from act2see.config import EvalConfig
from cli_fakes import Act2See

MOST_FLAGS = 25
ASKED = ("--backend", "cli_fakes:Direct", "--retriever", "none")


def flags(help_text: str) -> list[str]:
    return re.findall(r"^│ +\*? *(--?[a-z][\w-]*)", help_text, flags=re.MULTILINE)


@pytest.mark.parametrize("command", [*SETTINGS_OF, "benchmarks", "compare", "score", "cache"])
def test_help_shows_at_most_25_flags(act2see: Act2See, command: str) -> None:
    done = act2see(*command.split(), "--help")
    assert done.code == 0
    assert len(flags(done.out)) <= MOST_FLAGS


@pytest.mark.parametrize("command", COMMON)
def test_every_common_flag_is_one_and_help_all_shows_the_others(act2see: Act2See, command: str) -> None:
    common, everything = flags(act2see(command, "--help").out), flags(act2see(command, "--help-all").out)
    assert {flag for flag in COMMON[command] if flag not in ("--option", "--teacher")} <= {*common}
    assert {*common} < {*everything}
    assert f"more flags: act2see {command} --help-all" in act2see(command, "--help").out


def test_every_option_of_a_benchmark_is_a_setting_with_the_same_default() -> None:
    defaults = {one.name: one.default for one in fields(EvalConfig)}
    for entry in CATALOGUE:
        for option in entry.options:
            assert defaults[option.name] == option.default, option.name


def test_a_benchmarks_options_are_listed_under_its_name(act2see: Act2See) -> None:
    assert "-o subtitles=VALUE: " in act2see("benchmarks", "video-mme").out
    assert "-o " not in act2see("benchmarks").out
    assert act2see("benchmarks", "video-mm").code == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("subtitles=true", "benchmark 'synthetic' has no option \"subtitles\": its options are kind"),
        ("kind=blue", 'option kind: got "blue", expected a comma-separated list of static, transient'),
        ("kid=static", "-o kid=static: unknown option; did you mean kind?"),
        ("=true", "-o =true: give KEY=VALUE, as in -o tries=3"),
        ("tries", "-o tries: give KEY=VALUE, as in -o tries=3"),
        ("tries=0", "-o tries"),
        ("tries=many", "-o tries"),
    ],
)
def test_a_wrong_option_is_one_clear_line(act2see: Act2See, given: str, said: str) -> None:
    done = act2see("eval", "synthetic", *ASKED, "-o", given)
    assert done.code in (1, 2)
    assert said in done.err
    assert done.err.count("\n") == 1


def test_an_option_twice_is_refused(act2see: Act2See) -> None:
    assert "-o tries is given twice" in act2see("eval", "synthetic", *ASKED, "-o", "tries=2", "-o", "tries=3").complaint


def test_a_flag_in_its_old_spelling_works_with_a_note_and_gives_the_same_run(act2see: Act2See, tmp_path: Path) -> None:
    old = act2see("eval", "synthetic", *ASKED, "--n", "2", "--kind", "static", "transient", "--out", "old")
    new = act2see("eval", "synthetic", *ASKED, "--n", "2", "-o", "kind=static,transient", "--out", "new")
    assert (old.code, new.code) == (0, 0)
    assert "note: --kind is deprecated and will be removed in the next release; use -o kind=VALUE" in old.err
    assert "note: --kind" not in new.err
    assert (tmp_path / "old" / "run.json").read_bytes() == (tmp_path / "new" / "run.json").read_bytes()


def test_options_of_a_generator_work_without_a_benchmark(act2see: Act2See, clip: Path) -> None:
    done = act2see("ask", clip, "Which?", *ASKED, "-o", "subtitles=true")
    assert "unknown option; allowed: floor, judge, margin, memory, strengths, tries" in done.complaint
    assert act2see("ask", clip, "Which?", *ASKED, "-o", "tries=3", "-o", "strengths=0.4,0.6").code == 0


def test_an_option_is_split_at_its_first_equals_sign(act2see: Act2See, clip: Path) -> None:
    done = act2see("ask", clip, "Which?", *ASKED, "-o", " judge =openai:judge=1", "--generator", "nothing")
    assert "unknown option" not in done.err
    assert "KEY=VALUE" not in done.err
    assert "generator" in done.complaint
