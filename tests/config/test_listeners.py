"""The addresses at which this machine reaches its own listeners."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.settings import Settings

HOSTS = {
    "127.0.0.1": "127.0.0.1",
    "0.0.0.0": "127.0.0.1",
    "": "127.0.0.1",
    "::": "[::1]",
    "0:0:0:0:0:0:0:0": "[::1]",
    "::1": "[::1]",
    "2001:db8::5": "[2001:db8::5]",
    "192.0.2.5": "192.0.2.5",
    "localhost": "localhost",
    "images.example.org": "images.example.org",
}


@pytest.mark.parametrize("public_endpoint", ["", "https://images.example.org/glance"])
@pytest.mark.parametrize(("host", "reached"), HOSTS.items())
def test_listeners_are_reached_on_loopback_or_where_they_listen(
    tmp_path: Path, host: str, reached: str, public_endpoint: str
) -> None:
    api = {"host": host, "port": 9393, "public_endpoint": public_endpoint, "accept_anyone": True}
    settings = Settings.model_validate({"home": tmp_path, "api": api, "prefect": {"host": host, "port": 4300}})
    assert settings.api_url == f"http://{reached}:9393"
    assert settings.prefect_api_url == f"http://{reached}:4300/api"


def test_a_prefect_run_by_others_is_reached_at_its_address(tmp_path: Path) -> None:
    prefect = {"api_url": "https://prefect.example/api/", "host": "0.0.0.0"}
    assert Settings.model_validate({"home": tmp_path, "prefect": prefect}).prefect_api_url == (
        "https://prefect.example/api"
    )
