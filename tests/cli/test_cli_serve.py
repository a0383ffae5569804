"""What `act2see serve` and `act2see mcp` refuse before they serve."""

import sys

import pytest

from cli_fakes import Act2See, fakes


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--allow-root", "nowhere"), "--allow-root nowhere: no such folder"),
        (("--allow-host", "http://example.org"), "is no host"),
        (("--proxy-host", "https://video.example"), "--proxy-host is 'https://video.example'; it must be one host's name"),
        (("--proxy-host", "video.example:443"), "without a scheme, a port"),
        (("--api-key", " "), "the API key is empty"),
        (("--host", "203.0.113.7"), "cannot listen on 203.0.113.7:0"),
        (("--backend", "nothing"), "no backend 'nothing'"),
        (("--replicas", "2"), "--replicas 2 is for a server on Ray: add --ray local"),
        (("--replica-gpus", "0.5"), "--replica-gpus 0.5 is for a server on Ray"),
    ],
)
def test_what_cannot_be_served_is_one_line(act2see: Act2See, flags: tuple[str, ...], said: str) -> None:
    assert said in act2see("serve", "--port", "0", *flags, *(() if "--backend" in flags else fakes("Direct"))).complaint


@pytest.mark.parametrize(
    ("command", "missing", "loaded", "said"),
    [
        (("serve",), "python_multipart", (), "act2see serve needs python_multipart: pip install 'act2see[serve]'"),
        (("serve",), "starlette.applications", ("act2see.serving.serve", "act2see.serving.app"), "pip install 'act2see[serve]'"),
        (
            ("serve", "--ray", "local"),
            "ray.serve.exceptions",
            ("act2see.serving.replicas", "ray.serve"),
            "act2see serve --ray needs",  # without the extra installed it is another package that is missing
        ),
        (("mcp", "."), "mcp.server.mcpserver", ("act2see.serving.mcp_server",), "act2see mcp needs mcp: pip install 'act2see[mcp]'"),
    ],
)
def test_a_missing_extra_is_named(
    act2see: Act2See, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], missing: str, loaded: tuple[str, ...], said: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    for name in loaded:
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert said in act2see(*command).complaint


@pytest.mark.parametrize(("arguments", "said"), [(("nowhere",), "FOLDER nowhere"), ((".", "--backend", "nothing"), "no backend 'nothing'")])
def test_what_no_assistant_can_be_given_is_one_line(act2see: Act2See, arguments: tuple[str, ...], said: str) -> None:
    assert said in act2see("mcp", *arguments).complaint
