"""A real Keystone, and the real Glance of a second region, on loopback: installed from PyPI, on SQLite, stopped by pid.

with OpenStack(directory) as cloud:
    cloud.endpoint("image", "RegionOne", url_of_ours)
    there = cloud.connect(region="RegionTwo")     # openstacksdk, as the member alice of the project demo
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.error import URLError
from urllib.request import urlopen

import openstack

from tests.fakes.ports import free_port
from tests.fakes.system import until

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".peers" / "openstack"
ADMIN_PASSWORD, SERVICE_PASSWORD, USER_PASSWORD = "admin-secret", "glance-secret", "alice-secret"
PATIENCE_S = 300.0

KEYSTONE_CONF = """
[DEFAULT]
log_file = {home}/keystone.log
[database]
connection = sqlite:///{home}/keystone.db
[token]
provider = fernet
[fernet_tokens]
key_repository = {home}/fernet-keys
[fernet_receipts]
key_repository = {home}/fernet-keys
[credential]
key_repository = {home}/credential-keys
[identity]
password_hash_rounds = 4
[cache]
enabled = true
backend = dogpile.cache.memory
[oslo_policy]
policy_dirs = {home}/policy.d
"""

GLANCE_CONF = """
[DEFAULT]
log_file = {home}/glance.log
enabled_backends = disk:file
[database]
connection = sqlite:///{home}/glance.db
[glance_store]
default_backend = disk
[disk]
filesystem_store_datadir = {home}/images
[os_glance_staging_store]
filesystem_store_datadir = {home}/staging
[os_glance_tasks_store]
filesystem_store_datadir = {home}/tasks
[keystone_authtoken]
www_authenticate_uri = {keystone}
auth_url = {keystone}
auth_type = password
username = glance
password = {password}
project_name = service
user_domain_id = default
project_domain_id = default
service_token_roles_required = true
[paste_deploy]
flavor = keystone
config_file = {environment}/etc/glance/glance-api-paste.ini
[oslo_concurrency]
lock_path = {home}/locks
[oslo_policy]
policy_dirs = {home}/policy.d
"""


SERVE = """
import sys
from importlib import import_module
from waitress import serve
module, port = sys.argv[1:]
del sys.argv[1:]  # the services read it as their own
serve(import_module(module).application, host="127.0.0.1", port=int(port), threads=4)
"""


class OpenStack:
    """Keystone with projects `service` and `demo`, a member alice, a service account glance, and a Glance in RegionTwo.

    Args:
        home: empty directory for configuration, databases, keys and images.

    Attributes:
        auth_url: of Keystone.
        glance_url, glance_port: where the Glance listens.
        pool: directory of its file store.
        staging: directory in which it stages what is to be imported.
        configuration: the file that it runs with.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._keystone_port, self._glance_port = free_port(), free_port()
        self._processes: list[subprocess.Popen[bytes]] = []
        self.auth_url = f"http://127.0.0.1:{self._keystone_port}/v3"
        self.glance_url = f"http://127.0.0.1:{self._glance_port}"
        self.glance_port = self._glance_port
        self.pool, self.staging = home / "images", home / "staging"
        self.configuration = home / "glance-api.conf"

    @property
    def service_login(self) -> dict[str, str]:
        """Options of ``auth`` for a service that asks this Keystone."""
        return {
            "auth_url": self.auth_url,
            "username": "glance",
            "password": SERVICE_PASSWORD,
            "project_name": "service",
        }

    @property
    def openrc(self) -> dict[str, str]:
        """Variables with which clients are alice, in RegionOne."""
        return {
            "OS_AUTH_URL": self.auth_url,
            "OS_IDENTITY_API_VERSION": "3",
            "OS_USERNAME": "alice",
            "OS_PASSWORD": USER_PASSWORD,
            "OS_PROJECT_NAME": "demo",
            "OS_USER_DOMAIN_ID": "default",
            "OS_PROJECT_DOMAIN_ID": "default",
            "OS_REGION_NAME": "RegionOne",
        }

    def connect(self, user: str = "alice", region: str = "RegionOne") -> Any:
        """Return openstacksdk's connection of a user."""
        project, password = ("admin", ADMIN_PASSWORD) if user == "admin" else ("demo", USER_PASSWORD)
        return openstack.connect(
            auth_url=self.auth_url,
            username=user,
            password=password,
            project_name=project,
            user_domain_id="default",
            project_domain_id="default",
            region_name=region,
            identity_api_version="3",
        )

    def endpoint(self, kind: str, region: str, url: str) -> None:
        """Put a service into the catalogue of every token."""
        identity = self.connect("admin").identity
        if identity.find_region(region) is None:
            identity.create_region(id=region)
        service = next(identity.services(type=kind), None) or identity.create_service(type=kind, name=kind)
        for interface in ("public", "internal"):
            identity.create_endpoint(service_id=service.id, interface=interface, region_id=region, url=url)

    def __enter__(self) -> Self:
        subprocess.run([ROOT / "scripts" / "openstack-environment", ENVIRONMENT], check=True, stdin=subprocess.DEVNULL)
        try:
            self._start_keystone()
            self._seed()
            self._start_glance()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _start_keystone(self) -> None:
        home = self._home
        for name in ("fernet-keys", "credential-keys", "policy.d", "images", "staging", "tasks", "locks"):
            (home / name).mkdir(mode=0o700)
        (home / "keystone.conf").write_text(KEYSTONE_CONF.format(home=home))
        owner = ["--keystone-user", str(os.getuid()), "--keystone-group", str(os.getgid())]
        self._manage("keystone", "db_sync")
        self._manage("keystone", "fernet_setup", *owner)
        self._manage("keystone", "bootstrap", "--bootstrap-password", ADMIN_PASSWORD,
                     "--bootstrap-region-id", "RegionOne", "--bootstrap-public-url", self.auth_url,
                     "--bootstrap-internal-url", self.auth_url)  # fmt: skip
        self._serve("keystone.wsgi.api", self._keystone_port, {"OS_KEYSTONE_CONFIG_DIR": str(home)})
        until(lambda: self._answers(self.auth_url), PATIENCE_S, "Keystone answers")

    def _seed(self) -> None:
        identity = self.connect("admin").identity
        roles = {role.name: role for role in identity.roles()}
        accounts = {"glance": ("service", SERVICE_PASSWORD, "service"), "alice": ("demo", USER_PASSWORD, "member")}
        for name, (project_name, password, role) in accounts.items():
            project = identity.create_project(name=project_name, domain_id="default")
            user = identity.create_user(name=name, password=password, domain_id="default")
            identity.assign_project_role_to_user(project, user, roles[role])
        self.endpoint("image", "RegionTwo", self.glance_url)

    def _start_glance(self) -> None:
        home = self._home
        values = {"keystone": self.auth_url, "password": SERVICE_PASSWORD, "environment": ENVIRONMENT, "home": home}
        self.configuration.write_text(GLANCE_CONF.format(**values))
        self._manage("glance", "db_sync")
        self._serve("glance.wsgi.api", self._glance_port, {"OS_GLANCE_CONFIG_DIR": str(home)})
        until(lambda: self._answers(f"{self.glance_url}/healthcheck"), PATIENCE_S, "Glance answers")

    def _manage(self, name: str, *arguments: str) -> None:
        file = {"keystone": "keystone.conf", "glance": "glance-api.conf"}[name]
        command = [ENVIRONMENT / "bin" / f"{name}-manage", "--config-file", self._home / file, *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE_S, stdin=subprocess.DEVNULL, check=False
        )
        assert done.returncode == 0, f"{name}-manage {arguments[0]}: {done.stderr[-4000:]}"

    def _serve(self, module: str, port: int, environment: Mapping[str, str]) -> None:
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        with (self._home / f"{module.partition('.')[0]}.out").open("wb") as out:
            self._processes.append(
                subprocess.Popen(
                    [ENVIRONMENT / "bin" / "python", "-c", SERVE, module, str(port)],
                    env={**kept, "HOME": str(self._home), **environment},
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    cwd=self._home,
                    start_new_session=True,
                )
            )

    def _answers(self, url: str) -> bool:
        ended = [process.args for process in self._processes if process.poll() is not None]
        assert not ended, f"ended: {ended}; {self.last_words()}"
        try:
            with urlopen(url, timeout=30):
                return True
        except (URLError, OSError):
            return False

    def last_words(self) -> str:
        """Return the ends of all logs."""
        logs = sorted([*self._home.glob("*.log"), *self._home.glob("*.out")])
        return "\n".join(f"{path.name}: {path.read_text(errors='replace')[-3000:]}" for path in logs)

    def _stop(self) -> None:
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
