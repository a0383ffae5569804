"""One trace as one self-contained HTML page: no script, no network, every text escaped; traces and runs as fragments for notebooks."""

from act2see.report.notebook import run_html, trace_html
from act2see.report.page import render_report, write_report
from act2see.report.view import why_no_answer

__all__ = ["render_report", "run_html", "trace_html", "why_no_answer", "write_report"]
