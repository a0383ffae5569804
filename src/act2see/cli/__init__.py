"""The command line: reads flags and settings files, runs a command and reports errors in one line. Only this package exits the process.

stdout carries only the answer, stderr everything else. Exit codes: 0 answered, 1 an error that the user can fix, 2 usage, 3 no answer, 70 internal
error, 130 interrupted, 141 if the reader of the output has exited. Each command imports its dependencies when it runs, so that `act2see --help` stays
fast.
"""

import errno
import io
import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import Field, fields
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, get_args

from cyclopts import App, CycloptsError, Parameter
from cyclopts.argument import ArgumentCollection
from cyclopts.config import Dict
from platformdirs import user_config_path

from act2see._version import __version__
from act2see.cli import (
    ask,
    audit,
    benchmarks,
    cache,
    chat,
    compare,
    construct,
    contamination,
    demo,
    evaluate,
    export,
    generate,
    index,
    mcp,
    merge,
    reproduce,
    retrieve,
    score,
    serve,
    synthetic,
    tradeoff,
    train,
    transcript,
    ui,
    view,
)
from act2see.cli import filter as filtering
from act2see.cli.exits import ANSWERED, BROKEN_PIPE, FAILURE, INTERNAL, INTERRUPTED, NO_ANSWER, USAGE
from act2see.cli.help import CommonFlags, prepared
from act2see.cli.options import distribute
from act2see.cli.output import complain, complain_of, discard, say, say_text
from act2see.cli.video_source import DEMO
from act2see.config import (
    AskConfig,
    ChatConfig,
    ConstructConfig,
    ConstructExecutionConfig,
    ContaminationConfig,
    DemoConfig,
    EvalConfig,
    EvalExecutionConfig,
    ExecutionConfig,
    ExportConfig,
    FilterConfig,
    GenerateConfig,
    IndexConfig,
    McpConfig,
    MergeConfig,
    MicroGeneratorConfig,
    MicroRetrieverConfig,
    MicroVlmConfig,
    RetrieveConfig,
    ServeConfig,
    SyntheticConfig,
    TranscriptConfig,
    UiConfig,
    preset_values,
    read_settings,
)
from act2see.config.presets import Command
from act2see.core.errors import Act2SeeError, ConfigError, InternalError, ScopeError
from act2see.execution.faults import unexpected

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["DEMO", "app", "entry", "main"]

# Commands that read a settings file. Subcommands of `act2see train` are named by both words, as in the table ["train micro-vlm"].
SETTINGS_OF: "dict[str, type[DataclassInstance] | tuple[type[DataclassInstance], ...]]" = {
    "ask": AskConfig,
    "chat": ChatConfig,
    "ui": UiConfig,
    "retrieve": RetrieveConfig,
    "index": IndexConfig,
    "transcript": TranscriptConfig,
    "serve": ServeConfig,
    "mcp": McpConfig,
    "demo": DemoConfig,
    "eval": (EvalConfig, EvalExecutionConfig),
    "audit": (EvalConfig, ExecutionConfig),
    "construct": (ConstructConfig, ConstructExecutionConfig),
    "filter": FilterConfig,
    "contamination": ContaminationConfig,
    "generate": GenerateConfig,
    "synthetic": SyntheticConfig,
    "export": ExportConfig,
    "merge": MergeConfig,
    "train micro-vlm": MicroVlmConfig,
    "train micro-retriever": MicroRetrieverConfig,
    "train micro-generator": MicroGeneratorConfig,
}
_PRESET_OF: dict[str, Command] = {"ask": "ask", "eval": "eval", "audit": "eval", "construct": "construct", "filter": "filter"}
"""Whose values of a preset a command takes."""


def _settings_from_file(_app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Fill options missing on the command line from the file given with --config, or from the user's default file."""
    command = " ".join(commands)
    named = [argument for argument in arguments if argument.name == "--config"]
    if command not in SETTINGS_OF or not named:
        return
    tokens = named[0].tokens
    path = Path(os.path.expanduser(tokens[-1].value)) if tokens else user_config_path("act2see") / "config.toml"
    if not tokens and not _is_there(path):
        return
    keys_of = {name: {key for one in _classes_of(name) for field in fields(one) for key in _keys(field)} for name in SETTINGS_OF}
    settings = read_settings(path, keys_of)[command]
    Dict(settings, source=str(path), use_commands_as_keys=False)(_app, commands, arguments)


def _values_of_preset(_app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Fill options that neither the command line nor a settings file gives from the preset that one of them names."""
    command = _PRESET_OF.get(" ".join(commands))
    named = next((token.value for one in arguments if one.name == "--preset" for token in one.tokens), None)
    if named is None or command is None:
        return
    keys = {field.name: _keys(field) for one in _classes_of(command) for field in fields(one)}
    names = {name for one in arguments if one.tokens for name in one.names}
    given = {field for field, own in keys.items() if not names.isdisjoint(f"--{key}" for key in own)}
    benchmark = next((token.value for one in arguments if one.index == 0 for token in one.tokens), None)
    values = preset_values(named, command, benchmark=benchmark, given=given)
    Dict({keys[field][0]: value for field, value in values.items()}, source=f"--preset {named}", use_commands_as_keys=False)(
        _app, commands, arguments
    )


def _refuse_fractions(_app: App, _commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Refuse 1.5 where a whole number is expected, which the parser would round."""
    for argument in arguments:
        if argument.hint is int or int in get_args(argument.hint):
            for token in argument.tokens:
                if re.fullmatch(r"[+-]?\d*\.\d*[1-9]\d*", token.value):
                    raise ConfigError(f"{argument.name} is {token.value}; it must be a whole number")


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:  # the home folder is another user's
        complain(f"note: cannot read settings from {path}: {error.strerror}")
        return False


def _classes_of(command: str) -> "tuple[type[DataclassInstance], ...]":
    found = SETTINGS_OF[command]
    return found if isinstance(found, tuple) else (found,)


def _keys(field: "Field[Any]") -> list[str]:
    """A field's names on the command line and in a file: the names of its flag if it defines any, else its own."""
    given = [one.name for one in getattr(field.type, "__metadata__", ()) if isinstance(one, Parameter) and one.name]
    return [name.removeprefix("--") for names in given for name in names or ()] or [field.name.replace("_", "-")]


_formatter = CommonFlags()
app = App(
    name="act2see",
    help="Ask a vision-language model about a video; the model calls for more frames when it needs them.",
    version=__version__,
    config=[distribute, _settings_from_file, _values_of_preset, _refuse_fractions],
    result_action="return_value",
    suppress_keyboard_interrupt=False,
    help_formatter=_formatter,
)
app.command(ask.ask)
app.command(chat.chat)
app.command(ui.ui)
app.command(retrieve.retrieve)
app.command(generate.generate)
app.command(index.index)
app.command(transcript.transcript)
app.command(serve.serve)
app.command(mcp.mcp)
app.command(demo.demo)
app.command(evaluate.evaluate, name="eval")
app.command(compare.compare)
app.command(view.view)
app.command(tradeoff.tradeoff)
app.command(audit.audit)
app.command(benchmarks.benchmarks)
app.command(score.score)
app.command(synthetic.synthetic)
app.command(construct.construct)
app.command(filtering.filter_run, name="filter")
app.command(contamination.contamination)
app.command(train.train)
app.command(export.export)
app.command(merge.merge)
app.command(reproduce.reproduce)
app.command(cache.cache)


@app.command
def template() -> None:
    """Print the chat template that lets a server continue the assistant's turn after a picture: vllm serve MODEL --chat-template FILE."""
    say_text(files("act2see.core").joinpath("templates", "chat_template.jinja").read_text(encoding="utf-8"))


@app.command
def completion(shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(help="Shell to complete commands and flags in.")], /) -> None:
    """Print a completion script for your shell: act2see completion bash > ~/.local/share/bash-completion/completions/act2see."""
    say_text(app.generate_completion(shell=shell))


def entry() -> NoReturn:
    """The `act2see` script."""
    if not _streams_are_open():
        complain("stdout is closed: redirect it to a file or to /dev/null")
        sys.exit(FAILURE)
    sys.exit(main(sys.argv[1:]))


def _streams_are_open() -> bool:
    """Whether stdout is open. The next file to be opened would get the descriptor of a closed standard stream, and receive its output."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free descriptor: this one
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w")
    return sys.stdout is not None


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # so that file names in other encodings than UTF-8 can be printed
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with unexpected(CycloptsError, BrokenPipeError), _notes_on_stderr():
            result = app(prepared(app, _formatter, arguments), exit_on_error=False, print_error=False)
            if _formatter.left_out:
                say(f"{_formatter.left_out} more flags: act2see {' '.join(one for one in arguments if one != '--help')} --help-all")
            sys.stdout.flush()
    except CycloptsError as error:
        complain(f"{error} (see act2see --help)")
        return USAGE
    except InternalError as error:
        if (refused := _refused_by_system(error.__cause__)) is not None:
            complain(refused)
            return FAILURE
        complain_of(error)
        return INTERNAL
    except Act2SeeError as error:
        complain(str(error))
        return NO_ANSWER if isinstance(error, ScopeError) else FAILURE
    except KeyboardInterrupt:
        complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        for stream in (sys.stdout, sys.stderr):  # the reader of our output has exited
            discard(stream)
        return BROKEN_PIPE
    return result if isinstance(result, int) else ANSWERED


def _refused_by_system(error: BaseException | None) -> str | None:
    """The message for an unexpected system error about a file or an exhausted resource; None for any other error."""
    if not isinstance(error, OSError) or error.strerror is None:
        return None
    if error.filename is not None:
        return (
            f"cannot use {os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename}: {error.strerror}; give another path"
        )
    full = {errno.ENOSPC: "free disk space", errno.EDQUOT: "free disk space", errno.EMFILE: "raise the limit: ulimit -n"}
    return f"{error.strerror}: {full[error.errno]}" if error.errno in full else None


class _Note(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        complain(f"note: {record.getMessage()}")


@contextmanager
def _notes_on_stderr() -> Iterator[None]:
    """Print the library's warnings as notes, such as an unwritable cache or a wait for another process."""
    log, handler = logging.getLogger("act2see"), _Note(logging.WARNING)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
