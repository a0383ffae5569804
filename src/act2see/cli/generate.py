"""`act2see generate`: a picture of something that never happened, made from a frame of the video, without a model that reasons."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from act2see.cli.exits import ANSWERED
from act2see.cli.opening import open_video, screen_search
from act2see.cli.output import index_progress, say, say_json, working
from act2see.config import GenerateConfig, SettingsFile
from act2see.config.checks import check_file_to_write, check_text
from act2see.core.errors import ConfigError, OutOfMemoryToolError, ToolError, UnsupportedSizeError

if TYPE_CHECKING:
    from act2see.core.interfaces import Retriever
    from act2see.core.trace import Frame
    from act2see.video import Video

PICTURE_ENDINGS = (".png", ".jpg", ".jpeg")


def generate(
    video: Annotated[str, Parameter(help="Video file, or its http(s) address.")],
    prompt: Annotated[str, Parameter(help="What the picture shall show: what is there, not what to do.")],
    /,
    *,
    settings: Annotated[GenerateConfig, Parameter(name="*")] = GenerateConfig(),
    config: SettingsFile = None,
) -> int:
    """Imagine something in a video: a frame of it is found by the prompt, changed, and checked.

    The picture, its anchor and both side by side are written; the scores go to stdout. Exit code 1 when no faithful picture could be made.
    """
    del config
    from act2see import registry
    from act2see.storage.runs import save_picture

    _check(prompt, settings)
    registry.check_retriever(settings.retriever)
    registry.check_generator(settings.generator, settings.judge)
    opened = open_video(video, cached=settings.cache)
    notice = screen_search(settings, opened)
    with index_progress(opened.path.name) as progress:
        retriever = registry.retriever(settings.retriever, settings, progress)
        anchor = _anchor(opened, prompt.strip(), retriever, settings)
    generator = registry.generator(settings.generator, settings, retriever, has_anchor=True)
    if generator is None:
        raise ConfigError("nothing can be imagined with generator 'none': name one, such as micro or diffusers:flux2-klein")
    with working("imagining"):
        try:
            made = generator.generate(prompt.strip(), anchor, seed=settings.seed or 0)
        except ToolError as error:
            raise ConfigError(f"{error}; {_advice(error)}") from error
    files = _files(settings.out)
    save_picture(files["picture"], made)
    save_picture(files["anchor"], anchor)
    save_picture(files["pair"], _pair(anchor, made))
    _tell(video, made, files, notice, as_json=settings.json)
    return ANSWERED


def _check(prompt: str, settings: GenerateConfig) -> None:
    check_text("the prompt", prompt)
    if settings.out.suffix.lower() not in PICTURE_ENDINGS:
        raise ConfigError(f"cannot write {settings.out}: its name must end in one of {', '.join(PICTURE_ENDINGS)}")
    for path in _files(settings.out).values():
        check_file_to_write(path)


def _files(out: Path) -> dict[str, Path]:
    """What is written, by what it shows."""
    return {"picture": out, "anchor": _beside(out, "anchor"), "pair": _beside(out, "pair")}


def _advice(error: ToolError) -> str:
    if isinstance(error, OutOfMemoryToolError):
        return "try --memory group-offload or nf4, or a video of smaller frames"
    if isinstance(error, UnsupportedSizeError):
        return "give a video of another shape, or another --generator"
    return "try another --seed, more --tries, or --judge none to see what came"


def _anchor(video: "Video", prompt: str, retriever: "Retriever | None", settings: GenerateConfig) -> "Frame":
    if settings.at is not None:
        return video.frame_at(settings.at)
    if retriever is None:
        raise ConfigError("retriever 'none' finds no frame to change: name one, or the frame's seconds with --at")
    return retriever.find(video, prompt, shown=())[0]


def _beside(path: Path, what: str) -> Path:
    return path.with_name(f"{path.stem}-{what}{path.suffix}")


def _pair(anchor: "Frame", made: "Frame") -> "Frame":
    """Both side by side, the real one on the left; a picture that holds an imagined one says so in its file."""
    from dataclasses import replace

    from PIL import Image

    width, height = anchor.image.size
    both = Image.new("RGB", (2 * width + 8, height), "white")
    both.paste(anchor.image, (0, 0))
    both.paste(made.image, (width + 8, 0))
    return replace(made, image=both)


def _tell(video: str, made: "Frame", files: dict[str, Path], notice: str | None, *, as_json: bool) -> None:
    origin = made.provenance
    assert origin is not None  # a generator's frame has one
    facts: dict[str, Any] = {
        "prompt": origin.prompt,
        "anchor_seconds": origin.anchor_seconds,
        "model": origin.model,
        "seed": origin.seed,
        "strength": origin.strength,
        "scores": dict(origin.scores),
    }
    facts |= {"unverified": origin.unverified} if origin.unverified else {}
    if as_json:
        warned = {} if notice is None else {"notice": notice}
        say_json({"video": video, **warned, **facts, "files": {name: str(path) for name, path in files.items()}})
        return
    unverified = "not verified" + (f" ({origin.unverified})" if origin.unverified else "")
    scores = "  ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in origin.scores.items()) or unverified
    at = "" if origin.anchor_seconds is None else f" from {origin.anchor_seconds:.3f} s"
    strength = "" if origin.strength is None else f", strength {origin.strength:g}"
    say(f"imagined{at} by {origin.model}, seed {origin.seed}{strength}  {scores}  {files['pair']}")
