"""Which benchmarks there are: what of each is to be downloaded and from where, under which licence, and whether it may be trained on.

Nothing here is downloaded by act2see: most of these data sets ask for an agreement, and none of them is ours to pass on.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Entry:
    """One benchmark, for a reader who has yet to fetch it."""

    name: str
    title: str
    about: str
    download: str
    """The files of questions, and where the videos go, below the folder that --data names."""
    source: str
    licence: str
    training: Literal["yes", "no", "ask"]
    """Whether it may be trained on: yes, no (an evaluation set, or its licence says so), or ask its makers."""
    why: str
    """Where the word on training comes from."""
    loader: str | None = None
    """`module:Class` under `act2see.benchmarks`; None for what needs no data."""


CATALOGUE: tuple[Entry, ...] = (
    Entry(
        name="synthetic",
        title="Synthetic world",
        about="held-out questions about small made-up clips; 300 unless --n says otherwise",
        download="nothing: the clips are made as they are needed",
        source="this package",
        licence="Apache-2.0",
        training="no",
        why="held out; `act2see synthetic` writes clips to train on",
    ),
    Entry(
        name="video-mme",
        title="Video-MME",
        about="2,700 questions about 900 videos of seconds to an hour; four options; with or without subtitles",
        download="videomme/test-*.parquet (or .json, .jsonl), videos in data/ID.mp4, subtitles in subtitle/ID.srt",
        source="https://huggingface.co/datasets/lmms-lab/Video-MME",
        licence="academic research only; not to be passed on, in whole or in part",
        training="no",
        why="an evaluation set",
        loader="videomme:VideoMME",
    ),
    Entry(
        name="videoespresso",
        title="VideoEspresso",
        about="1,382 questions of 14 tasks; four options",
        download="bench_hard.json, and the videos under the paths that it names",
        source="https://github.com/hshjerry/VideoEspresso",
        licence="none stated",
        training="no",
        why="an evaluation set; nothing is granted",
        loader="videoespresso:VideoEspresso",
    ),
    Entry(
        name="vitib",
        title="ViTIB (ViTCoT)",
        about="1,382 questions of 14 tasks, very probably VideoEspresso's; four options",
        download="src/vitcot_data.jsonl and, beside it, all_video/ (from the Hub's all_video.zip)",
        source="https://github.com/BRZ911/ViTCoT",
        licence="none stated",
        training="no",
        why="an evaluation set; nothing is granted",
        loader="vitib:ViTIB",
    ),
    Entry(
        name="egonormia",
        title="EgoNormia",
        about="1,853 clips seen through a person's eyes; three questions each: what to do, why, and what would be sensible",
        download="final_data.json (or the .parquet table), clips in video/ID/video_prev.mp4",
        source="https://huggingface.co/datasets/open-social-world/EgoNormia",
        licence="CC BY-SA 4.0 on the Hub, MIT in the repository; the clips are Ego4D's, under its own licence",
        training="no",
        why="an evaluation set",
        loader="egonormia:EgoNormia",
    ),
    Entry(
        name="vcr-bench",
        title="VCR-Bench",
        about="1,034 questions of 7 dimensions about 859 videos: options, times, boxes, and open ones that a judge scores",
        download="meta_info_video.json, and the videos under the paths that it names",
        source="https://github.com/zhishuifeiqian/VCR-Bench",
        licence="none stated",
        training="no",
        why="an evaluation set; nothing is granted",
        loader="vcrbench:VCRBench",
    ),
    Entry(
        name="minerva",
        title="MINERVA",
        about="1,515 questions about YouTube videos, each with a person's reasoning; five options",
        download="minerva.json, videos in videos/YOUTUBE_ID.mp4 (.webm, .mkv, .mov)",
        source="https://github.com/google-deepmind/neptune",
        licence="CC BY 4.0 for questions and reasoning; the videos belong to those who put them on YouTube",
        training="yes",
        why="CC BY 4.0, with attribution",
        loader="minerva:Minerva",
    ),
    Entry(
        name="causalvqa",
        title="CausalVQA",
        about="causes and effects in real videos, each question asked twice in other words; five choices",
        download="the CSV of the debug set (with answers) or the test set (without), and its videos/",
        source="https://github.com/facebookresearch/CausalVQA",
        licence="Ego-Exo4D licence, to be signed",
        training="no",
        why="its data card allows evaluation only",
        loader="causalvqa:CausalVQA",
    ),
    Entry(
        name="social-genome",
        title="Social Genome",
        about="1,486 social questions about one-minute clips; four options; the answers are kept by its makers",
        download="qa_test.json, and the clips of Social-IQ 2.0 in videos/NAME.mp4",
        source="https://github.com/CMU-MultiComp-Lab/social-genome",
        licence="none stated",
        training="ask",
        why="nothing is granted, and answers and reasoning are not published",
        loader="social_genome:SocialGenome",
    ),
    Entry(
        name="jsonl",
        title="Your own questions",
        about="any data set, written as JSON lines (docs/benchmarks.md)",
        download="questions.jsonl, and the videos under the paths that it names",
        source="you",
        licence="what the field `licence` of each line says",
        training="ask",
        why="each line's licence decides",
        loader="jsonl:JsonLines",
    ),
)

BY_NAME: dict[str, Entry] = {entry.name: entry for entry in CATALOGUE}
