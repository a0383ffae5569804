"""`act2see view`: where the site is, what is told of damage, and the pages that link to it."""

import re
import webbrowser
from pathlib import Path

import pytest

from act2see.storage.runs import Run
from cli_fakes import Act2See
from page_elements import parsed
from viewed_runs import about, eval_run, rows

EVAL = ("eval", "eval_fakes:Many", "--backend", "eval_fakes:Steady", "--retriever", "eval_fakes:Finder", "--patience-seconds", "0", "--limit", "4")


def test_the_page_is_printed_and_opened_on_request(act2see: Act2See, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def note(address: str) -> bool:
        opened.append(address)
        return True

    monkeypatch.setattr(webbrowser, "open", note)
    eval_run(tmp_path / "run", 2)
    assert act2see("view", "run") == (0, "run/view/index.html\n", "")
    assert opened == []
    done = act2see("view", "run", "--out", "site", "--open")
    assert (done.code, done.out, opened) == (0, "site/index.html\n", [(tmp_path / "site/index.html").as_uri()])


def test_damage_is_told_in_one_line(act2see: Act2See, tmp_path: Path) -> None:
    run = eval_run(tmp_path / "run", 2)
    with (run.folder / "traces.jsonl").open("ab") as file:
        file.write(b"{}\n")
    done = act2see("view", "run")
    assert (done.code, done.out) == (0, "run/view/index.html\n")
    assert done.err.startswith("act2see: note: 1 traces cannot be read and are left out; the first: ")
    assert "traces.jsonl:3: " in done.err
    (run.folder / "scores.jsonl").write_text("{")
    done = act2see("view", "run")
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)


@pytest.mark.parametrize(
    ("folders", "said"), [(("none",), "no run in none"), (("run", "none"), "no run in none"), (("run", "asked"), "only runs of act2see")]
)
def test_what_cannot_be_viewed_is_one_line(folders: tuple[str, ...], said: str, act2see: Act2See, tmp_path: Path) -> None:
    eval_run(tmp_path / "run", 1)
    Run.create(tmp_path / "asked", command="ask", config={}, seed=None)
    done = act2see("view", *folders)
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert said in done.err


@pytest.mark.usefixtures("own_clip")
def test_eval_writes_its_own_view(act2see: Act2See) -> None:
    done = act2see(*EVAL, "--out", "run", "--view")
    assert done.code == 0
    assert done.out.splitlines()[-1] == "run/view/index.html"
    assert [row["id"] for row in rows(Path("run/view"))] == ["q000", "q001", "q002", "q003"]
    assert about(Path("run/view"))["runs"][0]["command"] == "eval"
    refused = act2see(*EVAL, "--view")
    assert (refused.code, refused.out) == (1, "")
    assert "add --out" in refused.err


@pytest.mark.usefixtures("own_clip")
def test_an_audits_figures_link_to_their_questions_once_there_is_a_view(act2see: Act2See) -> None:
    assert act2see("audit", *EVAL[1:], "--out", "run").code == 0
    page = Path("run/audit.html")
    before = page.read_text(encoding="utf-8")
    assert not parsed(before).all("a")
    assert act2see("view", "run").code == 0
    links = [link.attributes["href"] for link in parsed(page.read_text(encoding="utf-8")).all("a")]
    assert "view/index.html#condition=real&looking=gained" in links
    assert re.sub(r'<a href="view/[^>]*>|</a>', "", page.read_text(encoding="utf-8")).replace('role="group"', 'role="img"') == before
    shown = {(row["facets"]["condition"][0], row["facets"]["outcome"][0]) for row in rows(Path("run/view"))}
    linked = {tuple(re.findall(r"=([^&]+)", link)) for link in links if "&outcome=" in link}
    assert {(condition.replace("+", " "), outcome) for condition, outcome in linked} == shown
    Path("run/summary.json").write_text("[]", encoding="utf-8")
    done = act2see("view", "run")
    assert (done.code, done.err.count("\n")) == (0, 1)
    assert "keeps its links: summary.json and costs.json in run are not those of an audit" in done.err
