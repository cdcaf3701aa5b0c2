"""Schemathesis sends generated requests to every operation; each answer must be one that the OpenAPI document has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from config.settings import ImportSettings, StagingSettings
from tests.fakes.images_api import ApiMaker, ImagesApi
from tests.fakes.keystone import Keystone
from transship.api.patch import MEDIA_TYPES
from transship.domain.methods import OFFERED

HOOKS = f"""
import hypothesis
import schemathesis

# Requests must not depend on answers; and the search that this would start fails if a request becomes shorter.
hypothesis.target = lambda *_, **__: 0.0

schemathesis.serializer.alias({list(MEDIA_TYPES)}, "application/json")
"""

CONFIGURATION = """
seed = 14
hooks = "hooks.py"
color = false
suppress-health-check = ["all"]
warnings = false
continue-on-failure = true

[generation]
max-examples = 15
no-shrink = true
database = "none"

[checks]
enabled = false
not_a_server_error.enabled = true
status_code_conformance.enabled = true
content_type_conformance.enabled = true
response_schema_conformance.enabled = true
negative_data_rejection = { enabled = true, expected-statuses = ["4xx"] }
ignored_auth.enabled = true

[dictionaries.images]
values = IMAGES

[parameters]
"path.image_id" = { dictionary = "images", probability = 0.7 }
"path.store" = { dictionary = "stores", probability = 0.7 }

[dictionaries.stores]
values = ["fast", "archive"]
"""

FORMATS = {"disk_format": "raw", "container_format": "bare"}
OCTETS = {"Content-Type": "application/octet-stream"}
SECTIONS = {
    "imports": ImportSettings(enabled_methods=OFFERED),
    "staging": StagingSettings(free_floor_bytes=0),
}


def images(api: ImagesApi, headers: dict[str, str]) -> list[str]:
    """Make a queued, a staged, an active and a deactivated image that no generated request deletes."""
    made = []
    for part in ("", "stage", "file", "file"):
        image = api.client.post("/v2/images", json={**FORMATS, "protected": True}, headers=headers).json()
        made.append(str(image["id"]))
        if part:
            url = f"/v2/images/{image['id']}/{part}"
            api.client.put(url, content=b"data", headers={**headers, **OCTETS}).raise_for_status()
    api.client.post(f"/v2/images/{made[-1]}/actions/deactivate", headers=headers).raise_for_status()
    return made


def assert_as_documented(api: ImagesApi, directory: Path, headers: dict[str, str]) -> None:
    (directory / "hooks.py").write_text(HOOKS)
    configuration = CONFIGURATION.replace("IMAGES", json.dumps(images(api, headers)))
    (directory / "schemathesis.toml").write_text(configuration)
    url = str(api.client.base_url).rstrip("/")
    sent = [argument for name, value in headers.items() for argument in ("--header", f"{name}: {value}")]
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", *sent]
    own = {**os.environ, "NO_PROXY": "*", "PYTHONPATH": str(directory)}
    done = subprocess.run(command, check=False, cwd=directory, env=own, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    paths = api.client.get("/openapi.json").json()["paths"]
    # It does not request the document again.
    tested = sum(len(methods) for path, methods in paths.items() if path != "/openapi.json")
    assert f"{tested} selected / {tested} total" in done.stdout


def test_every_answer_to_generated_requests_is_documented(make_api: ApiMaker, tmp_path: Path) -> None:
    assert_as_documented(make_api(**SECTIONS), tmp_path, {})


def test_every_answer_to_a_member_is_documented(make_api: ApiMaker, tmp_path: Path) -> None:
    with Keystone() as keystone:
        api = make_api(api={"auth": "keystone"}, auth=keystone.section, **SECTIONS)
        assert_as_documented(api, tmp_path, {"X-Auth-Token": keystone.token("demo", roles=["member", "reader"])})
