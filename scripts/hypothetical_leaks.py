"""Measures the accuracy of fixed rules on hypothetical questions, without image generation: how much the wording leaks.

    python scripts/hypothetical_leaks.py [--n 600] [--seed 0]

For every kind of edit and fact the best rule on the training split is measured on held-out questions. `sentence` knows the sentence and the choices
alone: a letter, or a number. `frame` also sees one frame as it is, and may name the colour of a shape that the sentence names, or the number that it
counts there plus or minus one. Chance is 25 %. Needs no extra.
"""

import argparse
import json
from collections import Counter
from collections.abc import Callable

from act2see.synthetic.dataset import Item, items
from act2see.synthetic.edits import shapes_of
from act2see.synthetic.hypothetical import Count, Hypothetical, read, seen

Rules = dict[str, str | None]


def main() -> None:
    """Print a line of JSON for each way of guessing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=600, help="number of held-out questions, and of questions to select the rules on")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    train = list(items("train", given.n, given.seed, kinds=("hypothetical",)))
    held_out = list(items("held-out", given.n, given.seed, kinds=("hypothetical",)))
    for name, rules in (("sentence", of_sentence), ("frame", of_frame)):
        print(json.dumps({"guesser": name, "n": given.n, **measured(train, held_out, rules)}))


def asked(item: Item) -> Hypothetical:
    """The item's question."""
    assert isinstance(item.question, Hypothetical)
    return item.question


def kind(item: Item) -> str:
    """What a rule is chosen for."""
    return f"{type(asked(item).edit).__name__} {asked(item).asked}"


def of_sentence(item: Item) -> Rules:
    """What can be said without any frame, by the rule's name."""
    question = asked(item)
    letters: Rules = {f"choice {number}": choice for number, choice in enumerate(question.choices)}
    return letters | ({f"count {number}": str(number) for number in range(4)} if question.asked == "count" else {})


def of_frame(item: Item) -> Rules:
    """What can be said from the first frame that could be edited, as it is."""
    question = asked(item)
    things = seen(item.clip, question.anchors[0])
    if isinstance(question.fact, Count):
        number = int(read(question.fact, things) or 0)
        return of_sentence(item) | {"one more": str(number + 1), "one less": str(number - 1)}
    named = [next(thing[0] for thing in things if thing[1] == shape) for shape in shapes_of(question.edit)]
    return of_sentence(item) | {f"named shape {place}": colour for place, colour in enumerate(named)}


def measured(train: list[Item], held_out: list[Item], rules: Callable[[Item], Rules]) -> dict[str, object]:
    """The best rule of each kind of question, and how often it is right on held-out ones, by what is asked and in all."""
    wins: dict[str, Counter[str]] = {}
    for item in train:
        wins.setdefault(kind(item), Counter()).update(name for name, said in rules(item).items() if said == asked(item).answer)
    best = {name: found.most_common(1)[0][0] for name, found in wins.items()}
    right, total = Counter[str](), Counter[str]()
    for item in held_out:
        about = asked(item).asked
        total.update((about, "all"))
        if rules(item).get(best[kind(item)]) == asked(item).answer:
            right.update((about, "all"))
    return {"rules": best, "right": {name: round(right[name] / total[name], 3) for name in sorted(total)}}


if __name__ == "__main__":
    main()
