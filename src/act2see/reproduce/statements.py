"""What the paper reports on each experiment, and what our small one says and does not say about full-size models."""

from dataclasses import dataclass

from act2see.reproduce.plan import Experiment


@dataclass(frozen=True, slots=True)
class Statement:
    """The words around an experiment's tables."""

    title: str
    paper: str
    says: str
    says_not: str


STATEMENTS: dict[Experiment, Statement] = {
    "a": Statement(
        "Tools",
        "Video-MME: text only 71.9, retrieve only 72.8, generate only 72.4, both 73.7. VCR-Bench, counterfactual / factual / all: no tool "
        "35.5 / 38.5 / 38.2, retrieve 43.4 / 45.8 / 45.6, generate 56.0 / 37.7 / 39.6, both 56.2 / 46.1 / 47.1.",
        "Which kind of question each tool answers, when a model is trained on traces with this tool: the questions are made so that a static "
        "one needs no look, a transient one a retrieved frame and a hypothetical one a generated picture.",
        "How large the gain is elsewhere. Here every transient question needs a look, the tools are nearly perfect, and the model has seen "
        "looks once.",
    ),
    "b": Statement(
        "Trained against inserted only (ViTCoT)",
        "Video-MME: frames inserted without training 70.2, trained (on both tools) 74.2; ViTIB 59.9 and 63.3.",
        "Whether a frame that is put before the reasoning, by the question's own words, replaces a look that the model asks for.",
        "Whether ViTCoT's own procedure would do better: this is the retriever's best frame among the initial ones, without its prompt.",
    ),
    "c": Statement(
        "Filters and the teacher's noise",
        "The source's quality decides: human-labelled sources 73.7, sources written by a language model 68.6. The filters are not ablated one "
        "by one.",
        "Whether filtering helps a student when the teacher's faults are known, at two rates of faults.",
        "Which of a real teacher's faults matter: ours are scripted, and most of them cannot be told from a good trace by its answer alone. "
        "Filtered arms have fewer traces and so fewer steps: the number stands beside the accuracy. Similarity is by bag of words above 0.3, "
        "not BGE-M3 above 0.80. Traces that quote the reference pass: the rule `leak` is off, because good traces share the reference's captions.",
    ),
    "d": Statement(
        "Amount of data, and when calling on need appears",
        "3,373 traces, 47.67 % of them with a frame; no curve over the amount is given.",
        "After how many traces and steps the base model calls where it must, and not where it need not.",
        "When a model that never saw a look would begin: ours has seen looks once, so that calling returns sooner than it would be learned.",
    ),
    "e": Statement(
        "Looks, frame rates and the choice of the frame",
        "One look. Base at 1 fps (210 frames) 38.2, Act2See at 0.5 fps (106 frames) 38.7 for 877 against 1,025 TFLOPs. The middle frame of "
        "the segment.",
        "What fewer initial frames cost a model that may look, against one that may not, and whether the rule that picks the frame matters.",
        "The full-size trade: our clips last 4 to 12 seconds, so that a look costs as much as a tenth of the input, and a grounded segment has a "
        "handful of frames.",
    ),
    "f": Statement(
        "What the paper did not measure",
        "Of 127 generated frames 13 were wrong (10.2 %), 7 of them in meaning.",
        "Whether the answers rest on the frames that were brought (placebo frames), what a look costs in tokens, and what a wrong picture costs.",
        "How faithful a full-size generator is: ours paints one world of coloured shapes, and a judge refuses its worst pictures.",
    ),
}

BASE = (
    "The base model of a, b, c, d and f is the embedded model of the package, trained on text-only reasoning until it does not call: it is "
    "offered both tools in training, never uses them, and admits that it guesses. The embedded model itself calls tools, so its weights have "
    "seen looks once. A gain here therefore says that looking can be taught back with a few traces, not how much data it takes from nothing. "
    "Experiment e and no other uses the embedded model as it is."
)
TEACHER = (
    "Traces come from a scripted teacher that knows the clip and uses the real tools. Its traces without a fault are in the words of the "
    "embedded model's own training, those with a fault in other words. It reads every frame rightly unless it has drawn a fault."
)
NOT_RUN = (
    "Not run: a base model trained by reinforcement or without reasoning (out of reach at this size), and the human reasoning in the "
    "teacher's prompt (`act2see construct --show-reference`), which says something about a real teacher only: the scripted one does not read "
    "its prompt."
)
INTERVALS = (
    "Means are over all seeds and questions. An interval is 95 % over questions, clustered by video: Wilson's for shares, a paired bootstrap "
    "for differences, t for other numbers. With several seeds it is widened by the t interval of the seeds' means. With one seed it says "
    "nothing about other trainings."
)
