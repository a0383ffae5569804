"""A run's traces as data for other trainers, and as one table that they can be rebuilt from."""

from act2see.curation.export.formats import RENDERINGS, Format, rendering_of
from act2see.curation.export.writing import ExportResult, Skipped, export_run

__all__ = ["RENDERINGS", "ExportResult", "Format", "Skipped", "export_run", "rendering_of"]
