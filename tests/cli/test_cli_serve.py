"""What `act2see serve` refuses before it serves."""

import pytest

from cli_fakes import Act2See, fakes


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--allow-root", "nowhere"), "--allow-root nowhere: no such folder"),
        (("--allow-host", "http://example.org"), "is no host"),
        (("--api-key", " "), "the API key is empty"),
        (("--host", "203.0.113.7"), "cannot listen on 203.0.113.7:0"),
        (("--backend", "nothing"), "no backend 'nothing'"),
    ],
)
def test_what_cannot_be_served_is_one_line(act2see: Act2See, flags: tuple[str, ...], said: str) -> None:
    assert said in act2see("serve", "--port", "0", *flags, *(() if "--backend" in flags else fakes("Direct"))).complaint
