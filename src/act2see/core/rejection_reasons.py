"""Reasons to reject a trace as training data."""

from collections.abc import Mapping
from typing import Literal

Reason = Literal[
    "no_answer",
    "unknown_answer",
    "wrong_answer",
    "no_reference",
    "unlike_reference",
    "format",
    "failed_call",
    "useless_call",
    "early_answer",
    "leak",
    "duplicate_frame",
    "unfaithful_frame",
    "by_hand",
    "internal_error",
    "kept_already",
]
"""Rejection reasons. If several apply, the first in this order is counted."""
MEANINGS: Mapping[Reason, str] = {
    "no_answer": "it ends without an answer, or its answer names none of the choices for sure",
    "unknown_answer": "the right answer is not known",
    "wrong_answer": "its answer is not the right one",
    "no_reference": "there is no person's reasoning to compare it with",
    "unlike_reference": "its text is too little like the person's reasoning",
    "format": "a malformed call, a stray tag, or thinking without its marks",
    "failed_call": "a call brought an error instead of a frame",
    "useless_call": "the text after a frame never speaks of it",
    "early_answer": "the answer is given before the frame that it should rest on",
    "leak": "words are copied from the person's reasoning, or it is spoken of",
    "duplicate_frame": "a call brought a frame that had been seen already",
    "unfaithful_frame": "nothing has checked that a generated frame shows what was asked for",
    "by_hand": "somebody looked at it and rejected it",
    "internal_error": "it could not be judged, by a fault of act2see's",
    "kept_already": "an earlier try at the same question is kept",
}
