"""Settings from their sources, and the errors when they cannot be used."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import pytest

from config.loading import LoadedSettings, load_settings
from tests.fakes.privileges import without_privileges
from transship.domain.errors import ConfigurationRefused, SeveralRefused

NO_SYSTEM_FILE = Path("/nonexistent/transship.toml")


def load(
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
    file: Path | None = None,
    system_file: Path = NO_SYSTEM_FILE,
) -> LoadedSettings:
    variables = {"TRANSSHIP_HOME": "/nonexistent/home", **(environ or {})}
    return load_settings(file=file, environ=variables, overrides=overrides, system_file=system_file)


def refusal(
    environ: Mapping[str, str] | None = None, overrides: Mapping[str, object] | None = None, file: Path | None = None
) -> ConfigurationRefused:
    with pytest.raises(ConfigurationRefused) as refused:
        load(environ, overrides, file)
    return refused.value


def toml(folder: Path, text: str, name: str = "transship.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_without_any_source_the_defaults_hold() -> None:
    loaded = load()
    assert loaded.settings.api.port == 9292
    assert loaded.origins["api.port"] == "default"
    assert (loaded.settings.home, loaded.origins["home"]) == (
        Path("/nonexistent/home"),
        "environment TRANSSHIP_HOME",
    )
    assert loaded.files == ()


def test_later_sources_win_option_by_option(tmp_path: Path) -> None:
    path = toml(tmp_path, "[api]\nhost = '127.0.0.1'\nport = 1001\nmax_body_bytes = 2048\napi_limit_max = 7\n")
    loaded = load({"TRANSSHIP_API__PORT": "1002", "TRANSSHIP_API__MAX_BODY_BYTES": "4096"}, {"api.port": 1003}, path)
    api = loaded.settings.api
    assert (api.port, api.max_body_bytes, api.api_limit_max, api.limit_param_default) == (1003, 4096, 7, 25)
    assert {option: loaded.origins[f"api.{option}"] for option in ("port", "max_body_bytes", "api_limit_max")} == {
        "port": "command line",
        "max_body_bytes": "environment TRANSSHIP_API__MAX_BODY_BYTES",
        "api_limit_max": str(path),
    }
    assert loaded.origins["api.limit_param_default"] == "default"


def test_the_file_of_the_home_directory_wins_over_that_of_the_machine(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    machine = toml(tmp_path, "[api]\nport = 1001\n[log]\nlevel = 'DEBUG'\n", "machine.toml")
    own = toml(home, "[api]\nport = 1002\n")
    loaded = load({"TRANSSHIP_HOME": str(home)}, system_file=machine)
    assert (loaded.settings.api.port, loaded.settings.log.level) == (1002, "DEBUG")
    assert (loaded.origins["api.port"], loaded.origins["log.level"]) == (str(own), str(machine))
    assert loaded.files == (machine, own)


def test_a_file_asked_for_is_read_instead_of_the_others(tmp_path: Path) -> None:
    machine = toml(tmp_path, "[log]\nlevel = 'DEBUG'\n", "machine.toml")
    named = toml(tmp_path, "[api]\nport = 1002\n", "named.toml")
    by_argument = load(file=named, system_file=machine)
    by_variable = load({"TRANSSHIP_CONFIG": str(named)}, system_file=machine)
    for loaded in (by_argument, by_variable):
        assert (loaded.settings.api.port, loaded.settings.log.level, loaded.files) == (1002, "INFO", (named,))


@pytest.mark.parametrize(
    ("variable", "text", "section", "option", "value"),
    [
        ("TRANSSHIP_API__PORT", "8080", "api", "port", 8080),
        ("TRANSSHIP_LEASE__RENEW_S", "2.5", "lease", "renew_s", 2.5),
        ("TRANSSHIP_IMPORTS__MD5_CHECKSUM", "false", "imports", "md5_checksum", False),
        ("TRANSSHIP_URI__ALLOWED_PORTS", "[80, 8443]", "uri", "allowed_ports", (80, 8443)),
        ("TRANSSHIP_URI__ALLOWED_PORTS", "80, 8443,", "uri", "allowed_ports", (80, 8443)),
        ("TRANSSHIP_URI__ALLOWED_PORTS", "80", "uri", "allowed_ports", (80,)),
        ("TRANSSHIP_URI__ALLOWED_HOSTS", "", "uri", "allowed_hosts", ()),
        ("TRANSSHIP_IMPORTS__PLUGINS", "no_op,image_conversion", "imports", "plugins", ("no_op", "image_conversion")),
        ("TRANSSHIP_INJECT__PROPERTIES", '{"a": "1,2"}', "inject", "properties", {"a": "1,2"}),
        ("TRANSSHIP_STAGING__DIR", "/srv/staging", "staging", "dir", Path("/srv/staging")),
        ("TRANSSHIP_API", '{"port": 8081}', "api", "port", 8081),
    ],
)
def test_the_environment_is_read_by_type(variable: str, text: str, section: str, option: str, value: object) -> None:
    loaded = load({variable: text})
    assert getattr(getattr(loaded.settings, section), option) == value
    assert loaded.origins[f"{section}.{option}"] == f"environment {variable}"


@pytest.mark.parametrize(
    ("option", "given", "value"),
    [("uri.allowed_ports", "80,81", (80, 81)), ("uri.allowed_ports", (80,), (80,)), ("home", "/srv/x", Path("/srv/x"))],
)
def test_the_command_line_may_give_text_or_values(option: str, given: object, value: object) -> None:
    loaded = load(overrides={option: given})
    found: object = loaded.settings
    for name in option.split("."):
        found = getattr(found, name)
    assert (found, loaded.origins[option]) == (value, "command line")


def test_stores_come_from_files_and_the_environment_together(tmp_path: Path) -> None:
    path = toml(tmp_path, "default_store = 'fast'\n[stores.fast]\ndir = '/srv/fast'\nweight = 5\n")
    loaded = load({"TRANSSHIP_STORES__FAST__WEIGHT": "9", "TRANSSHIP_STORES__CHEAP__DIR": "/srv/cheap"}, file=path)
    assert {name: (str(store.dir), store.weight) for name, store in loaded.settings.stores.items()} == {
        "fast": ("/srv/fast", 9),
        "cheap": ("/srv/cheap", 0),
    }
    assert loaded.origins["stores.fast.dir"] == str(path)
    assert loaded.origins["stores.fast.weight"] == "environment TRANSSHIP_STORES__FAST__WEIGHT"
    assert loaded.origins["stores.cheap.description"] == "default"


def test_a_section_in_which_nothing_is_set_hides_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    machine = toml(tmp_path, "[api]\nport = 1001\n[imports.store_slots]\nlocal = 2\n", "machine.toml")
    toml(home, "[api]\n[imports]\nstore_slots = {}\n")
    loaded = load({"TRANSSHIP_HOME": str(home)}, system_file=machine)
    assert (loaded.settings.api.port, loaded.settings.imports.store_slots) == (1001, {"local": 2})
    assert (loaded.origins["api.port"], loaded.origins["imports.store_slots"]) == (str(machine), str(machine))


def test_a_section_as_json_comes_before_its_options_of_the_same_environment() -> None:
    loaded = load({"TRANSSHIP_API__PORT": "1002", "TRANSSHIP_API": '{"port": 1001, "api_limit_max": 7}'})
    assert (loaded.settings.api.port, loaded.settings.api.api_limit_max) == (1002, 7)
    assert loaded.origins["api.port"] == "environment TRANSSHIP_API__PORT"


def test_every_option_has_an_origin() -> None:
    assert load().origins["stores.local.dir"] == "default"
    assert load().origins["prefect.auth_string"] == "default"


@pytest.mark.parametrize("name", ["TRANSSHIP_HOME", "TRANSSHIP_CONFIG"])
def test_empty_home_and_file_variables_count_as_unset(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    loaded = load_settings(environ={name: ""}, system_file=NO_SYSTEM_FILE)
    assert loaded.settings.home == tmp_path / ".local/state/transship"


def test_variables_of_others_are_not_read() -> None:
    assert load({"API__PORT": "1", "PORT": "2", "TRANS": "3"}).settings.api.port == 9292


# --- refusing ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "text", "option", "reason"),
    [
        ("TRANSSHIP_API__PORT", "70000", "api.port", "is too large, found '70000'; write at most 65535"),
        ("TRANSSHIP_API__PORT", "ninety", "api.port", "is not a whole number, found 'ninety'; write digits only"),
        ("TRANSSHIP_API__PROT", "80", "api.prot", "did you mean api.port?"),
        ("TRANSSHIP_API_PORT", "80", "api_port", "did you mean TRANSSHIP_API__PORT?"),
        ("TRANSSHIP_HOEM", "/x", "hoem", "did you mean TRANSSHIP_HOME?"),
        ("TRANSSHIP_CONFIGURATION", "/x", "configuration", "did you mean TRANSSHIP_CONFIG?"),
        ("TRANSSHIP_URI__ALLOWED_PORTS", "80,0", "uri.allowed_ports", "item 2: "),
        ("TRANSSHIP_URI__ALLOWED_PORTS", "[80,", "uri.allowed_ports", "is not a list"),
        (
            "TRANSSHIP_INJECT__PROPERTIES",
            "a:1",
            "inject.properties",
            "found 'a:1'; write JSON",
        ),
        ("TRANSSHIP_LOG__LEVEL", "LOUD", "log.level", "'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ("TRANSSHIP_API__HOST", "0.0.0.0", "api", "set api.accept_anyone = true"),
        ("TRANSSHIP_LEASE__TTL_S", "60s", "lease.ttl_s", "is not a number, found '60s'; write the seconds as a number"),
        ("TRANSSHIP_FORMATS__REQUIRE_MATCH", "perhaps", "formats.require_match", "write true or false"),
        ("TRANSSHIP_IMPORTS__IMAGE_SIZE_CAP_BYTES", "1 GiB", "imports.image_size_cap_bytes", "write the bytes"),
        ("TRANSSHIP_DECOMPRESSION__MAX_RATIO", "1", "decompression.max_ratio", "write more than 1"),
        ("TRANSSHIP_PREFECT__API_URL", "localhost:4200/api", "prefect.api_url", "write http://host:port/api"),
        ("TRANSSHIP_PREFECT__API_URL", "ftp://u:hush@p/", "prefect.api_url", "found 'ftp://********@p/'"),
        ("TRANSSHIP_PREFECT__AUTH_STRING", "hush", "prefect.auth_string", "is not user:password; write both"),
        ("TRANSSHIP_LEASE__TTL_S", "5", "lease", "at most a third of lease.ttl_s 5"),
        ("TRANSSHIP_HOME", "~no-such-user/x", "home", "write the whole path"),
        ("TRANSSHIP_STAGING__DIR", "~no-such-user/x", "staging.dir", "write the whole path"),
        (
            "TRANSSHIP_STORES__FAST__WEIGHT",
            "1",
            "stores.fast",
            "neither dir nor dirs is set; set dir to one directory, or dirs to several",
        ),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(variable: str, text: str, option: str, reason: str) -> None:
    refused = refusal({variable: text})
    assert (refused.source, refused.option) == (f"environment {variable}", option)
    assert reason in refused.told


@pytest.mark.parametrize(
    ("variable", "text", "reason", "remedy"),
    [
        ("TRANSSHIP_API__PROT", "80", "there is no such option", "did you mean api.port?"),
        ("TRANSSHIP_STAGING__DIR", "", "is empty", "write the whole path, or leave the option out"),
        (
            "TRANSSHIP_NOTIFICATIONS__TRANSPORT_URL",
            "amqp://broker/",
            "transport_url must begin with rabbit://",
            "no other broker is supported",
        ),
    ],
)
def test_what_would_be_right_stands_apart(variable: str, text: str, reason: str, remedy: str) -> None:
    refused = refusal({variable: text})
    assert (refused.reason, refused.remedy) == (reason, remedy)


def test_keystone_asks_for_an_address_and_a_login() -> None:
    refused = refusal({"TRANSSHIP_API__AUTH": "keystone", "TRANSSHIP_AUTH__AUTH_URL": "http://keystone.test"})
    assert (refused.option, "auth.username" in refused.told) == ("auth.auth_url", True)


@pytest.mark.parametrize(
    "url", ["keystone", "ftp://k", "http://user:hunter2@k", "http://", "http://k:0", "http://k/?a"]
)
def test_an_address_of_keystone_that_is_none_is_refused(url: str) -> None:
    refused = refusal({"TRANSSHIP_AUTH__AUTH_URL": url})
    assert refused.option == "auth.auth_url"
    assert "without credentials" in refused.told


def test_with_keystone_the_service_may_listen_anywhere() -> None:
    loaded = load(
        {
            "TRANSSHIP_API__AUTH": "keystone",
            "TRANSSHIP_API__HOST": "0.0.0.0",
            "TRANSSHIP_AUTH__AUTH_URL": "https://keystone.test/",
            "TRANSSHIP_AUTH__USERNAME": "images",
            "TRANSSHIP_AUTH__PASSWORD": "hush",
            "TRANSSHIP_AUTH__PROJECT_NAME": "service",
        }
    )
    assert loaded.settings.auth.auth_url == "https://keystone.test"


def test_an_option_of_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    path = toml(tmp_path, "[api]\nport = 'x'\n")
    refused = refusal(file=path)
    assert (refused.source, refused.option) == (str(path), "api.port")


def test_an_unknown_option_of_a_file_or_the_command_line_is_named(tmp_path: Path) -> None:
    path = toml(tmp_path, "[import]\nplugins = []\n")
    assert (refusal(file=path).source, refusal(file=path).option) == (str(path), "import")
    assert "did you mean imports?" in refusal(file=path).told
    assert refusal(overrides={"api.prot": 1}).source == "command line"


def test_a_check_across_options_names_the_option_and_its_source() -> None:
    refused = refusal({"TRANSSHIP_DEFAULT_STORE": "fast"})
    assert (refused.source, refused.option) == ("environment TRANSSHIP_DEFAULT_STORE", "default_store")
    assert refused.told == "default_store fast is not one of the stores; the stores are local"


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    path = toml(tmp_path, "[api]\nport = 0\n[log]\nlevle = 'INFO'\n")
    refused = refusal({"TRANSSHIP_HOEM": "/x"}, {"lease.ttl_s": -1}, path)
    assert isinstance(refused, SeveralRefused)
    lines = str(refused).splitlines()
    assert len(lines) == 4
    assert [line.split(": ")[1] for line in lines] == ["api.port", "lease.ttl_s", "log.levle", "hoem"]
    assert str(pickle.loads(pickle.dumps(refused))) == str(refused)


@pytest.mark.parametrize(
    ("content", "place", "reason"),
    [
        ("[api\n", "line 1, column 5", "is not TOML: Expected ']'"),
        ("a = 1\nport = \xff", "line 2", "is not text in UTF-8; save the file as UTF-8"),
        ("a = 1\na = 2\n", "line 2, column 6", "is not TOML: Cannot overwrite a value"),
        ("a = [1", "end of document", "is not TOML: Unclosed array"),
    ],
)
def test_a_file_that_is_not_toml_is_refused_with_the_place(
    content: str, place: str, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content.encode("latin-1"))
    refused = refusal(file=path)
    assert (refused.source, refused.option) == (str(path), place)
    assert reason in refused.told


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "windows.toml"
    path.write_bytes(b"\xef\xbb\xbf[api]\nport = 9393\n")
    assert load({}, file=path).settings.api.port == 9393


@pytest.mark.parametrize("way", ["command line", "environment TRANSSHIP_CONFIG"])
def test_a_file_asked_for_must_exist(way: str, tmp_path: Path) -> None:
    absent = tmp_path / "absent.toml"
    refused = refusal(file=absent) if way == "command line" else refusal({"TRANSSHIP_CONFIG": str(absent)})
    assert refused.source == way
    assert str(absent) in refused.told


@pytest.mark.parametrize(
    "variable", ["TRANSSHIP_PREFECT__AUTH_STRING", "TRANSSHIP_DATABASE__URL", "TRANSSHIP_DATABASE__SECRET_KEY"]
)
def test_a_secret_is_never_in_the_text(variable: str, tmp_path: Path) -> None:
    path = toml(
        tmp_path, "[prefect]\nauth_string = ['hunter2']\n[database]\nurl = 7712345\nsecret_key = {a='hunter2'}\n"
    )
    text = str(refusal({variable: "hunter2", "TRANSSHIP_HUNTER": "hunter2"}, file=path))
    assert "hunter2" not in text
    assert "7712345" not in text


def test_a_file_in_a_directory_that_is_closed_to_us_stops_the_start_by_name(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    path = toml(closed, "")
    closed.chmod(0o000)
    try:
        with without_privileges(), pytest.raises(ConfigurationRefused, match="cannot be read: Permission") as refused:
            load(file=path)
    finally:
        closed.chmod(0o755)
    assert refused.value.source == str(path)
