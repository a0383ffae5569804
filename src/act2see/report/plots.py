"""Plots by matplotlib (`act2see[plot]`): a retriever's scores over time, and the accuracy of several runs over their cost."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from act2see.core.errors import ConfigError
from act2see.core.plaintext import one_line
from act2see.core.trace import Frame
from act2see.evaluation.tradeoff import Tradeoff
from act2see.tools.retrievers.selection import Curve

_LINE, _PICK, _SPAN, _THRESHOLD = "#1f5fa8", "#c2410c", "#f6c453", "#555555"
_MINUTE_SECONDS = 60
_TITLE_LETTERS = 90
_TIMES_SHOWN = 4  # more would overlap


def draw_scores(curve: Curve, frames: Sequence[Frame], title: str, path: Path) -> None:
    """Write the scores over time, the chosen frames numbered, their spans shaded, the threshold as a line. Raises `ConfigError`."""
    with _figure(path, (10, 3.6)) as axes:
        _curve(axes, curve)
        _picks(axes, frames)
        _labels(axes, curve, one_line(title))


def draw_tradeoff(found: Tradeoff, path: Path) -> None:
    """Write each run's accuracy with its 95 % interval over its cost; the runs on the Pareto front are joined. Raises `ConfigError`."""
    with _figure(path, (7.5, 4.6)) as axes:
        for place, point in enumerate(sorted(found.points, key=lambda one: one.cost)):
            low, high = point.accuracy_95 or (point.accuracy, point.accuracy)
            colour = _LINE if point.is_best else _THRESHOLD
            at = (point.cost, 100 * point.accuracy)
            axes.errorbar(*at, yerr=[[at[1] - 100 * low], [100 * high - at[1]]], fmt="o", color=colour, capsize=3, markersize=5)
            axes.annotate(Path(point.run).name, at, xytext=(7, (6, -13)[place % 2]), textcoords="offset points", color=colour, parse_math=False)
        best = sorted((point.cost, 100 * point.accuracy) for point in found.points if point.is_best)
        axes.plot(*zip(*best, strict=True), color=_LINE, linewidth=0.9, linestyle=":", zorder=0)
        axes.set_title(one_line(f"{found.benchmark}: accuracy over {found.unit} an answer"), loc="left", parse_math=False)
        axes.set_xlabel(found.unit)
        axes.set_ylabel("right (%)")
        axes.margins(x=0.22, y=0.12)
        axes.grid(alpha=0.25)


@contextmanager
def _figure(path: Path, size: tuple[float, float]) -> Iterator[Axes]:
    """Yield axes to draw into and write the file at the end; equal drawings give equal files."""
    with rc_context({"svg.hashsalt": "act2see", "font.size": 9}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the font may lack letters of a query
        figure = Figure(figsize=size, layout="constrained")
        yield figure.add_subplot()
        try:
            figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {error.strerror or error}") from error


def _curve(axes: Axes, curve: Curve) -> None:
    marker = "." if len(curve.seconds) == 1 else None
    axes.plot(curve.seconds, curve.scores, color=_LINE, linewidth=1, marker=marker, label="score", zorder=2)
    axes.axhline(curve.threshold, color=_THRESHOLD, linewidth=0.9, linestyle="--", label=f"threshold {curve.threshold:g}", zorder=1)


def _picks(axes: Axes, frames: Sequence[Frame]) -> None:
    spans = sorted({frame.match.span_seconds for frame in frames if frame.match and frame.match.span_seconds})
    for number, (start, stop) in enumerate(spans):
        axes.axvspan(start, stop, color=_SPAN, alpha=0.35, linewidth=0, label="span" if number == 0 else None, zorder=0)
    for number, frame in enumerate(frames, 1):
        at = (frame.seconds or 0.0, frame.score or 0.0)
        axes.plot(*at, "o", color=_PICK, markersize=5, label="picked" if number == 1 else None, zorder=3)
        time = _clock(at[0])
        text = time if len(frames) == 1 else f"{number}: {time}" if len(frames) <= _TIMES_SHOWN else str(number)
        axes.annotate(text, at, xytext=(0, 6), textcoords="offset points", ha="center", color=_PICK, zorder=4)


def _labels(axes: Axes, curve: Curve, title: str) -> None:
    short = title if len(title) <= _TITLE_LETTERS else title[: _TITLE_LETTERS - 1] + "…"
    axes.set_title(short, loc="left", parse_math=False)
    end = float(curve.seconds[-1])
    axes.set_xlabel("time" if end >= _MINUTE_SECONDS else "time (s)")
    axes.set_ylabel("score")
    axes.set_xlim(0, max(end, 1e-3))
    axes.margins(y=0.18)  # room for the times of the chosen frames
    axes.xaxis.set_major_locator(MaxNLocator(10, steps=[1, 1.5, 2, 3, 6, 10] if end >= _MINUTE_SECONDS else [1, 2, 5, 10]))
    if end >= _MINUTE_SECONDS:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: _minutes(seconds)))
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(loc="upper left", bbox_to_anchor=(1.005, 1), frameon=False)


def _clock(seconds: float) -> str:
    """As `12.34 s`, or from a minute on as `1:12.3`."""
    return f"{seconds:.2f} s" if seconds < _MINUTE_SECONDS else _minutes(seconds, ".1f")


def _minutes(seconds: float, form: str = ".0f") -> str:
    minutes, rest = divmod(float(format(seconds, form)), _MINUTE_SECONDS)
    hours, minutes = divmod(int(minutes), _MINUTE_SECONDS)
    text = f"{rest:{form}}"
    two = text if rest >= 10 else f"0{text}"
    return f"{hours}:{minutes:02d}:{two}" if hours else f"{minutes}:{two}"
