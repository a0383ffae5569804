"""Help that fits a screen: --help shows the common flags, --help-all all of them."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from attrs import evolve
from cyclopts import App
from cyclopts.help import DefaultFormatter, HelpEntry, HelpPanel

from act2see.config.models import OPTIONS

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions

ALL = "--help-all"
_MODELS = {"--preset", "--backend", "--base-url", "--retriever", "--generator", "--device", "--adapter"}
_LOOKS = {"--fps", "--max-frames", "--max-looks", "--tools"}
_WRITES = {"--max-tokens", "--temperature", "--seed"}
COMMON: Mapping[str, AbstractSet[str]] = {
    "ask": _MODELS | _LOOKS | _WRITES | {"--choices", "--save", "--report", "--json", "--option", "--config", "--force"},
    "ui": _MODELS | _LOOKS | {"--host", "--port", "--queue", "--max-upload-mb", "--max-video-seconds", "--open", "--option", "--config", "--force"},
    "chat": _MODELS | _LOOKS | _WRITES | {"--save", "--option", "--config", "--force"},
    "eval": _MODELS | _LOOKS | _WRITES | {"--n", "--data", "--limit", "--out", "--resume", "--workers", "--json", "--frames", "--option", "--config"},
    "audit": _MODELS | _LOOKS | _WRITES | {"--n", "--data", "--limit", "--out", "--resume", "--json", "--option", "--config"},
    "construct": (_MODELS - {"--backend", "--adapter"})
    | (_LOOKS - {"--max-frames"})
    | _WRITES
    | {"--teacher", "--n", "--data", "--out", "--resume", "--workers", "--retries", "--budget-usd", "--prices", "--json", "--option", "--config"},
    "serve": _MODELS
    | _LOOKS
    | {"--host", "--port", "--workers", "--queue", "--deadline-seconds", "--api-key", "--allow-root", "--allow-host", "--config", "--force"},
    "mcp": _MODELS | {"--http", "--host", "--port", "--api-key", "--picture-side", "--speech-model", "--cache", "--config", "--force"},
    "generate": {"--retriever", "--generator", "--generator-url", "--at", "--out", "--seed", "--device", "--json", "--option", "--config"},
}
"""The flags that --help shows, by command; other commands show all of theirs."""


class CommonFlags(DefaultFormatter):
    """Hides the flags that `COMMON` does not list from a command's help."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: AbstractSet[str] | None = None
        """None: all."""
        self.left_out = 0
        """Number of hidden flags."""

    def __call__(self, console: "Console", options: "ConsoleOptions", panel: HelpPanel) -> None:
        """Print a panel, unless all of its entries are hidden."""
        entries = [_as_option(entry) if panel.title == OPTIONS.name else entry for entry in panel.entries if self._is_shown(entry)]
        if entries:
            super().__call__(console, options, panel.copy(entries=entries))
        self.left_out += len(panel.entries) - len(entries)

    def _is_shown(self, entry: HelpEntry) -> bool:
        return self.shown is None or not entry.positive_names or not self.shown.isdisjoint(entry.positive_names)


def _as_option(entry: HelpEntry) -> HelpEntry:
    """The entry spelled as an option: `-o tries=INT`."""
    if "--option" in entry.positive_names:
        return entry
    key = entry.positive_names[0].removeprefix("--").replace("-", "_")
    return evolve(entry, positive_names=(f"-o {key}={entry.metavar or 'true'}",), negative_names=(), metavar=None)


def prepared(app: App, formatter: CommonFlags, arguments: Sequence[str]) -> list[str]:
    """The arguments with `--help-all` replaced by `--help`. Sets the flags that the formatter shows: all, or the command's common ones."""
    before = arguments[: arguments.index("--")] if "--" in arguments else arguments
    commands, _, _ = app.parse_commands([one for one in before if not one.startswith("-")])
    formatter.left_out = 0
    formatter.shown = None if ALL in before else COMMON.get(" ".join(commands))
    return ["--help" if one == ALL else one for one in arguments]
