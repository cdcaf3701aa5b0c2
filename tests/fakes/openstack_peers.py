"""A real Keystone and a real Glance on loopback: installed from PyPI, on SQLite, stopped by pid.

with OpenStack(directory) as cloud:
    cloud.endpoint("image", "RegionOne", url_of_ours)
    there = cloud.connect(region="RegionTwo")     # openstacksdk, as the member alice of the project demo

with Glance(directory, {"blocks:rbd": {"rbd_store_pool": pool}}) as glance:    # without Keystone: every caller is admin
    requests.get(f"{glance.url}/v2/images")
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
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

SERVE = """
import sys
from importlib import import_module
from waitress import serve
module, port = sys.argv[1:]
del sys.argv[1:]  # the services read it as their own
serve(import_module(module).application, host="127.0.0.1", port=int(port), threads=4)
"""


@dataclass(frozen=True)
class Account:
    """A user, and the project in which it has a role."""

    project: str
    role: str
    password: str = USER_PASSWORD


ACCOUNTS = {
    "glance": Account("service", "service", SERVICE_PASSWORD),
    "alice": Account("demo", "member"),
    "rita": Account("demo", "reader"),
    "bob": Account("alt", "member"),
}

Options = Mapping[str, Mapping[str, object]]


class Service:
    """A service of OpenStack: its configuration, its process, which ends when the service is left, and its logs.

    Args:
        name: of its Python package.
        home: existing directory for its files, of which those of other services have other names.

    Attributes:
        url, port: where it listens.
        configuration: the file that it runs with.
    """

    def __init__(self, name: str, home: Path, configuration: str) -> None:
        self._name, self.home = name, home
        self.configuration = home / configuration
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def manage(self, *arguments: str) -> None:
        """Run the command with which an operator prepares the service."""
        command = [ENVIRONMENT / "bin" / f"{self._name}-manage", "--config-file", self.configuration, *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE_S, stdin=subprocess.DEVNULL, check=False
        )
        assert done.returncode == 0, f"{self._name}-manage {arguments[0]}: {done.stderr[-4000:]}"

    def serve(self, module: str, path: str) -> None:
        """Start the service, and wait until it answers at a path."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        where = {"HOME": str(self.home), f"OS_{self._name.upper()}_CONFIG_DIR": str(self.home)}
        with (self.home / f"{self._name}.out").open("wb") as out:
            self._process = subprocess.Popen(
                [ENVIRONMENT / "bin" / "python", "-c", SERVE, module, str(self.port)],
                env={**kept, **where},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=self.home,
                start_new_session=True,
            )

        def answers() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, self.last_words()
            try:
                with urlopen(self.url + path, timeout=30):
                    return True
            except (URLError, OSError):
                return False

        try:
            until(answers, PATIENCE_S, f"{self._name} answers")
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def last_words(self) -> str:
        """Return the ends of its logs."""
        logs = [self.home / f"{self._name}.{kind}" for kind in ("log", "out")]
        return "\n".join(f"{path.name}: {path.read_text(errors='replace')[-3000:]}" for path in logs if path.exists())


class Glance(Service):
    """A Glance on SQLite: send it one request after the other.

    Args:
        home: existing directory for configuration, database and staging.
        stores: their options, by id and type (``disk:file``) as in ``enabled_backends``; the first is the default.
        options: further options by section; without ``keystone_authtoken`` every caller is admin.

    Attributes:
        staging: directory in which it stages what is to be imported.
    """

    def __init__(self, home: Path, stores: Options, options: Options | None = None) -> None:
        super().__init__("glance", home, "glance-api.conf")
        self.staging = home / "staging"
        self._stores, self._options = stores, options or {}

    def __enter__(self) -> Self:
        install()
        home, backends = self.home, {name.partition(":")[0]: options for name, options in self._stores.items()}
        for directory in (self.staging, home / "tasks", home / "locks", home / "policy.d"):
            directory.mkdir(mode=0o700, exist_ok=True)
        sections: dict[str, Mapping[str, object]] = {
            "DEFAULT": {"log_file": home / "glance.log", "enabled_backends": ", ".join(self._stores)},
            "database": {"connection": f"sqlite:///{home}/glance.db"},
            "glance_store": {"default_backend": next(iter(backends))},
            **backends,
            "os_glance_staging_store": {"filesystem_store_datadir": self.staging},
            "os_glance_tasks_store": {"filesystem_store_datadir": home / "tasks"},
            "paste_deploy": {"config_file": ENVIRONMENT / "etc" / "glance" / "glance-api-paste.ini"},
            "oslo_concurrency": {"lock_path": home / "locks"},
            "oslo_policy": {"policy_dirs": home / "policy.d"},
        }
        if "keystone_authtoken" not in self._options:
            (home / "policy.d" / "everyone.yaml").write_text('context_is_admin: ""\n')
        for section, options in self._options.items():
            sections[section] = {**sections.get(section, {}), **options}
        with self.configuration.open("w") as out:
            for section, options in sections.items():
                out.writelines([f"[{section}]\n", *(f"{option} = {value}\n" for option, value in options.items())])
        self.manage("db_sync")
        self.serve("glance.wsgi.api", "/healthcheck")
        return self


class OpenStack:
    """Keystone with an administrator and the `ACCOUNTS`, and a Glance in RegionTwo.

    Args:
        home: empty directory for configuration, databases, keys and images.

    Attributes:
        auth_url: of Keystone.
        glance: the Glance.
        pool: directory of its file store.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._stack = ExitStack()
        self._keystone = Service("keystone", home, "keystone.conf")
        self.auth_url = f"{self._keystone.url}/v3"
        self.pool = home / "images"
        self.glance = Glance(
            home,
            {"disk:file": {"filesystem_store_datadir": self.pool}},
            self.glance_options,
        )

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
    def glance_options(self) -> Options:
        """Options with which a Glance asks this Keystone."""
        login = {"auth_type": "password", "user_domain_id": "default", "project_domain_id": "default"}
        asks = {"www_authenticate_uri": self.auth_url, "service_token_roles_required": True}
        return {"keystone_authtoken": {**asks, **login, **self.service_login}, "paste_deploy": {"flavor": "keystone"}}

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
        account = Account("admin", "admin", ADMIN_PASSWORD) if user == "admin" else ACCOUNTS[user]
        return openstack.connect(
            auth_url=self.auth_url,
            username=user,
            password=account.password,
            project_name=account.project,
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
        install()
        with ExitStack() as stack:
            stack.push(self._keystone)
            self._start_keystone()
            self._seed()
            stack.enter_context(self.glance)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _start_keystone(self) -> None:
        home, keystone = self._home, self._keystone
        for name in ("fernet-keys", "credential-keys", "policy.d", "images"):
            (home / name).mkdir(mode=0o700)
        keystone.configuration.write_text(KEYSTONE_CONF.format(home=home))
        owner = ["--keystone-user", str(os.getuid()), "--keystone-group", str(os.getgid())]
        keystone.manage("db_sync")
        keystone.manage("fernet_setup", *owner)
        keystone.manage("bootstrap", "--bootstrap-password", ADMIN_PASSWORD, "--bootstrap-region-id", "RegionOne",
                        "--bootstrap-public-url", self.auth_url, "--bootstrap-internal-url", self.auth_url)  # fmt: skip
        keystone.serve("keystone.wsgi.api", "/v3")

    def _seed(self) -> None:
        identity = self.connect("admin").identity
        roles = {role.name: role for role in identity.roles()}
        names = {account.project for account in ACCOUNTS.values()}
        projects = {name: identity.create_project(name=name, domain_id="default") for name in sorted(names)}
        for name, account in ACCOUNTS.items():
            user = identity.create_user(name=name, password=account.password, domain_id="default")
            identity.assign_project_role_to_user(projects[account.project], user, roles[account.role])
        self.endpoint("image", "RegionTwo", self.glance.url)

    def last_words(self) -> str:
        """Return the ends of all logs."""
        return f"{self._keystone.last_words()}\n{self.glance.last_words()}"


def install() -> None:
    """Install Keystone and Glance into `ENVIRONMENT`, unless they are there."""
    subprocess.run([ROOT / "scripts" / "openstack-environment", ENVIRONMENT], check=True, stdin=subprocess.DEVNULL)
