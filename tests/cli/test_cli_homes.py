"""A path that begins with the home of somebody who is not there is a folder of that name, which is not there either."""

from pathlib import Path

import pytest

from act2see.core import naming
from act2see.core.errors import ConfigError
from cli_fakes import Act2See

NOBODY = "~nobody-of-that-name"


@pytest.mark.parametrize(
    "arguments",
    [
        ("score", f"{NOBODY}/run"),
        ("score", "--cases", f"{NOBODY}/cases.jsonl"),
        ("compare", f"{NOBODY}/run", f"{NOBODY}/run"),
        ("tradeoff", f"{NOBODY}/run"),
        ("contamination", f"{NOBODY}/run", "--against", "minerva"),
        ("ask", "clip.mp4", "Why?", "--config", f"{NOBODY}/config.toml"),
        ("retrieve", "clip.mp4", "x", "--retriever", f"siglip:{NOBODY}/model"),
        ("eval", "minerva", "--data", f"{NOBODY}/data"),
    ],
)
def test_the_home_of_nobody(act2see: Act2See, arguments: tuple[str, ...]) -> None:
    assert NOBODY in act2see(*arguments).complaint


def test_the_home_of_somebody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    assert naming.split_spec("retriever", "siglip:~/model", ("siglip:DIR", "x")) == ("siglip", str(tmp_path / "model"))
    with pytest.raises(ConfigError, match="no folder ~0/a/b"):
        naming.split_spec("retriever", "siglip:~0/a/b", ("siglip:DIR", "x"))
