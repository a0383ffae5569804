"""Confines paths that come from outside to allowed folders."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from act2see.core.errors import ConfigError, VideoError
from act2see.storage.codec import shown
from act2see.video.transcript.subtitles import beside as subtitles_beside


@dataclass(frozen=True, slots=True)
class AllowedFolders:
    """Folders below which files may be opened. Links are resolved before a path is compared with them."""

    folders: tuple[Path, ...]
    """Resolved, existing folders."""

    @classmethod
    def of(cls, named: Sequence[Path], flag: str) -> "AllowedFolders":
        """The folders that a user names; `flag` names the option in errors. Raises `ConfigError` for what is no folder."""
        found = []
        for folder in named:
            try:
                resolved = folder.expanduser().resolve(strict=True)
                is_folder = resolved.is_dir()
            except (OSError, RuntimeError) as error:
                raise ConfigError(f"{flag} {folder}: no such folder") from error
            if not is_folder:
                raise ConfigError(f"{flag} {folder} is no folder")
            found.append(resolved)
        return cls(tuple(found))

    def file(self, named: str) -> Path:
        """The file below one of the folders that a path names: an absolute one, or one relative to any of them.

        Raises `VideoError`, in the same words whether a file outside exists or not.
        """
        for candidate in self._candidates(named):
            try:
                path = candidate.resolve(strict=True)
                is_file = path.is_file()
            except (OSError, RuntimeError, ValueError):  # not there, no permission, a cycle of links, a null character
                continue
            if is_file and any(path.is_relative_to(folder) for folder in self.folders):
                return path
        raise VideoError(f"no file {shown(named)} in the allowed folders")

    def check_opened(self, path: Path) -> None:
        """Raise `VideoError` if a path that `file` returned leads outside now that it is open, or if subtitles beside it do.

        A link may have taken its place meanwhile. From here on `Video` refuses a file that is not the one it opened; a swap there and back within one
        of its calls is not noticed, so nobody but the server's owner should write to the folders.
        """
        self.file(str(path))
        for beside in subtitles_beside(path):
            if beside.is_symlink() and not any(beside.resolve().is_relative_to(folder) for folder in self.folders):
                raise VideoError(f"the subtitles {shown(self.label(beside))} are a link out of the allowed folders: remove it")

    def label(self, path: Path) -> str:
        """The path relative to its folder, as clients see it."""
        return next((str(path.relative_to(folder)) for folder in self.folders if path.is_relative_to(folder)), path.name)

    def _candidates(self, named: str) -> Iterator[Path]:
        if not named or "\0" in named:
            return
        if named.startswith("/"):
            yield Path(named)
            return
        for folder in self.folders:
            yield folder / named
