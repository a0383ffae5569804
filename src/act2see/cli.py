"""The command line: flags and settings become values, values become objects, errors become one line. Only here is anything exited.

stdout carries the answer alone, stderr all the rest. Exit codes: 0 answered, 1 an error that the user can mend, 2 usage, 3 no answer, 130 interrupted
(141 when the reader of the output has left). What a command needs is imported inside it, so that `act2see --help` waits for nothing heavy.
"""

import io
import json
import os
import sys
import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import asdict, fields
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

from cyclopts import App, CycloptsError, Parameter
from cyclopts.argument import ArgumentCollection
from cyclopts.config import Dict
from platformdirs import user_config_path

from act2see import __version__
from act2see.config import (
    AskConfig,
    DemoConfig,
    EvalConfig,
    MicroRetrieverConfig,
    MicroVlmConfig,
    ModelConfig,
    SyntheticConfig,
    read_settings,
)
from act2see.errors import Act2SeeError, BackendError, ConfigError
from act2see.output import complain, looks_of, progressing, tell_answer, tell_scores

if TYPE_CHECKING:
    from act2see.evaluation import Evaluator, Scored
    from act2see.interfaces import Backend, Retriever
    from act2see.store import Run
    from act2see.trace import Trace
    from act2see.video import Video

DEMO = Path(__file__).parent / "synthetic" / "demo"
"""The bundled clips, and `questions.json`: a list of {video, question, choices, answer}."""

MAX_BACKEND_ERRORS_IN_A_ROW = 3
"""An evaluation whose backend failed on so many questions one after the other stops: the server is gone, not the question hard."""

ANSWERED, MENDABLE, USAGE, NO_ANSWER, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 3, 130, 141

# The commands that take settings from a file; those of `act2see train` are named by both words, as in the table ["train micro-vlm"].
SETTINGS_OF: dict[str, type] = {
    "ask": AskConfig,
    "demo": DemoConfig,
    "eval": EvalConfig,
    "synthetic": SyntheticConfig,
    "train micro-vlm": MicroVlmConfig,
    "train micro-retriever": MicroRetrieverConfig,
}

SettingsFile = Annotated[
    Path | None, Parameter(help="TOML file with flags' names as keys; if not given, act2see/config.toml in your configuration folder.")
]


def _settings_from_file(_app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Fill what the command line left open from the file that --config names, or from the user's own."""
    command = " ".join(commands)
    named = [argument for argument in arguments if argument.name == "--config"]
    if command not in SETTINGS_OF or not named:
        return
    tokens = named[0].tokens
    path = Path(tokens[-1].value).expanduser() if tokens else user_config_path("act2see") / "config.toml"
    if not tokens and not path.exists():
        return
    keys_of = {name: {field.name.replace("_", "-") for field in fields(settings)} for name, settings in SETTINGS_OF.items()}
    settings = read_settings(path, keys_of)[command]
    Dict(settings, source=str(path), use_commands_as_keys=False)(_app, commands, arguments)


app = App(
    name="act2see",
    help="Ask a vision-language model about a video; it looks again where it has not seen enough.",
    version=__version__,
    config=_settings_from_file,
    result_action="return_value",
    suppress_keyboard_interrupt=False,
    help_formatter="default",
)


def entry() -> NoReturn:
    """The `act2see` script."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file name that is no UTF-8 can be printed
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        result = app(list(arguments), exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except CycloptsError as error:
        complain(f"{error} (act2see --help tells more)")
        return USAGE
    except Act2SeeError as error:
        complain(str(error))
        return MENDABLE
    except KeyboardInterrupt:
        complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has left; without this, Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return result if isinstance(result, int) else ANSWERED


@app.command
def ask(
    video: Annotated[Path, Parameter(help="Video file.")],
    question: Annotated[str, Parameter(help="What to ask about it.")],
    /,
    *,
    settings: Annotated[AskConfig, Parameter(name="*")] = AskConfig(),
    config: SettingsFile = None,
) -> int:
    """Ask a question about a video.

    The answer goes to stdout, the reasoning to stderr. Exit codes: 0 answered, 1 error, 2 usage, 3 no answer, 130 interrupted.
    """
    del config  # read before this function was called
    from act2see import registry
    from act2see.engine import new_trace
    from act2see.video import Video

    _check_question(question, settings.choices)
    _check_file_to_write(settings.report)
    registry.check_backend(settings.backend)
    registry.check_retriever(settings.retriever)
    opened = Video(video)
    trace = new_trace(opened, question, settings.choices, fps=settings.fps, id=uuid.uuid4().hex)
    run = _open_run(settings) if settings.save else None
    if opened.damage:
        complain(f"note: {opened.damage}")
    backend = registry.backend(settings.backend, settings)
    retriever = registry.retriever(settings.retriever, settings) if settings.max_looks else None
    _notice(backend, settings)
    try:
        _reason(trace, opened, backend, retriever, settings)
    except KeyboardInterrupt:
        complain("interrupted" + (f"; what was thought so far is kept in {settings.save}" if run and trace.steps else ""))
        return INTERRUPTED
    finally:
        if run and (trace.steps or trace.finish):
            run.append(trace)
    if settings.report:
        from act2see.report import write_report

        write_report(trace, settings.report)
    return ANSWERED if tell_answer(trace, settings) else NO_ANSWER


@app.command
def demo(*, settings: Annotated[DemoConfig, Parameter(name="*")] = DemoConfig(), config: SettingsFile = None) -> int:
    """Answer questions about three bundled clips with the embedded models.

    Needs no GPU, account or download. Writes a report of the first answer for which the model looked again.
    """
    del config
    from act2see import registry

    _check_file_to_write(settings.report)
    how = ModelConfig()
    return answer_demo(settings.report, registry.backend("micro", how), registry.retriever("micro", how), how)


@app.command(name="eval")
def evaluate(
    benchmark: Annotated[str, Parameter(help="synthetic, or package.module:Class.")],
    /,
    *,
    settings: Annotated[EvalConfig, Parameter(name="*")] = EvalConfig(),
    config: SettingsFile = None,
) -> int:
    """Answer a benchmark's questions as `ask` does, and count.

    The summary goes to stdout. Questions without an answer, cut off or failed stay in the denominator.
    """
    del config
    from act2see import registry
    from act2see.evaluation import Evaluator, summarise

    registry.check_benchmark(benchmark)
    registry.check_backend(settings.backend)
    registry.check_retriever(settings.retriever)
    if settings.resume and settings.out is None:
        raise ConfigError("there is nothing to resume: name the run's folder with --out")
    run = _eval_run(benchmark, settings) if settings.out else None
    done = {trace.id: trace for trace in run.traces() if trace.finish} if run and settings.resume else {}
    with tempfile.TemporaryDirectory() as scratch:
        asked = registry.benchmark(benchmark, settings, (settings.out or Path(scratch)) / "videos")
        backend = registry.backend(settings.backend, settings)
        retriever = registry.looker(settings) if settings.max_looks else None
        evaluator = Evaluator(asked, backend, retriever, fps=settings.fps, max_looks=settings.max_looks, seed=settings.seed or 0)
        scored = _with_progress(evaluator, settings.n, done, run)
    summary = {"benchmark": benchmark, "frames": settings.frames, "max_looks": settings.max_looks, **summarise(scored)}
    if run:
        run.write_scores({"id": one.sample.id, "kind": one.sample.kind, "outcome": one.outcome, "error": one.error} for one in scored)
        run.write_summary(summary)
    errors = [one.error for one in scored if one.error]
    if errors:
        complain(f"note: {len(errors)} of {len(scored)} questions failed; the first: {errors[0]}")
    tell_scores(summary, as_json=settings.json)
    return ANSWERED


@app.command
def synthetic(
    folder: Annotated[Path, Parameter(help="Folder for clips/*.mp4 and questions.jsonl.")],
    /,
    *,
    settings: Annotated[SyntheticConfig, Parameter(name="*")] = SyntheticConfig(),
    config: SettingsFile = None,
) -> int:
    """Write the synthetic world as a data set: real mp4 files, questions, answers and reasoning.

    What is there already is not made again, so an interrupted call can simply be repeated.
    """
    del config
    from act2see.synthetic import dataset

    try:
        for _ in progressing(dataset.write(folder, settings.split, settings.n, settings.seed), "clips", settings.n):
            pass
    except OSError as error:
        raise ConfigError(f"cannot write {folder}: {error.strerror}; give a folder that can be written") from error
    print(f"{settings.n} questions in {folder / dataset.QUESTIONS}")
    return ANSWERED


train = App(name="train", help="Train the embedded models from nothing; an interrupted training goes on from its last checkpoint.")
app.command(train)


@train.command
def micro_vlm(*, settings: Annotated[MicroVlmConfig, Parameter(name="*")], config: SettingsFile = None) -> int:
    """Train the embedded vision-language model, then see by decoding how well it answers held-out questions.

    In several processes: torchrun --nproc-per-node 2 -m act2see train micro-vlm --out DIR.
    """
    del config
    from act2see.training import micro_vlm as training

    model = training.train(settings)
    if os.environ.get("RANK", "0") != "0":
        return ANSWERED
    print(model)
    return evaluate("synthetic", settings=EvalConfig(backend=f"huggingface:{model}", greedy=True, n=100))


@train.command
def micro_retriever(*, settings: Annotated[MicroRetrieverConfig, Parameter(name="*")], config: SettingsFile = None) -> int:
    """Train the embedded retriever."""
    del config
    from act2see.training import micro_retriever as training

    print(training.train(settings))
    return ANSWERED


@app.command
def template() -> None:
    """Print the chat template that lets a server continue the assistant's turn after a picture: vllm serve MODEL --chat-template FILE."""
    print(files("act2see").joinpath("chat_template.jinja").read_text(encoding="utf-8"), end="")


@app.command
def completion(shell: Literal["bash", "zsh", "fish"], /) -> None:
    """Print a completion script for your shell: act2see completion bash > ~/.local/share/bash-completion/completions/act2see."""
    print(app.generate_completion(shell=shell))


# What the commands do


def answer_demo(report: Path, backend: "Backend", retriever: "Retriever | None", how: ModelConfig) -> int:
    """Answer the bundled questions one after the other, print a line about each, and write one report."""
    from act2see.chat import chosen
    from act2see.engine import new_trace
    from act2see.report import write_report
    from act2see.video import Video

    traces = []
    for number, item in enumerate(json.loads((DEMO / "questions.json").read_text(encoding="utf-8")), 1):
        video = Video(DEMO / item["video"])
        trace = new_trace(video, item["question"], item["choices"], fps=how.fps, id=f"demo-{number}")
        _reason(trace, video, backend, retriever, how)
        traces.append(trace)
        index = chosen(trace.answer, trace.choices)
        said = "-" if index is None else trace.choices[index]
        verdict = "no answer" if index is None else "right" if said == item["answer"] else f"wrong: it is {item['answer']}"
        times = [f"{look['seconds']:.2f} s" for look in looks_of(trace) if look["seconds"] is not None]
        seen = f"looked again at {', '.join(times)}" if times else "the first frames were enough"
        print(f"{number}. {trace.question} {said} ({verdict}; {seen})", flush=True)
    best = next((trace for trace in traces if trace.looks), traces[0])
    write_report(best, report)
    print(f"report: {report}")
    return ANSWERED


def _eval_run(benchmark: str, settings: EvalConfig) -> "Run":
    from act2see.store import Run

    assert settings.out is not None
    make = Run.resume if settings.resume else Run.create
    config = {"benchmark": benchmark, **_recorded(settings, leave_out={"out", "resume", "json"})}
    return make(settings.out, command="eval", config=config, seed=settings.seed)


def _with_progress(evaluator: "Evaluator", count: int | None, done: dict[str, "Trace"], run: "Run | None") -> list["Scored"]:
    """Every sample's outcome; each new trace is on the disk before the next sample begins."""
    scored: list[Scored] = []
    for one in progressing(evaluator.run(done), "questions", count):
        if run and one.trace is not None and one.sample.id not in done:
            run.append(one.trace)
        scored.append(one)
        last = scored[-MAX_BACKEND_ERRORS_IN_A_ROW:]
        if len(last) == MAX_BACKEND_ERRORS_IN_A_ROW and all(each.outcome == "backend_error" for each in last):
            raise BackendError(f"stopped: the backend failed on {len(last)} questions in a row; {one.error}")
    return scored


def _recorded(settings: ModelConfig, leave_out: set[str]) -> dict[str, Any]:
    """The settings as a run keeps them, without those that only say where results go."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(settings).items() if name not in leave_out}


def _check_question(question: str, choices: Sequence[str]) -> None:
    from act2see.chat import letters

    if not question.strip():
        raise ConfigError("the question is empty: ask something")
    if choices and not 2 <= len(choices) <= len(letters(100)):
        raise ConfigError(f"{len(choices)} choices: give 2 to {len(letters(100))}")
    if any(not choice.strip() for choice in choices):
        raise ConfigError("a choice is empty: write what can be chosen")
    if len({choice.strip().casefold() for choice in choices}) < len(choices):
        raise ConfigError("the same choice twice: give different ones")


def _check_file_to_write(path: Path | None) -> None:
    if path is None:
        return
    if path.is_dir():
        raise ConfigError(f"cannot write {path}: it is a folder; give a file")
    if not path.parent.is_dir():
        raise ConfigError(f"cannot write {path}: there is no folder {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ConfigError(f"cannot write {path}: no permission")


def _open_run(settings: AskConfig) -> "Run":
    from act2see.store import Run

    assert settings.save is not None
    return Run.create_or_open(
        settings.save, command="ask", config=_recorded(settings, leave_out={"choices", "save", "report", "json"}), seed=settings.seed
    )


def _notice(backend: "Backend", settings: AskConfig) -> None:
    """Say what a backend wants said about what it does not know, and what the embedded retriever does not."""
    notice = getattr(backend, "notice", None)
    if notice:
        complain(f"note: {notice}")
    if settings.retriever == "micro" and settings.backend != "micro" and settings.max_looks:
        complain("note: the embedded retriever knows only the synthetic world; name another one with --retriever")


def _reason(trace: "Trace", video: "Video", backend: "Backend", retriever: "Retriever | None", how: ModelConfig) -> None:
    from act2see.engine import Delta, reason
    from act2see.terminal import Printer

    printer = Printer.for_stream(sys.stderr, os.environ)
    line_open = False
    try:
        for event in reason(trace, video, backend, retriever, max_looks=how.max_looks, seed=how.seed or 0):
            line_open = True
            if isinstance(event, Delta):
                printer.delta(event.text)
            else:
                printer.step(event)
    except (Act2SeeError, KeyboardInterrupt):
        if line_open:  # what is said next begins on a line of its own
            print(file=sys.stderr)
        raise
    printer.finish(trace)
