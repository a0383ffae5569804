"""act2see's loop as a model of lmms-eval, which finds it by its entry point (`lmms_eval_plugin.manifest`). See `docs/lmms-eval.md`.

python -m lmms_eval --model act2see --model_args backend=micro,max_looks=1,out=runs/lmms --tasks TASK --output_path results
"""

import inspect
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn, Protocol

from lmms_eval.api.instance import GenerationResult, TokenCounts
from lmms_eval.api.model import lmms
from tqdm import tqdm

from act2see.core.interfaces import Sample
from act2see.integrations.lmms_eval import Answering, Reply, Settings, asked, refuse_batches, refuse_cache, refuse_processes

_LOG = logging.getLogger(__name__)


class Request(Protocol):
    """As much of lmms-eval's `Instance` as is read."""

    @property
    def args(self) -> tuple[str, object, Callable[[object], Sequence[object]], object, str, str]:
        """The question, its gen_kwargs, what gives its videos, its number, its task and its split."""
        ...


class Act2See(lmms):  # type: ignore[misc]  # lmms-eval has no annotations
    """Runs the loop once per request. Settings are those of `act2see eval`, with underscores; unknown ones are rejected."""

    def __init__(self, batch_size: object = 1, max_batch_size: object = None, **model_args: object) -> None:
        super().__init__()
        refuse_cache(inspect.currentframe())
        refuse_processes(os.environ)
        refuse_batches(batch_size, max_batch_size)
        self._answering = Answering(Settings.read(model_args))
        self._asked: Counter[tuple[str, str, object]] = Counter()

    def generate_until(self, requests: list[Request]) -> list[GenerationResult]:
        """The final answer's text for each request, empty where there is none; a task's gen_kwargs are not read.

        A request that shows no video file is a `ConfigError`.
        """
        refuse_cache(inspect.currentframe())  # for a model that was made before the evaluation
        replies: dict[int, Reply] = dict(tqdm(self._answering.answer(self._samples(requests)), "questions", len(requests)))
        errors = [reply.error for reply in replies.values() if reply.error]
        if errors:
            _LOG.warning("%d of %d questions failed and are left without an answer; the first: %s", len(errors), len(requests), errors[0])
        in_order = [replies[number] for number in range(len(requests))]
        return [GenerationResult(reply.text, TokenCounts(reply.tokens_in, reply.tokens_out)) for reply in in_order]

    def loglikelihood(self, requests: list[Request]) -> NoReturn:
        """Raises `NotImplementedError`."""
        raise NotImplementedError("act2see does not compute log-likelihoods: choose a task of output_type generate_until")

    def generate_until_multi_round(self, requests: list[Request]) -> NoReturn:
        """Raises `NotImplementedError`."""
        raise NotImplementedError("act2see does not support multi-round tasks: choose a task of output_type generate_until")

    def _samples(self, requests: list[Request]) -> Iterator[Sample]:
        for request in requests:
            context, _, doc_to_visual, doc_id, task, split = request.args
            visuals = doc_to_visual(self.task_dict[task][split][doc_id])
            yield asked(context, visuals, task, split, doc_id, turn=self._asked[task, split, doc_id])
            self._asked[task, split, doc_id] += 1
