"""``transship doctor``: check everything that imports need, and name a remedy for each problem."""

from __future__ import annotations

import os
import platform
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from config.loading import LoadedSettings
from config.secrets import PREFECT_KEY_FILE, prefect_auth_file
from config.settings import Settings, StoreSettings
from config.settings.stores import kind_of
from config.snapshot import Snapshot
from deployments.definition import definition_file, read_definitions
from transship.catalog.engine import Catalog, database_url
from transship.catalog.hosts import hosts
from transship.catalog.inventories import inventories
from transship.catalog.notifications import Backlog, backlog
from transship.catalog.verifications import damaged_copies
from transship.commands.api_address import api_address, leads_here, serves_others
from transship.commands.configuration import refuse_what_cannot_start, refuse_what_fails_imports, what_differs
from transship.commands.context import GREEN, RED, YELLOW, Invocation, coloured, print_json
from transship.commands.images_api import ImagesApi
from transship.commands.prefect_http import PrefectHttp
from transship.commands.status import SHOWN_WAITS, host_text, wait_lines
from transship.domain.errors import (
    ConfigurationRefused,
    ServiceRefused,
    ServiceUnreachable,
    TransferFailed,
    TransshipError,
    human_size,
)
from transship.host.ports import require_free_port
from transship.host.runner_status import read_runner_status, runner_status_path
from transship.notify.sink import wanted_sinks
from transship.runner.prefect_server import NOTE_FILE, read_note
from transship.staging.opening import staging_problem
from transship.stores.base import Room
from transship.stores.pool import DRIVERS
from transship.stores_in_force import explained, store_problem, stores_in_force, stores_left
from transship.supervisor.home import is_locked

OLDEST_PYTHON: Final = (3, 11)
CONVERSION_PLUGIN: Final = "image_conversion"


class Level(StrEnum):
    """The result of a check."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


COLOURS: Final = {Level.OK: GREEN, Level.WARN: YELLOW, Level.FAIL: RED}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        subject: what was checked.
        text: what was found; unless it is ok, also what to do about it.
    """

    level: Level
    subject: str
    text: str


Check = Callable[[Settings], Iterator[Finding]]


def doctor(invocation: Invocation, *, as_json: bool = False) -> int:
    """Print a line for each finding; return 1 if anything failed, else 0."""
    snapshot, loaded = invocation.snapshot(), invocation.in_force()
    findings = []
    for check in (lambda _: check_settings(loaded, snapshot), *CHECKS):
        for finding in check(loaded.settings):
            findings.append(finding)
            if not as_json:
                level = coloured(f"{finding.level:<4}", COLOURS[finding.level])
                print(f"{level}  {finding.subject:<18} {finding.text}", flush=True)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    return 1 if any(finding.level is Level.FAIL for finding in findings) else 0


def check_settings(loaded: LoadedSettings, snapshot: Snapshot | None) -> Iterator[Finding]:
    """Check what would stop a start, or a reload of what runs.

    Args:
        loaded: in force.
        snapshot: settings of what runs; None: nothing runs.
    """
    if snapshot is not None:
        text = what_differs(snapshot, refuse_what_cannot_start if snapshot.supervised else refuse_what_fails_imports)
        level, same = (Level.WARN, "") if text else (Level.OK, "the settings in force match the files")
        yield Finding(level, "settings", text or same)
        return
    try:
        refuse_what_cannot_start(loaded)
    except ConfigurationRefused as refused:
        yield Finding(Level.FAIL, "settings", str(refused))
    else:
        yield Finding(Level.OK, "settings", ", ".join(map(str, loaded.files)) or "no configuration file is used")


def check_python(settings: Settings) -> Iterator[Finding]:
    """Check the interpreter."""
    if sys.version_info >= OLDEST_PYTHON:
        yield Finding(Level.OK, "python", platform.python_version())
    else:
        yield Finding(Level.FAIL, "python", f"{platform.python_version()} is too old; use 3.11 or newer")


def check_programs(settings: Settings) -> Iterator[Finding]:
    """Check the programs that imports run."""
    for tool in ("setpriv", "prlimit"):
        if shutil.which(tool):
            yield Finding(Level.OK, tool, str(shutil.which(tool)))
        else:
            yield Finding(Level.FAIL, tool, "is missing; apt-get install util-linux")
    yield qemu_img_finding(settings)
    yield lha_finding(settings)


def qemu_img_finding(settings: Settings) -> Finding:
    """Check qemu-img; it is required only if conversion is configured."""
    needed = CONVERSION_PLUGIN in settings.imports.plugins
    missing = Level.FAIL if needed else Level.WARN
    command = shutil.which(settings.conversion.qemu_img)
    if command is None:
        return Finding(missing, "qemu-img", "is missing, so nothing can be converted; apt-get install qemu-utils")
    try:
        answer = subprocess.run((command, "--version"), capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return Finding(missing, "qemu-img", f"{command} does not run: {error}; apt-get install --reinstall qemu-utils")
    return Finding(Level.OK, "qemu-img", answer.stdout.splitlines()[0])


def lha_finding(settings: Settings) -> Finding:
    """Check the program that unpacks LHA files; only imports of such files need it."""
    command = shutil.which(settings.decompression.lha_command)
    if command is None:
        missing = f"{settings.decompression.lha_command} is missing, so LHA files are refused; apt-get install lhasa"
        return Finding(Level.WARN, "lha", missing)
    return Finding(Level.OK, "lha", command)


def check_quotas(settings: Settings) -> Iterator[Finding]:
    """Check that the limits of projects can be read in Keystone, if it has them."""
    if settings.quota.unified_limits:
        # oslo.limit takes a third of a second, so it is only loaded if it is used.
        from transship.identity.unified_limits import UnifiedLimits  # noqa: PLC0415

        problem = UnifiedLimits(settings).problem()
        yield Finding(Level.FAIL if problem else Level.OK, "unified limits", problem or "registered in Keystone")


def check_room(settings: Settings) -> Iterator[Finding]:
    """Compare the free space of home and staging with the minimum that imports leave free."""
    floor = settings.staging.free_floor_bytes
    places = {"home": settings.home, "staging": settings.staging_dir}
    for name, directory in places.items():
        # The directory may not exist before something is written to it.
        free = shutil.disk_usage(_existing(directory)).free
        yield room_finding(name, Room(str(directory), free), floor)


def room_finding(name: str, room: Room, floor_bytes: int) -> Finding:
    """Compare the free space of a place with the minimum that imports leave free."""
    text = f"{room.where}: {human_size(room.free_bytes)} free"
    if room.free_bytes > floor_bytes:
        return Finding(Level.OK, name, text)
    limit = f"staging.free_floor_bytes is {human_size(floor_bytes)}"
    return Finding(Level.FAIL, name, f"{text}, {limit}, so imports are refused; free some space")


def check_ports(settings: Settings) -> Iterator[Finding]:
    """Check that the ports are free, unless this service uses them already or does not listen here."""
    if serves_others(settings):
        return
    ports = {"api.port": (settings.api.host, settings.api.port)}
    if not settings.prefect.api_url:
        ports["prefect.port"] = (settings.prefect.host, settings.prefect.port)
    for option, (host, port) in ports.items():
        if is_locked(settings):
            yield Finding(Level.OK, option, f"{port} of {host} is used by this service")
            continue
        try:
            require_free_port(host, port, option)
        except ConfigurationRefused as error:
            yield Finding(Level.FAIL, option, error.told)
        else:
            yield Finding(Level.OK, option, f"{port} of {host} is free")


def check_home(settings: Settings) -> Iterator[Finding]:
    """Check who may read the home directory and its secrets."""
    if not settings.home.exists():
        yield Finding(Level.OK, "permissions", f"{settings.home} will be created at the first start")
        return
    if not settings.home.is_dir():
        yield Finding(Level.FAIL, "home", f"{settings.home} is not a directory; set TRANSSHIP_HOME to one")
        return
    private = {settings.home: 0o700, prefect_auth_file(settings): 0o600, settings.home / PREFECT_KEY_FILE: 0o600}
    wide = []
    for path, mode in private.items():
        found = stat.S_IMODE(path.stat().st_mode) if path.exists() else mode
        if found & ~mode:
            wide.append(f"chmod {mode:o} {path}")
    if wide:
        yield Finding(Level.FAIL, "permissions", f"other users can read secrets; run {'; '.join(wide)}")
    else:
        yield Finding(Level.OK, "permissions", f"{settings.home} is not readable by other users")


def check_catalog(settings: Settings) -> Iterator[Finding]:
    """Check the catalogue as it is: a check creates no tables and migrates none."""
    try:
        # Without the query, in which libpq takes passwords too.
        url = database_url(settings).set(query={}).render_as_string()
        catalog = Catalog.as_it_is(settings)
    except ConfigurationRefused as error:
        yield Finding(Level.FAIL, "catalogue", str(error))
        return
    if catalog is None:
        yield Finding(Level.OK, "catalogue", f"{url} will be created or upgraded at the next start")
        yield from uncreated(settings)
        return
    try:
        yield Finding(Level.OK, "catalogue", f"{url}, id {catalog.id()}")
        for store_id, store in stores_in_force(settings, catalog).items():
            yield store_finding(settings, catalog, store_id, store)
        for left in stores_left(settings, catalog):
            yield Finding(Level.FAIL if left.alone else Level.WARN, f"store {left.store}", left.problem)
        if problem := staging_problem(settings, catalog):
            yield Finding(Level.FAIL, "staging", problem)
        with catalog.read() as connection:
            yield from map(notification_finding, backlog(connection, wanted_sinks(settings.notifications)))
        yield from _damage(catalog)
        yield from _strays(catalog)
        yield from _waits(catalog)
    finally:
        catalog.close()


def uncreated(settings: Settings) -> Iterator[Finding]:
    """Report directories that the first start could not create."""
    places = [("home", settings.home), ("staging", settings.staging_dir)]
    for store_id, store in settings.all_stores.items():
        places += [(f"store {store_id}", each) for several in store.directories().values() for each in several]
    for name, directory in places:
        above = _existing(directory)
        if not above.is_dir():
            yield Finding(Level.FAIL, name, f"{above} is not a directory; set another one")
        elif not os.access(above, os.W_OK | os.X_OK, effective_ids=True):
            yield Finding(Level.FAIL, name, f"{directory} cannot be created in {above}; let this account write there")


def store_finding(settings: Settings, catalog: Catalog, store_id: str, store: StoreSettings) -> Finding:
    """Check whether this host can write to a store, and how much space is free there."""
    name = f"store {store_id}"
    if problem := store_problem(catalog, store_id, store):
        return Finding(Level.FAIL, name, problem)
    try:
        with DRIVERS.using(store_id, store, catalog.id()) as driver:
            room = driver.room()
    except TransferFailed as fault:
        return Finding(Level.FAIL, name, explained(fault, store_id, store))
    if room is None:
        return Finding(Level.OK, name, "is only read" if kind_of(store).read_only else "can be written")
    return room_finding(name, room, settings.staging.free_floor_bytes)


def _damage(catalog: Catalog) -> Iterator[Finding]:
    with catalog.read() as connection:
        found = damaged_copies(connection)
    remedy = "run 'verify-images' with repair in Prefect"
    texts = [f"image {copy.image_id} in store {copy.store}: {copy.damage}; {remedy}" for copy in found]
    yield from _first_of([Finding(Level.FAIL, "damaged copy", text) for text in texts])


def _first_of(findings: Sequence[Finding]) -> Iterator[Finding]:
    """Yield the first of many findings of one level, and how many more there are."""
    yield from findings[:SHOWN_WAITS]
    if len(findings) > SHOWN_WAITS:
        yield Finding(findings[0].level, findings[0].subject, f"and {len(findings) - SHOWN_WAITS} more")


def _strays(catalog: Catalog) -> Iterator[Finding]:
    with catalog.read() as connection:
        found = [inventory for inventory in inventories(connection) if inventory.strays]
    if not found:
        yield Finding(Level.OK, "unknown files", "none in stores and staging")
    for inventory in found:
        text = f"{inventory.strays} in {inventory.place}, left alone; first: {', '.join(inventory.names[:3])}"
        yield Finding(Level.WARN, "unknown files", text)


def _waits(catalog: Catalog) -> Iterator[Finding]:
    with catalog.read() as connection:
        known, waits = hosts(connection), wait_lines(connection)
    for host in known:
        if host.alive:
            yield Finding(Level.OK, "host", f"{host.name} is alive, {host.slots} imports at a time")
        else:
            yield Finding(Level.WARN, "host gone", host_text(host))
    yield from _first_of([Finding(Level.WARN, f"{what} waits", text) for what, text in waits])


def notification_finding(found: Backlog) -> Finding:
    """Return whether a notification driver delivers."""
    if found.reason:
        text = f"{found.text}; they are sent once that is fixed"
        return Finding(Level.WARN, f"notify {found.sink}", text)
    return Finding(Level.WARN if found.dropped else Level.OK, f"notify {found.sink}", found.text)


def check_prefect(settings: Settings) -> Iterator[Finding]:
    """Check Prefect's server, and that it has the work pool, workers, deployments and blocks."""
    if not settings.prefect.api_url and not is_locked(settings):
        yield Finding(Level.WARN, "prefect", "is not running; 'transship up' starts it")
        return
    try:
        prefect = PrefectHttp.of(settings)
        yield Finding(Level.OK, "prefect", f"{prefect.url}: version {prefect.version()}")
        if not settings.prefect.api_url:
            yield prefect_writes_finding(settings)
        yield from _prefect_contents(settings, prefect)
    except (ConfigurationRefused, ServiceUnreachable, ServiceRefused) as error:
        yield Finding(Level.FAIL, "prefect", str(error))


def prefect_writes_finding(settings: Settings) -> Finding:
    """Return how the supervised server writes: on SQLite, Prefect's own way answers 503 under load."""
    name = "prefect writes"
    if settings.prefect.database_url.get_secret_value():
        return Finding(Level.OK, name, "to the database of prefect.database_url")
    note = read_note(settings.run_dir / NOTE_FILE)
    if note is not None and note.immediate:
        return Finding(Level.OK, name, "to SQLite, one at a time")
    reason = "there is no record of how the server was started" if note is None else note.reason
    remedy = "simultaneous imports are slow; use a supported release of Prefect, or PostgreSQL"
    return Finding(Level.WARN, name, f"to SQLite in Prefect's own way: {reason}; {remedy}")


def _prefect_contents(settings: Settings, prefect: PrefectHttp) -> Iterator[Finding]:
    pool = settings.prefect.work_pool
    if prefect.pool_type(pool) is None:
        yield Finding(Level.FAIL, "work pool", f"{pool} does not exist; 'transship deploy' creates it")
        return
    yield Finding(Level.OK, "work pool", pool)
    online = prefect.online_workers(pool)
    if online:
        yield Finding(Level.OK, "workers", ", ".join(online))
    else:
        yield Finding(Level.FAIL, "workers", "none is online, so imports wait; see the worker's log")
    wanted = {definition.entrypoint for definition in read_definitions(definition_file())}
    missing = sorted(wanted - prefect.entrypoints())
    if missing:
        yield Finding(Level.FAIL, "deployments", f"{', '.join(missing)} missing; 'transship deploy' creates them")
    else:
        yield Finding(Level.OK, "deployments", f"{len(wanted)} as defined")
    documents = prefect.store_documents()
    if len(documents) < len(settings.all_stores):
        text = f"{len(documents)} of {len(settings.all_stores)} stores have one; 'transship deploy' creates them"
        yield Finding(Level.FAIL, "store blocks", text)
    else:
        yield Finding(Level.OK, "store blocks", ", ".join(documents))


def check_runner(settings: Settings) -> Iterator[Finding]:
    """Check which engine runs imports on this machine, if any."""
    found = read_runner_status(runner_status_path(settings))
    if found is None:
        yield Finding(Level.WARN, "runner", "none on this machine; 'transship up' or 'transship worker' starts one")
    elif problem := found.problem(time.time()):
        yield Finding(Level.FAIL, "runner", problem)
    elif found.engine == settings.runner.engine:
        yield Finding(Level.OK, "runner", f"{found.engine} engine, {found.limit} runs at a time")
    else:
        text = f"{found.engine} engine in use, so imports start seconds later: {found.reason}; see the worker's log"
        yield Finding(Level.WARN, "runner", text)


def check_api(settings: Settings) -> Iterator[Finding]:
    """Check the health of the Images API."""
    if not is_locked(settings) and not serves_others(settings):
        yield Finding(Level.WARN, "images api", "is not running; 'transship up' starts it")
        return
    url = api_address(settings)
    try:
        healthy, text = ImagesApi(url).health()
    except ServiceUnreachable as error:
        yield Finding(Level.FAIL, "images api", str(error))
        return
    if healthy:
        yield Finding(Level.OK, "images api", url)
    else:
        yield Finding(Level.FAIL, "images api", f"{url} is not healthy: {text}; see its log")


def check_public_endpoint(settings: Settings) -> Iterator[Finding]:
    """Check whether the public address leads clients to this service; it need not be reachable from here."""
    if not settings.api.public_endpoint or not (is_locked(settings) or serves_others(settings)):
        return
    url = settings.api.public_endpoint
    try:
        ours = leads_here(settings, url)
    except ServiceUnreachable as error:
        text = f"{url} cannot be reached from here ({error.reason}); make sure that clients reach this service there"
        yield Finding(Level.WARN, "public endpoint", text)
        return
    except TransshipError as error:
        yield Finding(Level.WARN, "public endpoint", f"{url} cannot be checked: {error}")
        return
    if ours:
        yield Finding(Level.OK, "public endpoint", url)
    else:
        text = f"{url} does not lead to this service, but clients are sent there; correct or clear api.public_endpoint"
        yield Finding(Level.WARN, "public endpoint", text)


CHECKS: Final[tuple[Check, ...]] = (
    check_python,
    check_programs,
    check_room,
    check_ports,
    check_home,
    check_catalog,
    check_prefect,
    check_runner,
    check_api,
    check_public_endpoint,
    check_quotas,
)


def _existing(directory: Path) -> Path:
    while not os.path.exists(directory):
        directory = directory.parent
    return directory
