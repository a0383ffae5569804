"""The available benchmarks: download, source, licence, whether training on them is allowed, and the options that each has.

act2see downloads none of them: most require an agreement, and none may be redistributed by us.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from act2see.benchmarks.options import BenchmarkOption, OptionValue, parse_declared
from act2see.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Entry:
    """One benchmark, described for a user who has not downloaded it yet."""

    name: str
    title: str
    about: str
    download: str
    """The question files and the location of the videos, relative to the folder given with --data."""
    source: str
    licence: str
    training: Literal["yes", "no", "ask"]
    """Whether training on it is allowed: yes, no (an evaluation set, or forbidden by its licence), or ask the authors."""
    why: str
    """The reason for `training`."""
    loader: str | None = None
    """`module:Class` under `act2see.benchmarks`; None if the benchmark needs no data."""
    options: tuple[BenchmarkOption, ...] = ()
    """The options of this benchmark alone."""


CATALOGUE: tuple[Entry, ...] = (
    Entry(
        name="synthetic",
        title="Synthetic world",
        about="held-out questions about small synthetic clips; 300 by default (--n)",
        download="nothing: the clips are generated on demand",
        source="this package",
        licence="Apache-2.0",
        training="no",
        why="held out; `act2see synthetic` writes clips to train on",
        options=(
            BenchmarkOption(
                "kind",
                "choices",
                "Kinds of questions, asked in turn.",
                default=("static", "transient"),
                choices=("static", "transient", "hypothetical", "order", "flashes", "digit"),
            ),
        ),
    ),
    Entry(
        name="video-mme",
        title="Video-MME",
        about="2,700 questions about 900 videos of seconds to an hour; four options; with or without subtitles",
        download="videomme/test-*.parquet (or .json, .jsonl), videos in data/ID.mp4, subtitles in subtitle/ID.srt",
        source="https://huggingface.co/datasets/lmms-lab/Video-MME",
        licence="academic research only; redistribution is forbidden, in whole or in part",
        training="no",
        why="an evaluation set",
        loader="videomme:VideoMME",
        options=(BenchmarkOption("subtitles", "flag", "Append the video's subtitles to the question.", default=False),),
    ),
    Entry(
        name="videoespresso",
        title="VideoEspresso",
        about="1,382 questions of 14 tasks; four options",
        download="bench_hard.json, and the videos at the paths that it contains",
        source="https://github.com/hshjerry/VideoEspresso",
        licence="none stated",
        training="no",
        why="an evaluation set without a licence",
        loader="videoespresso:VideoEspresso",
    ),
    Entry(
        name="vitib",
        title="ViTIB (ViTCoT)",
        about="1,382 questions of 14 tasks, most likely VideoEspresso's; four options",
        download="src/vitcot_data.jsonl and, beside it, all_video/ (from the Hub's all_video.zip)",
        source="https://github.com/BRZ911/ViTCoT",
        licence="none stated",
        training="no",
        why="an evaluation set without a licence",
        loader="vitib:ViTIB",
    ),
    Entry(
        name="egonormia",
        title="EgoNormia",
        about="1,853 egocentric clips; three questions each: what to do, why, and which actions are sensible",
        download="final_data.json (or the .parquet table), clips in video/ID/video_prev.mp4",
        source="https://huggingface.co/datasets/open-social-world/EgoNormia",
        licence="CC BY-SA 4.0 on the Hub, MIT in the repository; the clips are Ego4D's, under its own licence",
        training="no",
        why="an evaluation set",
        loader="egonormia:EgoNormia",
        options=(
            BenchmarkOption(
                "given",
                "choice",
                "Behaviour to justify: own (the one that the model chose, as in the official scripts) or right (the correct one).",
                default="own",
                choices=("own", "right"),
            ),
        ),
    ),
    Entry(
        name="vcr-bench",
        title="VCR-Bench",
        about="1,034 questions of 7 dimensions about 859 videos: options, times, boxes, and open answers scored by a judge",
        download="meta_info_video.json, and the videos at the paths that it contains",
        source="https://github.com/zhishuifeiqian/VCR-Bench",
        licence="none stated",
        training="no",
        why="an evaluation set without a licence",
        loader="vcrbench:VCRBench",
        options=(
            BenchmarkOption("answer_judge", "text", "Judge for open answers, named like a backend; without it, only a verbatim answer is correct."),
            BenchmarkOption("judge_prompts", "path", "The data set's own eval_code/prompt.py, to use its judge prompts instead of ours."),
            BenchmarkOption(
                "official_judge",
                "flag",
                "Also compute the official accuracy and reasoning scores, with four judge calls per answer; needs answer_judge.",
                default=False,
            ),
        ),
    ),
    Entry(
        name="minerva",
        title="MINERVA",
        about="1,515 questions about YouTube videos, each with human-written reasoning; five options",
        download="minerva.json, videos in videos/YOUTUBE_ID.mp4 (.webm, .mkv, .mov)",
        source="https://github.com/google-deepmind/neptune",
        licence="CC BY 4.0 for questions and reasoning; the videos belong to their YouTube authors",
        training="yes",
        why="CC BY 4.0, with attribution",
        loader="minerva:Minerva",
    ),
    Entry(
        name="causalvqa",
        title="CausalVQA",
        about="cause and effect in real videos, each question asked twice, paraphrased; five choices",
        download="the CSV of the debug set (with answers) or the test set (without), and its videos/",
        source="https://github.com/facebookresearch/CausalVQA",
        licence="Ego-Exo4D licence, must be signed",
        training="no",
        why="its data card allows evaluation only",
        loader="causalvqa:CausalVQA",
    ),
    Entry(
        name="social-genome",
        title="Social Genome",
        about="1,486 social questions about one-minute clips; four options; the answers are not published",
        download="qa_test.json, and the clips of Social-IQ 2.0 in videos/NAME.mp4",
        source="https://github.com/CMU-MultiComp-Lab/social-genome",
        licence="none stated",
        training="ask",
        why="no licence, and answers and reasoning are not published",
        loader="social_genome:SocialGenome",
    ),
    Entry(
        name="jsonl",
        title="Your own questions",
        about="any data set as JSON lines (docs/benchmarks.md)",
        download="questions.jsonl, and the videos at the paths that it contains",
        source="you",
        licence="the field `licence` of each line",
        training="ask",
        why="depends on the licence of each line",
        loader="jsonl:JsonLines",
    ),
)

BY_NAME: dict[str, Entry] = {entry.name: entry for entry in CATALOGUE}


def parse_options(benchmark: str, given: Mapping[str, str]) -> dict[str, OptionValue]:
    """The options of a benchmark of the catalogue, from texts by name; an option that is not given has its default.

    Raises `ConfigError` for an unknown benchmark, an option that it does not have, or a value that is not allowed.
    """
    entry = BY_NAME.get(benchmark)
    if entry is None:
        if not given:
            return {}
        raise ConfigError(f"benchmark {benchmark!r} declares no options: remove {', '.join(given)} (options exist for {_with_options()})")
    return parse_declared(benchmark, entry.options, given)


def _with_options() -> str:
    return ", ".join(entry.name for entry in CATALOGUE if entry.options)
