"""`act2see demo`: the embedded models answer questions about the bundled clips."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from act2see.cli.ask import printing
from act2see.cli.exits import ANSWERED
from act2see.cli.output import say
from act2see.cli.video_source import DEMO
from act2see.config import DemoConfig, ModelConfig, SettingsFile
from act2see.config.checks import check_file_to_write

if TYPE_CHECKING:
    from act2see.core.interfaces import Backend, Generator, Retriever


def demo(*, settings: Annotated[DemoConfig, Parameter(name="*")] = DemoConfig(), config: SettingsFile = None) -> int:
    """Answer questions about four bundled clips with the embedded models.

    Needs no GPU, account or download. Writes one report of all questions.
    """
    del config
    from act2see import registry

    check_file_to_write(settings.report)
    how = ModelConfig()
    retriever = registry.retriever("micro", how)
    return answer_demo(DEMO, settings.report, registry.backend("micro", how), retriever, registry.generator("micro", how, retriever), how)


def answer_demo(
    folder: Path, report: Path, backend: "Backend", retriever: "Retriever | None", generator: "Generator | None", how: ModelConfig
) -> int:
    """Answer a folder's questions in order, print a line for each, and write one report that numbers them the same way."""
    from act2see.core.chat import chosen
    from act2see.core.engine import new_trace, reason
    from act2see.registry import loop_options
    from act2see.report import write_report
    from act2see.video import Video

    traces = []
    for number, item in enumerate(json.loads((folder / "questions.json").read_text(encoding="utf-8")), 1):
        video = Video(folder / item["video"])
        trace = new_trace(video, item["question"], item["choices"], fps=how.fps, id=f"demo-{number}", backend=backend)
        with printing() as show:
            for event in reason(trace, video, backend, retriever, generator, loop_options(how)):
                show.event(event)
        show.finish(trace)
        traces.append(trace)
        index = chosen(trace.answer, trace.choices)
        said = "-" if index is None else trace.choices[index]
        verdict = "no answer" if index is None else "right" if said == item["answer"] else f"wrong: it is {item['answer']}"
        times = [f"{frame.seconds:.2f} s" for frame in trace.brought_frames if frame.seconds is not None]
        ways = [f"looked again at {', '.join(times)}"] if times else []
        ways += ["imagined a picture"] if any(frame.seconds is None for frame in trace.brought_frames) else []
        seen = " and ".join(ways) or "the first frames were enough"
        say(f"{number}. {trace.question} {said} ({verdict}; {seen})")
    write_report(traces, report)
    say(f"report: {report}")
    return ANSWERED
