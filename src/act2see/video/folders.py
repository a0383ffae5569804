"""The files that a command line names: themselves, or all files of a folder."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from act2see.core.errors import VideoError
from act2see.video.files import printable
from act2see.video.transcript.subtitles import SUFFIXES


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file, or an http(s) address, and whether it was named itself: what a folder holds besides videos is no error."""

    name: str
    is_named: bool


def files_of(names: Iterable[str]) -> list[NamedFile]:
    """The names, with each folder replaced by the files below it in order of their paths, each file once.

    Hidden files and folders are left out, and subtitle files, which are read with their videos; links to folders are not followed. Raises
    `VideoError` for a folder without files and for one that cannot be read.
    """
    found: dict[str, bool] = {}
    for name in names:
        if os.path.isdir(os.path.expanduser(name)):
            for file in _below(os.path.expanduser(name)):
                found.setdefault(file, False)
        else:
            found[name] = True
    return [NamedFile(name, is_named) for name, is_named in found.items()]


def _below(folder: str) -> list[str]:
    def refuse(error: OSError) -> None:
        raise VideoError(f"cannot read {printable(Path(error.filename or folder))}: {error.strerror}") from error

    files = []
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = [os.path.join(parent, name) for name in names if not name.startswith(".") and not name.lower().endswith(SUFFIXES)]
        files += [path for path in paths if os.path.isfile(path)]
    if not files:
        raise VideoError(f"{printable(Path(folder))} is a folder without files: give a folder with videos")
    return sorted(files)
