"""Help that fits a screen: the flags that most calls need; --help-all shows all of them."""

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
_MODELS = {"--backend", "--base-url", "--retriever", "--generator", "--device", "--adapter"}
_LOOKS = {"--fps", "--max-frames", "--max-looks", "--tools"}
_WRITES = {"--max-tokens", "--temperature", "--seed"}
COMMON: Mapping[str, AbstractSet[str]] = {
    "ask": _MODELS | _LOOKS | _WRITES | {"--choices", "--save", "--report", "--json", "--option", "--config", "--force"},
    "eval": _MODELS | _LOOKS | _WRITES | {"--n", "--data", "--limit", "--out", "--resume", "--workers", "--json", "--frames", "--option", "--config"},
    "audit": _MODELS | _LOOKS | _WRITES | {"--n", "--data", "--limit", "--out", "--resume", "--json", "--option", "--config"},
    "construct": (_MODELS - {"--backend", "--adapter"})
    | _LOOKS
    | _WRITES
    | {"--teacher", "--n", "--data", "--out", "--resume", "--workers", "--retries", "--budget-usd", "--prices", "--json", "--option", "--config"},
    "generate": {"--retriever", "--generator", "--generator-url", "--at", "--out", "--seed", "--device", "--json", "--option", "--config"},
}
"""The flags that --help shows, by command, arguments aside; a command that is not named here shows all of its own."""


class CommonFlags(DefaultFormatter):
    """Leaves out of a command's help what `COMMON` does not name."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: AbstractSet[str] | None = None
        """None: everything."""
        self.left_out = 0
        """Flags that were not shown."""

    def __call__(self, console: "Console", options: "ConsoleOptions", panel: HelpPanel) -> None:
        """Print one panel, unless nothing of it is to be shown."""
        entries = [_as_option(entry) if panel.title == OPTIONS.name else entry for entry in panel.entries if self._is_shown(entry)]
        if entries:
            super().__call__(console, options, panel.copy(entries=entries))
        self.left_out += len(panel.entries) - len(entries)

    def _is_shown(self, entry: HelpEntry) -> bool:
        return self.shown is None or not entry.positive_names or not self.shown.isdisjoint(entry.positive_names)


def _as_option(entry: HelpEntry) -> HelpEntry:
    """Under the name that it is given by: `-o tries=INT`."""
    if "--option" in entry.positive_names:
        return entry
    key = entry.positive_names[0].removeprefix("--").replace("-", "_")
    return evolve(entry, positive_names=(f"-o {key}={entry.metavar or 'true'}",), negative_names=(), metavar=None)


def prepared(app: App, formatter: CommonFlags, arguments: Sequence[str]) -> list[str]:
    """The arguments with `--help-all` as `--help`; the formatter then shows everything, and otherwise what the command's help shows."""
    before = arguments[: arguments.index("--")] if "--" in arguments else arguments
    commands, _, _ = app.parse_commands([one for one in before if not one.startswith("-")])
    formatter.left_out = 0
    formatter.shown = None if ALL in before else COMMON.get(" ".join(commands))
    return ["--help" if one == ALL else one for one in arguments]
