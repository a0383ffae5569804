"""A run's traces as data for other trainers, and as one table that they can be rebuilt from."""

from act2see.curation.export.formats import RENDERINGS, Format, rendering_of
from act2see.curation.export.writing import Exported, Skipped, Stored, count, export, stored

__all__ = ["RENDERINGS", "Exported", "Format", "Skipped", "Stored", "count", "export", "rendering_of", "stored"]
