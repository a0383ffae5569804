"""What an evaluation runs with: the tools that a config names, or controls in their place."""

from threading import Semaphore
from typing import assert_never

from act2see import registry
from act2see.config import EvalConfig, SourceConfig
from act2see.core.interfaces import Backend, Benchmark, Generator, Retriever
from act2see.evaluation.evaluator import Evaluator
from act2see.evaluation.frame_controls import OracleFrames, RandomFrames, WithheldFrames
from act2see.evaluation.picture_controls import UneditedAnchor


def evaluator(
    config: SourceConfig,
    benchmark: Benchmark,
    backend: Backend,
    tools: tuple[Retriever | None, Generator | None],
    turns: Semaphore | None = None,
) -> Evaluator:
    """An evaluator with what a config says beside benchmark, backend and tools."""
    return Evaluator(
        benchmark,
        backend,
        *tools,
        fps=config.fps,
        loop=registry.loop_options(config),
        max_frames=config.max_frames,
        insert=config.insert,
        scope=registry.scope(config),
        turns=turns,
    )


def imaginer(config: EvalConfig, found_by: Retriever | None) -> Generator | None:
    """What brings pictures in an evaluation: the generator that the config names, or the anchor as it is."""
    if config.frames == "unedited":
        return UneditedAnchor()
    return registry.generator(config.generator, config, found_by)


def tools(config: SourceConfig) -> tuple[Retriever | None, Generator | None]:
    """What brings frames and what brings pictures for many questions."""
    found = looker(config)
    return found, imaginer(config, found) if isinstance(config, EvalConfig) else registry.generator(config.generator, config, found)


def looker(config: SourceConfig) -> Retriever | None:
    """What brings frames for many questions: the retriever that the config names, or in an evaluation one of those that show whether frames matter.

    None where nothing may be looked for.
    """
    if not isinstance(config, EvalConfig):
        return registry.retriever(config.retriever, config) if config.max_looks else None
    if not (config.max_looks or config.insert):
        return None
    match config.frames:
        case "real" | "unedited":
            return registry.retriever(config.retriever, config)
        case "random":
            return RandomFrames(fps=config.retrieve_fps, seed=config.seed or 0)
        case "oracle":
            return OracleFrames(fps=config.retrieve_fps)
        case "withheld":
            return WithheldFrames()
        case _:
            assert_never(config.frames)
