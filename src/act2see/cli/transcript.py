"""`act2see transcript`: what is said and written in a video, as a file with times."""

from typing import Annotated

from cyclopts import Parameter

from act2see.cli.exits import ANSWERED, INTERRUPTED, NO_ANSWER
from act2see.cli.output import complain, say, say_text, show_progress
from act2see.cli.video_source import open_video
from act2see.config import SettingsFile, TranscriptConfig


def transcript(
    video: Annotated[str, Parameter(help="Video file, or its http(s) address.")],
    /,
    *,
    settings: Annotated[TranscriptConfig, Parameter(name="*")] = TranscriptConfig(),
    config: SettingsFile = None,
) -> int:
    """Read what is said and written in a video: subtitles, speech, and text on the screen, with times.

    Prints the transcript to stdout. Ctrl-C keeps in the cache what is read, and the same command goes on from there. Exit code 3 when there is
    nothing.
    """
    del config
    from act2see import api
    from act2see.config.checks import check_file_to_write
    from act2see.video.transcript.formats import chosen_format, write_transcript, written
    from act2see.video.transcript.reading import check_words

    check_words(settings)
    check_file_to_write(settings.out, video)
    chosen = chosen_format(settings.format, settings.out)
    opened = open_video(video, cached=settings.cache)
    try:
        with show_progress(unit=" s", transient=True) as progress:
            found = api.transcript(opened, settings, progress=progress)
    except KeyboardInterrupt:
        kept = "what was read is kept, and the same command goes on from there" if settings.cache else "without a cache, nothing is kept"
        complain(f"interrupted; {kept}")
        return INTERRUPTED
    for note in found.notes:
        complain(f"note: {note}")
    if settings.out is not None:
        write_transcript(found, settings.out, video, chosen)
        say(f"{len(found.lines)} lines from {', '.join(found.sources) or 'no source'} in {settings.out}")
    elif found.lines or chosen == "json":
        say_text(written(found, video, chosen))
    return ANSWERED if found.lines else NO_ANSWER
