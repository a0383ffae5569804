"""Exports a run's traces for other trainers, or as a Parquet table from which they can be rebuilt."""

from act2see.curation.export.formats import RENDERINGS, Format, rendering_of
from act2see.curation.export.writing import ExportResult, Skipped, export_run

__all__ = ["RENDERINGS", "ExportResult", "Format", "Skipped", "export_run", "rendering_of"]
