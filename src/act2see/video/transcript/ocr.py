"""Text in pictures by RapidOCR: PP-OCR's detector and recogniser, which its package brings along, on onnxruntime."""

from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
import onnxruntime  # noqa: F401  RapidOCR imports it late, where a missing one would be told in its own words
from numpy.typing import NDArray
from rapidocr import RapidOCR

from act2see.video.transcript.screen import Box, Read

SIDE = 960
"""Pictures are scaled down to this longer side, in pixels, before text is looked for: large titles are missed at full size."""


class RapidReader:
    """A `screen.TextReader`."""

    name = "rapidocr"

    def __init__(self) -> None:
        self._engine = RapidOCR(
            params={
                "Global.log_level": "critical",
                "Global.use_cls": False,
                "Det.limit_side_len": SIDE,
                "Det.limit_type": "max",
                "EngineConfig.onnxruntime.intra_op_num_threads": 1,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            }
        )

    @staticmethod
    def key() -> str:
        """Versions and settings, for the cache."""
        return f"rapidocr {version('rapidocr')} {SIDE}"

    def find(self, picture: NDArray[np.uint8]) -> Sequence[Box]:
        """See `screen.TextReader`."""
        found = self._engine(_bgr(picture), use_det=True, use_cls=False, use_rec=False)
        boxes = getattr(found, "boxes", None)
        if boxes is None:
            return []
        height, width = picture.shape[:2]
        corners = [(box[:, 0].min(), box[:, 1].min(), box[:, 0].max(), box[:, 1].max()) for box in np.asarray(boxes)]
        return [
            Box(max(0, int(left)), max(0, int(top)), min(width, int(right) + 1), min(height, int(bottom) + 1)) for left, top, right, bottom in corners
        ]

    def read(self, picture: NDArray[np.uint8]) -> Read:
        """See `screen.TextReader`."""
        if picture.shape[0] > 1.5 * picture.shape[1]:  # written upwards or downwards; PP-OCR reads the former
            picture = np.rot90(picture)
        found = self._engine(_bgr(picture), use_det=False, use_cls=False, use_rec=True)
        texts, scores = getattr(found, "txts", None), getattr(found, "scores", None)
        return Read(str(texts[0]), float(scores[0])) if texts and scores else Read("", 0.0)


def _bgr(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(picture[:, :, ::-1])
