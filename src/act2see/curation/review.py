"""Manual review decisions: the verdict file that the review page saves."""

import os
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

from act2see.core.errors import StoreError, disk_reason
from act2see.storage.atomic import content_of, reading
from act2see.storage.codec import Reader, parse_json, read_object, read_text, shown
from act2see.storage.runs import Run

VERDICTS = ("keep", "reject")
VERDICTS_FILE = "verdicts.jsonl"


@dataclass(frozen=True, slots=True)
class VerdictByHand:
    """The reviewer's verdict on one trace."""

    trace: str
    verdict: str
    note: str

    @property
    def is_kept(self) -> bool:
        """Whether the trace may stay, as far as the reader is concerned: it keeps no trace in that has another reason against it."""
        return self.verdict == "keep"


def kept_verdicts(run: Run, given: Path | None, traces: Collection[str]) -> dict[str, VerdictByHand]:
    """The verdicts that the run holds, by the traces' ids, once those of `given` are among them; of two on one trace the later counts.

    What is kept in the run is applied whenever it is filtered. Raises `StoreError` as `read_verdicts` does.
    """
    with reading(run.folder / VERDICTS_FILE):
        is_there = os.path.lexists(run.folder / VERDICTS_FILE)
    found = read_verdicts(run.folder / VERDICTS_FILE, traces, is_ours=True) if is_there else {}
    if given is not None:
        found |= read_verdicts(given, traces)
        run.write_rows(VERDICTS_FILE, map(asdict, found.values()))
    return found


def read_verdicts(path: Path, traces: Collection[str], *, is_ours: bool = False) -> dict[str, VerdictByHand]:
    """The verdicts of a file by the traces' ids; of two on one trace the later counts. Raises `StoreError` with the place of a line that is none.

    The run's own (`is_ours`) may be about traces that cannot be read any more.
    """
    try:
        # What the user names may be a link; what lies in a run's folder may not.
        lines = content_of(path.parent, path.name).splitlines() if is_ours else path.read_bytes().splitlines()
    except OSError as error:
        raise StoreError(f"cannot read the verdicts {path}: {disk_reason(error)}") from error
    found: dict[str, VerdictByHand] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            one = _read(parse_json(line), where)
        except StoreError as error:
            raise StoreError(str(error) if str(error).startswith(where) else f"{where}: {error}") from error
        if one.verdict not in VERDICTS:
            raise StoreError(f"{where}: the verdict is {shown(one.verdict)}; allowed: {' and '.join(VERDICTS)}")
        if one.trace not in traces and not is_ours:
            raise StoreError(f"{where}: the run has no trace {shown(one.trace)}: are these verdicts from another run?")
        found[one.trace] = one
    return found


_read: Reader[VerdictByHand] = read_object(VerdictByHand, trace=read_text, verdict=read_text, note=read_text)
