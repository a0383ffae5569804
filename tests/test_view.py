"""A run's site: its data are complete, every text is escaped, and what cannot be read is told in one line."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from act2see.core.errors import ConfigError, StoreError
from act2see.core.trace import Answer, Cost, Generate, Observation, Retrieve, Step, Thought, Trace
from act2see.curation.qa_records import Reference, reference_row
from act2see.evaluation.compare import compare
from act2see.report.gallery import judgements
from act2see.report.site import PAGE, SCRIPT, write_view
from act2see.storage.runs import JSON, SAMPLES, Run
from page_elements import ATTACKS, initial, parsed, shape, trace
from viewed_runs import FOUND, PAINTED, about, article, data, eval_run, question, rows

CONTROL = "a\x00\x1b[31m\x9b\u202eb\ud800"


def hostile(text: str, number: int = 0) -> Trace:
    steps: list[Step] = [Thought(text), Retrieve(text), Observation((FOUND,)), Generate(text), Observation((PAINTED,)), Retrieve(text)]
    return Trace(
        id=f"{text}{number}",
        video=f"clips/{text}",
        question=text,
        frames=initial(2),
        choices=(text, "other"),
        duration_seconds=4.0,
        steps=[*steps, Observation(error=text), Answer(text)],
        finish="answer",
        cost=Cost(seconds={text: 1.0}),
        made_with={text: text},
    )


# What the site holds


def test_every_question_has_its_row_its_trace_and_its_frames(tmp_path: Path) -> None:
    run = eval_run(tmp_path / "run", 21)
    written = write_view(run)
    site = tmp_path / "run" / "view"
    assert (written.page, written.traces, written.left_out) == (site / PAGE, 21, ())
    found = rows(site)
    assert [row["id"] for row in found] == [*(f"q{number:03}" for number in range(21)), "q-lost"]
    for number, row in enumerate(found[:-1]):
        (side,) = row["sides"]
        page = parsed(article(site, 0, side["at"]))
        assert page.one(css_class="question").text == row["title"] == f"What colour is star {number}?"
        assert row["facets"]["tool"] == [("none", "retrieve", "generate")[number % 3]]
        assert row["facets"]["outcome"] == [side["outcome"]] == ["wrong" if number % 4 == 1 else "correct"]
        assert (row["imagined"], row["sorts"]["tokens"]) == (number % 3 == 2, 12666)
        pictures = [image.attributes["href"] for image in page.all("image")]
        assert pictures
        assert f"frames/{row['thumb']}" in pictures
        for address in pictures:
            assert re.fullmatch(r"frames/[0-9a-f]{64}\.png", address)
            assert (site / address).read_bytes() == (run.folder / address).read_bytes()
    assert found[-1]["sides"] == [
        {"at": None, "outcome": "video_error", "answer": "", "facts": [["error", "clip.mp4 cannot be opened"]]},
    ]
    facets = {facet["name"]: set(facet["values"]) for facet in about(site)["facets"]}
    assert facets == {
        "outcome": {"correct", "wrong", "video_error"},
        "kind": {"even", "odd"},
        "tool": {"none", "retrieve", "generate"},
    }


def test_the_page_loads_its_own_files_alone_and_runs_nothing_inline(tmp_path: Path) -> None:
    write_view(eval_run(tmp_path / "run", 3), out=tmp_path / "site")
    page = parsed((tmp_path / "site" / PAGE).read_text(encoding="utf-8"))
    scripts = [script.attributes["src"] for script in page.all("script")]
    assert scripts == [SCRIPT, "data/about.js", "data/rows-0.js"]
    assert all((tmp_path / "site" / script).is_file() for script in scripts)
    assert not any(script.text for script in page.all("script"))
    assert not any(name.startswith("on") or name == "style" for element in page.all() for name in element.attributes)
    policy = next(meta.attributes["content"] for meta in page.all("meta") if meta.attributes.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert (rules["default-src"], rules["script-src"]) == ("'none'", "'self' file:")
    assert not re.search("https?:", policy + (tmp_path / "site/style.css").read_text() + (tmp_path / "site" / SCRIPT).read_text())


def test_the_right_choice_is_marked_beside_the_chosen_one(tmp_path: Path) -> None:
    wrong = replace(question(1), steps=[Answer("A")])
    write_view(eval_run(tmp_path / "run", 2, traces=[question(0), wrong]))
    marks = [[mark.text for mark in parsed(article(tmp_path / "run/view", 0, at)).all(css_class="mark")] for at in (0, 1)]
    assert marks == [["✓ chosen, right"], ["✗ chosen", "right"]]


def test_scores_over_the_video_are_drawn_where_a_frame_was_chosen_by_them(tmp_path: Path) -> None:
    write_view(eval_run(tmp_path / "run", 2))
    plain, retrieved = (parsed(article(tmp_path / "run/view", 0, at)) for at in (0, 1))
    assert not plain.all(css_class="curve")
    drawing = retrieved.one(css_class="curve").one("svg")
    points = [tuple(map(float, point.split(","))) for point in drawing.one("polyline").attributes["points"].split()]
    assert len(points) == 20
    assert min(points, key=lambda point: point[1]) == (25.0, 1.0)  # 2.5 of 10 seconds
    assert drawing.one("line").attributes["x1"] == "25.0"
    assert "from 0.10 to 0.90; chosen: 2.5 s" in drawing.attributes["aria-label"]


def test_imagined_frames_are_marked_and_off_the_timeline(tmp_path: Path) -> None:
    write_view(eval_run(tmp_path / "run", 3))
    page = parsed(article(tmp_path / "run/view", 0, 2))
    assert page.one("figure", "imagined").one(css_class="badge").text == "IMAGINED, not in the video"
    assert not page.all(css_class="pin")
    assert len(page.all(css_class="dot")) == 3


def test_of_two_traces_with_one_id_the_later_counts(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", command="ask", config={}, seed=None)
    for words in ("earlier", "later"):
        run.append(question(0, words))
    run.append(replace(trace(steps=(), finish=None), id="open"))
    write_view(run)
    found = rows(tmp_path / "run/view")
    assert [(row["title"], row["facets"]["outcome"]) for row in found] == [("later", ["answered"]), ("What colour is the star?", ["unfinished"])]


# Hostile texts


def test_hostile_texts_are_texts(tmp_path: Path) -> None:
    texts = [*ATTACKS, CONTROL, "plain words"]
    run = Run.create(tmp_path / "run", command="eval", config={"benchmark": CONTROL, "name": ATTACKS[0]}, seed=0)
    for text in texts:
        run.append(hostile(text))
    run.write_scores({"id": f"{text}0", "kind": text, "outcome": "wrong", "error": text} for text in texts)
    write_view(run)
    site = tmp_path / "run/view"
    articles = [article(site, 0, at) for at in range(len(texts))]
    for path in (site / "data").iterdir():
        assert "<" not in path.read_text(encoding="ascii")
    for text, html, row in zip(texts, articles, rows(site), strict=True):
        assert shape(parsed(html)) == shape(parsed(articles[-1]))
        shown = text if text != CONTROL else "a[31mb"
        assert (row["title"], row["facets"]["kind"], row["sides"][0]["facts"]) == (shown, [shown], [["error", shown]])
    settings = about(site)["runs"][0]["settings"]
    assert ["benchmark", "a[31mb"] in settings
    assert ["name", ATTACKS[0]] in settings
    assert not re.search("[\x00\x1b\x9b\u202e\ud800]", str(data(site, "rows-0")) + "".join(articles))


def test_long_texts_are_cut_off_in_the_list_and_whole_in_the_trace(tmp_path: Path) -> None:
    write_view(eval_run(tmp_path / "run", 1, traces=[question(0, "long " * 100_000)]))
    assert (tmp_path / "run/view/data/rows-0.js").stat().st_size < 10_000
    assert article(tmp_path / "run/view", 0, 0).count("long ") >= 100_000


def test_a_menu_offers_the_most_frequent_of_many_kinds(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", command="eval", config={}, seed=0)
    run.append(question(0))
    kinds = ["rare", *(f"kind {number % 200}" for number in range(400))]
    run.write_scores({"id": f"q{number}", "kind": kind, "outcome": "video_error"} for number, kind in enumerate(kinds))
    write_view(run)
    (offered,) = [facet["values"] for facet in about(tmp_path / "run/view")["facets"] if facet["name"] == "kind"]
    assert offered == kinds[1:201]
    assert len(rows(tmp_path / "run/view")) == 402


def test_a_folders_name_is_a_text(tmp_path: Path) -> None:
    name = "<img src=x onerror=alert(1)>"
    write_view(eval_run(tmp_path / name, 1))
    page = parsed((tmp_path / name / "view" / PAGE).read_text(encoding="utf-8"))
    assert page.one("h1").text == name
    assert not page.all("img")


class _Addresses(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href", "action", "srcset")]


def test_a_trace_leads_nowhere_but_to_its_own_parts_and_frames(tmp_path: Path) -> None:
    write_view(eval_run(tmp_path / "run", 2, traces=[hostile("https://evil.example/x.png"), hostile("javascript:alert(1)", 1)]))
    for at in (0, 1):
        parser = _Addresses()
        parser.feed(article(tmp_path / "run/view", 0, at))
        assert parser.found
        assert all(re.fullmatch(r"#[\w-]+|frames/[0-9a-f]{64}\.png", address) for address in parser.found)


# Damage


def test_a_damaged_trace_is_told_and_the_others_are_shown(tmp_path: Path) -> None:
    run = eval_run(tmp_path / "run", 4)
    lines = (run.folder / "traces.jsonl").read_bytes().splitlines(keepends=True)
    (run.folder / "traces.jsonl").write_bytes(b"".join([lines[0], b"{}\n", *lines[2:]]))
    thumb = next(path for path in run.frames.run.glob("frames/*.png") if path.name in lines[2].decode() and path.name not in lines[0].decode())
    thumb.write_bytes(b"no picture")
    written = write_view(run)
    assert len(written.left_out) == 2
    assert f"{run.folder / 'traces.jsonl'}:2: " in written.left_out[0]
    assert "cannot be read as a picture" in written.left_out[1]
    assert [row["sides"][0]["at"] for row in rows(tmp_path / "run/view")] == [0, 1, None, None, None]
    assert about(tmp_path / "run/view")["leftOut"] == list(written.left_out)


@pytest.mark.parametrize(("name", "content"), [("scores.jsonl", b'{"id": 1}\n'), ("scores.jsonl", b"{"), ("run.json", b"[]")])
def test_a_damaged_run_is_one_line_and_leaves_nothing(name: str, content: bytes, tmp_path: Path) -> None:
    run = eval_run(tmp_path / "run", 1)
    (run.folder / name).write_bytes(content)
    with pytest.raises(StoreError) as caught:
        write_view(Run.open(run.folder))
    assert len(str(caught.value).splitlines()) == 1
    assert name in str(caught.value)
    assert not [path for path in run.folder.iterdir() if "view" in path.name]


def test_only_an_earlier_site_is_replaced(tmp_path: Path) -> None:
    run = eval_run(tmp_path / "run", 1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / PAGE).write_text("mine")
    with pytest.raises(ConfigError, match="is not empty"):
        write_view(run, out=tmp_path / "mine")
    assert (tmp_path / "mine" / PAGE).read_text() == "mine"
    write_view(run)
    run.append(question(1))
    assert write_view(run).traces == 2
    (tmp_path / "run/view/.git").mkdir()  # published from there
    with pytest.raises(ConfigError, match=r"holds \.git"):
        write_view(run)
    assert (tmp_path / "run/view/.git").is_dir()


# Two runs


def test_two_runs_gain_and_lose_what_compare_says(tmp_path: Path) -> None:
    first, second = eval_run(tmp_path / "a", 12), eval_run(tmp_path / "b", 14, wrong=(0, 2, 5))
    written = write_view(first, second)
    site = tmp_path / "b/view-compared"
    assert (written.page, written.traces) == (site / PAGE, 26)
    expected = compare(first, second).scores
    found = rows(site)
    changed = {change: [row["id"] for row in found if row["facets"]["change"] == [change]] for change in ("gained", "lost", "only in the second run")}
    assert changed == {"gained": list(expected.gained_ids), "lost": list(expected.lost_ids), "only in the second run": list(expected.only_second)}
    told = {name: (n, gained, lost) for name, n, _, _, _, gained, lost, _ in about(site)["comparison"]["rows"]}
    assert told == {name: (one.n, one.gained, one.lost) for name, one in {"all": expected.overall, **expected.by_kind}.items()}
    both = found[0]
    assert [side["outcome"] for side in both["sides"]] == [*both["facets"]["first"], *both["facets"]["second"]] == ["correct", "wrong"]
    for run, side in enumerate(both["sides"]):
        assert parsed(article(site, run, side["at"])).one(css_class="question").text == both["title"]
    ids = {element.attributes["id"] for run in (0, 1) for element in parsed(article(site, run, 0)).all() if "id" in element.attributes}
    assert {"t0-0-question", "t1-0-question"} <= ids  # side by side in one page, no id comes twice
    assert found[-1]["sides"][0] is None


def test_runs_that_cannot_be_compared_are_refused_as_compare_does(tmp_path: Path) -> None:
    asked = Run.create(tmp_path / "asked", command="ask", config={}, seed=None)
    with pytest.raises(ConfigError, match="only runs of act2see eval can be compared"):
        write_view(eval_run(tmp_path / "a", 1), asked)


def construction(folder: Path) -> Run:
    run = Run.create(folder, command="construct", config={"source": "made-up"}, seed=0)
    run.write_rows(SAMPLES, [reference_row(Reference("q", "made-up", "MIT", "v.mp4", "What?", ("red", "blue", "green"), "blue", "colour", None))])
    for number, answer in enumerate("AB"):
        run.append(replace(question(1), id=f"q#{number}", steps=[Answer(answer)]))
    return run


def test_a_construction_shows_why_each_trace_was_rejected(tmp_path: Path) -> None:
    run = construction(tmp_path / "raw")
    kept = Run.create(tmp_path / "kept", command="filter", config={"filtered": {"digest": run.digest}}, seed=None)
    kept.append(replace(question(1), id="q#1", steps=[Answer("B")]))
    rejected: dict[str, JSON] = {"trace": "q#0", "sample": "q", "first": "wrong_answer", "reasons": {"wrong_answer": "red"}, "similarity": 0.25}
    kept.write_rows("rejected.jsonl", [rejected])
    write_view(run)
    assert [row["facets"] for row in rows(tmp_path / "raw/view")] == [
        {"outcome": [name], "kind": ["colour"], "tool": ["none"]} for name in ("wrong", "correct")
    ]
    write_view(run, kept)
    found = {row["id"]: row for row in rows(tmp_path / "kept/view-compared")}
    assert {name: (row["facets"]["filter"], row["facets"].get("reason")) for name, row in found.items()} == {
        "q#0": (["rejected"], ["wrong_answer"]),
        "q#1": (["kept"], None),
    }
    facts = dict(found["q#0"]["sides"][0]["facts"])
    assert facts["rejected: wrong answer"] == "its answer is not the right one (red)"
    write_view(kept)  # alone: the rejected ones' traces are in the source run
    alone = {row["id"]: (row["sides"][0]["at"], row["facets"]["filter"]) for row in rows(tmp_path / "kept/view")}
    assert alone == {"q#1": (0, ["kept"]), "q#0": (None, ["rejected"])}


def test_a_filtering_of_another_run_is_refused(tmp_path: Path) -> None:
    other = Run.create(tmp_path / "kept", command="filter", config={"filtered": {"digest": "0" * 64}}, seed=None)
    with pytest.raises(StoreError, match="was not filtered from"):
        write_view(construction(tmp_path / "raw"), other)


def test_an_audit_marks_the_right_choice_where_a_condition_found_it(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", command="audit", config={"benchmark": "made-up"}, seed=0)
    outcomes = {"q": {"real": "correct", "off": "wrong"}, "p": {"real": "wrong", "off": "wrong"}}
    for name, answer in (("q@real", "B"), ("q@off", "A"), ("p@real", "A"), ("p@off", "A")):
        run.append(replace(question(0), id=name, steps=[Answer(answer)]))
    run.write_scores({"id": name, "kind": "k", "call": None, "looks": 0, "outcomes": dict(found), "errors": {}} for name, found in outcomes.items())
    write_view(run)
    marks = [[mark.text for mark in parsed(article(tmp_path / "run/view", 0, at)).all(css_class="mark")] for at in range(4)]
    assert marks == [["✓ chosen, right"], ["✗ chosen", "right"], ["✓ chosen"], ["✓ chosen"]]


def test_an_audit_finds_the_right_choice_by_its_text_and_past_damaged_rows(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", command="audit", config={"benchmark": "made-up"}, seed=0)
    asked = question(0)
    for name, choices, answer in (("q@real", asked.choices, "B"), ("q@off", asked.choices[::-1], "B"), ("q@blurred", asked.choices, "neither")):
        run.append(replace(asked, id=name, choices=choices, steps=[Answer(answer)]))
    outcomes = {"real": "correct", "off": "wrong", "blurred": "correct"}
    run.write_scores([{"id": "q", "kind": "k", "call": None, "looks": 0, "outcomes": outcomes, "errors": {}}])
    with (tmp_path / "run/traces.jsonl").open("a") as file:
        file.write('{"id": "q@wrong", damaged\n')
    found = judgements(run)
    right = [found.of(trace).right_choice(trace) for _, trace in run.sketches(damaged=[])]
    assert right == [1, len(asked.choices) - 2, 1]


def test_an_audits_conditions_hold_every_question(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", command="audit", config={"benchmark": "made-up"}, seed=0)
    for name, answer in (("q@real", "B"), ("q@off", "A"), ("p@real", "B"), ("p@off", "B"), ("p@random", "A")):
        run.append(replace(question(0), id=name, steps=[Answer(answer)]))
    outcomes = {"q": {"real": "correct", "off": "wrong", "random": "correct"}, "p": {"real": "correct", "off": "correct", "random": "wrong"}}
    run.write_scores({"id": name, "kind": "k", "call": None, "looks": 0, "outcomes": dict(found), "errors": {}} for name, found in outcomes.items())
    write_view(run)
    found = {row["id"]: row for row in rows(tmp_path / "run/view")}
    assert set(found) == {f"{name}@{condition}" for name in "qp" for condition in ("real", "off", "random")}
    assert found["q@random"]["sides"][0]["at"] == found["q@real"]["sides"][0]["at"]  # it changes nothing there
    assert all(row["facets"]["looking"] == ["gained"] for name, row in found.items() if name.startswith("q"))
    assert found["p@random"]["facets"] | {"tool": []} == {
        "outcome": ["wrong"], "kind": ["k"], "tool": [], "condition": ["random"], "call": ["none"], "looking": ["right either way"]
    }  # fmt: skip
