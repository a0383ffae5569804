"""`act2see generate`: edits a frame of a video into a picture of something that never happened, without a reasoning model."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from act2see.cli.exits import ANSWERED
from act2see.cli.options import Options
from act2see.cli.output import say, say_json, show_progress
from act2see.cli.video_source import open_video
from act2see.config import GenerateConfig, SettingsFile
from act2see.config.checks import check_file_to_write, check_text
from act2see.core.errors import ConfigError

if TYPE_CHECKING:
    from act2see.evaluation.frames import GeneratedFiles, GenerateResult

PICTURE_ENDINGS = (".png", ".jpg", ".jpeg")


def generate(
    video: Annotated[str, Parameter(help="Video file or http(s) URL.")],
    prompt: Annotated[str, Parameter(help="Content of the picture: describe the scene, not the change.")],
    /,
    *,
    settings: Annotated[GenerateConfig, Parameter(name="*")] = GenerateConfig(),
    option: Options = (),
    config: SettingsFile = None,
) -> int:
    """Generate a picture from a video: find the frame that matches the prompt, edit it and verify the result.

    Writes the picture, its anchor frame and both side by side; prints the scores to stdout. Exit code 1 if no picture passes the verification.
    """
    del config, option
    from act2see import registry
    from act2see.evaluation.frames import GeneratedFiles, generate_frame

    check_text("the prompt", prompt)
    if settings.out.suffix.lower() not in PICTURE_ENDINGS:
        raise ConfigError(f"cannot write {settings.out}: the file name must end in one of {', '.join(PICTURE_ENDINGS)}")
    files = GeneratedFiles.beside(settings.out)
    for path in (files.picture, files.anchor, files.pair):
        check_file_to_write(path)
    registry.check_retriever(settings.retriever)
    registry.check_generator(settings.generator, settings.judge)
    opened = open_video(video, cached=settings.cache)
    with show_progress(unit=" frames", transient=True) as progress:
        made = generate_frame(opened, prompt, settings, progress)
    made.save(settings.out)
    if settings.json:
        _say_json(video, made, files)
    else:
        say(_line(made, files))
    return ANSWERED


def _say_json(video: str, made: "GenerateResult", files: "GeneratedFiles") -> None:
    origin = made.provenance
    notice = {} if made.notice is None else {"notice": made.notice}
    facts = {
        "prompt": origin.prompt,
        "anchor_seconds": origin.anchor_seconds,
        "model": origin.model,
        "seed": origin.seed,
        "strength": origin.strength,
        "scores": dict(origin.scores),
    }
    unverified = {"unverified": origin.unverified} if origin.unverified else {}
    say_json({"video": video, **notice, **facts, **unverified, "files": {name: str(path) for name, path in asdict(files).items()}})


def _line(made: "GenerateResult", files: "GeneratedFiles") -> str:
    origin = made.provenance
    unverified = "not verified" + (f" ({origin.unverified})" if origin.unverified else "")
    scores = "  ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in origin.scores.items()) or unverified
    at = "" if origin.anchor_seconds is None else f" from {origin.anchor_seconds:.3f} s"
    strength = "" if origin.strength is None else f", strength {origin.strength:g}"
    paths = "  ".join(map(str, (files.picture, files.anchor, files.pair)))
    return f"imagined{at} by {origin.model}, seed {origin.seed}{strength}  {scores}  {paths}"
