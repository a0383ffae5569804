"""What somebody said who looked at traces by hand: a file of verdicts, as the page for it saves them."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from act2see.errors import StoreError
from act2see.records import Reader, parse_json, read_object, read_text, shown

VERDICTS = ("keep", "reject")


@dataclass(frozen=True, slots=True)
class VerdictByHand:
    """On one trace."""

    trace: str
    verdict: str
    note: str

    @property
    def is_kept(self) -> bool:
        """Whether the trace may stay, as far as the reader is concerned: it keeps no trace in that has another reason against it."""
        return self.verdict == "keep"


def read_verdicts(path: Path, traces: Collection[str]) -> dict[str, VerdictByHand]:
    """The verdicts of a file by the traces' ids; of two on one trace the later counts. Raises `StoreError` with the place of a line that is none."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise StoreError(f"cannot read the verdicts {path}: {error.strerror}") from error
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
            raise StoreError(f"{where}: the verdict is {shown(one.verdict)}; known are {' and '.join(VERDICTS)}")
        if one.trace not in traces:
            raise StoreError(f"{where}: the run has no trace {shown(one.trace)}: were these verdicts given on another run?")
        found[one.trace] = one
    return found


_read: Reader[VerdictByHand] = read_object(VerdictByHand, trace=read_text, verdict=read_text, note=read_text)
