"""Glance's configuration files as a source of settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from config.glance.options import COMMON_STORE_OPTIONS, OPTIONS
from config.glance.page import GLANCE_FILE, glance_page
from config.glance.source import read_glance_settings
from config.loading import load_settings
from config.notes import NoteKind
from config.options import field_at
from config.settings import NotificationDriver, Settings
from config.settings.stores import KINDS
from deployments.definition import definition_file, read_definitions
from tests.fakes.glance_files import load, notes, of, refusal, write
from tests.fakes.privileges import without_privileges
from transship.domain.errors import ConfigurationRefused, SeveralRefused
from transship.domain.methods import ImportMethod

ROOT = Path(__file__).parents[3]


REAL = """
# As a deployment tool writes it.
[DEFAULT]
debug = false
log_file = /var/log/glance/api.log
bind_host = 10.0.0.11
bind_port = 9393
public_endpoint = https://images.example.org
enabled_backends = cheap:file, fast:file
enabled_import_methods = ['glance-direct','web-download','copy-image','glance-download']
worker_self_reference_url = http://10.0.0.11:9393
do_secure_hash = false
show_image_direct_url = true
show_multiple_locations = true
image_size_cap = 2199023255552
hashing_algorithm = sha256
image_property_quota = 20
image_tag_quota = 30
image_member_quota = 40
image_location_quota = -1
limit_param_default = 10
api_limit_max = 500
max_request_id_length = 100
user_storage_quota = 0
[database]
connection = mysql+pymysql://glance:hush@db/glance
[glance_store]
default_backend = fast
[backend_defaults]
filesystem_store_file_perm = 640
weight = 7
[fast]
filesystem_store_datadir = /srv/glance/fast
store_description = fast file store
filesystem_store_chunk_size = 65536
[cheap]
filesystem_store_datadir = ${fast.filesystem_store_datadir}/../cheap
weight = 50
[os_glance_staging_store]
filesystem_store_datadir = /srv/glance/staging
[os_glance_tasks_store]
filesystem_store_datadir = /srv/glance/tasks
[keystone_authtoken]
www_authenticate_uri = https://keystone.example.org
auth_url = https://keystone/v3
auth_type = password
username = glance
password = hush
user_domain_name = Default
project_name = service
project_domain_name = Default
service_token_roles_required = true
memcached_servers = cache:11211
[paste_deploy]
flavor = keystone
[task]
task_executor = taskflow
task_time_to_live = 24
work_dir = /srv/glance/work
[taskflow_executor]
engine_mode = parallel
[image_format]
disk_formats = raw,qcow2,iso
container_formats = bare, compressed
vmdk_allowed_types = streamOptimized
require_image_format_match = false
gpt_safety_checks_nonfatal = mbr
[image_import_opts]
image_import_plugins = ['image_decompression','image_conversion']
max_parallel_stores = 2
[image_conversion]
output_format = qcow2
[wsgi]
python_interpreter = /usr/bin/python3
task_pool_threads = 16
[import_filtering_opts]
allowed_schemes = [http,https]
disallowed_schemes = []
allowed_hosts = [127.0.0.1, images.example.org]
disallowed_hosts = [ "localhost" , 'metadata' ]
allowed_ports = [80,443,8080]
disallowed_ports = [22]
[oslo_concurrency]
lock_path = /srv/glance/work
[oslo_messaging_notifications]
driver = messagingv2
[oslo_middleware]
enable_proxy_headers_parsing = true
[cors]
allowed_origin = https://horizon.example.org,https://other.example.org
allow_credentials = false
expose_headers = X-OpenStack-Request-ID
max_age = 60
allow_methods = GET,PUT
allow_headers = X-Auth-Token
[oslo_policy]
policy_file = rules.yaml
policy_dirs = /nonexistent/policy.d
enforce_new_defaults = false
enforce_scope = true
""".replace("""[ "localhost" , 'metadata' ]""", "[localhost, metadata]")


def test_a_real_file_gives_the_settings_that_it_has_here(tmp_path: Path) -> None:
    settings = of(tmp_path, REAL).settings
    assert settings == Settings.model_validate(
        {
            "home": "/nonexistent/home",
            "glance_config": [tmp_path / "glance-api.conf"],
            "api": {
                "policy_file": tmp_path / "rules.yaml",
                "enforce_new_defaults": False,
                "enable_proxy_headers_parsing": True,
                "auth": "keystone",
                "host": "10.0.0.11",
                "port": 9393,
                "public_endpoint": "https://images.example.org",
                "limit_param_default": 10,
                "api_limit_max": 500,
                "max_request_id_length": 100,
                "show_image_direct_url": True,
                "show_multiple_locations": True,
            },
            "cors": {
                "allowed_origin": ["https://horizon.example.org", "https://other.example.org"],
                "allow_credentials": False,
                "expose_headers": ["X-OpenStack-Request-ID"],
                "max_age": 60,
                "allow_methods": ["GET", "PUT"],
                "allow_headers": ["X-Auth-Token"],
            },
            "auth": {
                "www_authenticate_uri": "https://keystone.example.org",
                "auth_url": "https://keystone/v3",
                "username": "glance",
                "password": "hush",
                "user_domain_name": "Default",
                "project_name": "service",
                "project_domain_name": "Default",
            },
            "imports": {
                "enabled_methods": ["glance-direct", "web-download", "copy-image", "glance-download"],
                "plugins": ["image_decompression", "image_conversion"],
                "image_size_cap_bytes": 2199023255552,
                "do_secure_hash": False,
                "hashing_algorithm": "sha256",
                "max_parallel_stores": 2,
                "task_time_to_live_h": 24,
            },
            "uri": {
                "allowed_schemes": ["http", "https"],
                "allowed_hosts": ["127.0.0.1", "images.example.org"],
                "disallowed_hosts": ["localhost", "metadata"],
                "allowed_ports": [80, 443, 8080],
                "disallowed_ports": [22],
            },
            "staging": {"dir": "/srv/glance/staging"},
            "formats": {
                "disk_formats": ["raw", "qcow2", "iso"],
                "container_formats": ["bare", "compressed"],
                "vmdk_allowed_types": ["streamOptimized"],
                "require_match": False,
                "gpt_safety_checks_nonfatal": ["mbr"],
            },
            "conversion": {"output_format": "qcow2"},
            "quota": {
                "image_property_quota": 20,
                "image_tag_quota": 30,
                "image_member_quota": 40,
                "image_location_quota": -1,
                "user_storage_bytes": 0,
            },
            "notifications": {"drivers": ["messagingv2"]},
            "default_store": "fast",
            "stores": {
                "cheap": {"dir": "/srv/glance/fast/../cheap", "weight": 50, "file_mode": "0640"},
                "fast": {
                    "dir": "/srv/glance/fast",
                    "description": "fast file store",
                    "weight": 7,
                    "file_mode": "0640",
                },
            },
        }
    )


def test_each_value_says_file_section_and_option(tmp_path: Path) -> None:
    loaded = of(tmp_path, REAL)
    file = tmp_path / "glance-api.conf"
    assert {
        option: loaded.origins[option]
        for option in ("api.port", "stores.cheap.weight", "stores.fast.weight", "stores.fast.type", "api.host")
    } == {
        "api.port": f"{file}:DEFAULT.bind_port",
        "stores.cheap.weight": f"{file}:cheap.weight",
        "stores.fast.weight": f"{file}:backend_defaults.weight",
        "stores.fast.type": f"{file}:DEFAULT.enabled_backends",
        "api.host": f"{file}:DEFAULT.bind_host",
    }
    assert loaded.files == (file,)


def test_what_is_left_out_of_a_real_file_is_said(tmp_path: Path) -> None:
    loaded = of(tmp_path, REAL)
    assert sorted(note.partition(":")[0] for note in notes(loaded, NoteKind.WARNING)) == [
        "database.connection",
        "os_glance_staging_store.filesystem_store_datadir",
    ]
    assert sorted(note.partition(":")[0] for note in notes(loaded, NoteKind.IGNORED)) == [
        "DEFAULT.worker_self_reference_url",
        "fast.filesystem_store_chunk_size",
        "keystone_authtoken",
        "os_glance_tasks_store",
        "task.work_dir",
        "taskflow_executor",
        "wsgi.python_interpreter",
        "wsgi.task_pool_threads",
    ]
    assert "hush" not in str(loaded.notes)


def test_glances_files_rank_below_ours_the_environment_and_the_command_line(tmp_path: Path) -> None:
    glance = write(
        tmp_path, "[DEFAULT]\nlimit_param_default = 1\napi_limit_max = 1\nbind_port = 1\nimage_tag_quota = 1\n"
    )
    ours = write(tmp_path, f"glance_config = ['{glance}']\n[api]\napi_limit_max = 2\nport = 2\n", "transship.toml")
    loaded = load_settings(
        file=ours,
        environ={"TRANSSHIP_HOME": str(tmp_path), "TRANSSHIP_API__PORT": "3"},
        overrides={"quota.image_tag_quota": "4"},
    )
    settings = loaded.settings
    assert (settings.api.limit_param_default, settings.api.api_limit_max, settings.api.port) == (1, 2, 3)
    assert settings.quota.image_tag_quota == 4
    assert loaded.files == (glance, ours)
    assert loaded.origins["api.limit_param_default"] == f"{glance}:DEFAULT.limit_param_default"


def test_of_a_directory_the_api_file_wins_and_drop_ins_win_over_it(tmp_path: Path) -> None:
    write(
        tmp_path,
        "[DEFAULT]\nimage_tag_quota = 1\nimage_property_quota = 1\nbind_port = 1\n",
        "glance-image-import.conf",
    )
    write(tmp_path, "[DEFAULT]\nimage_property_quota = 2\nbind_port = 2\n")
    write(tmp_path / "glance-api.conf.d", "[DEFAULT]\nbind_port = 3\n", "10-site.conf")
    write(tmp_path / "glance-api.conf.d", "[DEFAULT]\nbind_port = 4\n", "20-site.conf")
    settings = load(tmp_path).settings
    assert (settings.quota.image_tag_quota, settings.quota.image_property_quota, settings.api.port) == (1, 2, 4)


def test_of_files_named_one_by_one_the_last_wins(tmp_path: Path) -> None:
    one = write(tmp_path, "[DEFAULT]\nbind_port = 1\n", "one.conf")
    two = write(tmp_path, "[DEFAULT]\nbind_port = 2\n", "two.conf")
    assert [load(one, two).settings.api.port, load(two, one).settings.api.port] == [2, 1]
    assert load(environ={"TRANSSHIP_GLANCE_CONFIG": f'["{two}", "{one}"]'}).settings.api.port == 1


def test_an_empty_variable_names_no_files(tmp_path: Path) -> None:
    assert load(environ={"TRANSSHIP_GLANCE_CONFIG": ""}).settings.glance_config == ()


def test_the_right_section_wins_over_a_misspelt_one_wherever_it_stands(tmp_path: Path) -> None:
    assert of(tmp_path, "[DEFAULT]\nbind_port = 1\n[DEFAULTS]\nbind_port = 2\n").settings.api.port == 1


def test_notifications_go_where_glances_went(tmp_path: Path) -> None:
    text = """
[DEFAULT]
transport_url = rabbit://all:hush@127.0.0.1:5672/
default_publisher_id = image.here
disabled_notifications = task, image.send
[oslo_messaging_notifications]
driver = messagingv2
driver = log
transport_url = rabbit://us:hush$$hush@10.0.0.1:5672,us:hush@10.0.0.2:5672/vhost
topics = notifications, audit
retry = -1
"""
    loaded = of(tmp_path, text)
    found = loaded.settings.notifications
    assert found.drivers == (NotificationDriver.MESSAGING_V2, NotificationDriver.LOG)
    assert found.transport_url.get_secret_value().startswith("rabbit://us:hush$hush@10.0.0.1:5672,us:")
    assert (found.publisher_id, found.disabled) == ("image.here", ("task", "image.send"))
    assert found.topics == ("notifications", "audit")
    assert ["tried until the broker has it" in note for note in notes(loaded, NoteKind.IGNORED)] == [True]


def test_the_transport_url_of_all_counts_where_notifications_have_none(tmp_path: Path) -> None:
    url = of(tmp_path, "[DEFAULT]\ntransport_url = rabbit://host/\n").settings.notifications.transport_url
    assert url.get_secret_value() == "rabbit://host/"


def test_a_driver_that_is_not_served_is_left_out_with_a_warning(tmp_path: Path) -> None:
    loaded = of(tmp_path, "[oslo_messaging_notifications]\ndriver = routing\ndriver = noop\n")
    assert loaded.settings.notifications.drivers == (NotificationDriver.NOOP,)
    assert ["routing: not supported" in note for note in notes(loaded, NoteKind.WARNING)] == [True]


@pytest.mark.parametrize(
    "line", ["driver = rabbit", "transport_url = kafka://us:hush@host/", "transport_url = rabbit://us:$hush@host/"]
)
def test_notifications_that_could_not_be_sent_stop_the_start_and_show_no_password(line: str, tmp_path: Path) -> None:
    refused = refusal(tmp_path, f"[oslo_messaging_notifications]\n{line}\n")
    assert "us:" not in str(refused)


@pytest.mark.parametrize("section", ["DEFAULTS", "default", "Default"])
def test_a_misspelt_default_section_is_read_with_one_warning(section: str, tmp_path: Path) -> None:
    loaded = of(tmp_path, f"[{section}]\nbind_port = 2\nimage_tag_quota = 3\n")
    assert (loaded.settings.api.port, loaded.settings.quota.image_tag_quota) == (2, 3)
    (warning,) = notes(loaded, NoteKind.WARNING)
    assert f"the section is called [DEFAULT]; Glance ignores [{section}] silently" in warning


def test_the_section_of_glance_download_is_understood_as_the_documentation_spells_it(tmp_path: Path) -> None:
    loaded = of(tmp_path, "[glance_download_opts]\nextra_properties = [hw_]\n")
    assert ["[glance_download_properties]" in note for note in notes(loaded, NoteKind.WARNING)] == [True]
    assert loaded.settings.glance_download.extra_properties == ("hw_",)


@pytest.mark.parametrize(
    ("text", "properties", "warnings"),
    [
        ("a:1,b:2", {"a": "1", "b": "2"}, 0),
        (" a : 1 ,\n   b : 2", {"a": "1", "b": "2"}, 0),
        ("a:x:y,b:", {"a": "x:y", "b": ""}, 0),
        ("", {}, 0),
        ("a:1,b:2,...", {"a": "1", "b": "2"}, 1),
        ('"a":"1","b":"2"', {"a": "1", "b": "2"}, 1),
        ("'a':'1','b':'2'", {"a": "1", "b": "2"}, 1),
        ('"a":"1","b":"2",...', {"a": "1", "b": "2"}, 2),
        ('"a":"1"', {"a": "1"}, 1),
        ('"a:1,b:2"', {"a": "1", "b": "2"}, 0),
        ("a:'1',b:2", {"a": "1", "b": "2"}, 1),
        ("a:5\",b:3'", {"a": '5"', "b": "3'"}, 0),
        ("maker:O'Neill,b:2", {"maker": "O'Neill", "b": "2"}, 0),
        ('"trait:HW_X":"required"', {"trait:HW_X": "required"}, 1),
        ('"a":"1,2"', {"a": "1,2"}, 1),
        ('"a":"1,2", b : 3', {"a": "1,2", "b": "3"}, 1),
        ('"a:1","b:2"', {"a": "1", "b": "2"}, 1),
        ("'a' : '1' ,\n   'b' : ''", {"a": "1", "b": ""}, 1),
        ('"a":"1"\n   ,"b":"2"', {"a": "1", "b": "2"}, 1),
        ("[a:1,b:2]", {"a": "1", "b": "2"}, 1),
        ('{"a":"1"}', {"a": "1"}, 2),
    ],
)
def test_inject_is_read_in_both_printed_forms(
    text: str, properties: Mapping[str, str], warnings: int, tmp_path: Path
) -> None:
    loaded = of(tmp_path, f"[inject_metadata_properties]\ninject = {text}\n")
    assert loaded.settings.inject.properties == properties
    assert len(notes(loaded, NoteKind.WARNING)) == warnings


@pytest.mark.parametrize(
    ("text", "roles", "warnings"),
    [
        ("admin", ("admin",), 0),
        ("admin, service,", ("admin", "service"), 0),
        ("[admin,member]", ("admin", "member"), 1),
        ("['admin','member']", ("admin", "member"), 2),
        ('"admin","service"', ("admin", "service"), 1),
        ("'admin', 'service', 'x'", ("admin", "service", "x"), 1),
        ('admin,"service"', ("admin", "service"), 1),
        ('"admin",service', ("admin", "service"), 1),
        ("['admin',\n  'member'],", ("admin", "member"), 2),
        ("o'neill,admin", ("o'neill", "admin"), 0),
        ("admin,...", ("admin",), 1),
        ("", (), 0),
    ],
)
def test_roles_may_stand_in_brackets(text: str, roles: tuple[str, ...], warnings: int, tmp_path: Path) -> None:
    loaded = of(tmp_path, f"[inject_metadata_properties]\nignore_user_roles = {text}\n")
    assert loaded.settings.inject.ignore_user_roles == roles
    assert len(notes(loaded, NoteKind.WARNING)) == warnings


@pytest.mark.parametrize(
    ("section", "option", "found"),
    [
        ("image_format", "disk_formats", lambda settings: settings.formats.disk_formats),
        ("image_format", "container_formats", lambda settings: settings.formats.container_formats),
        ("image_format", "vmdk_allowed_types", lambda settings: settings.formats.vmdk_allowed_types),
        ("image_format", "gpt_safety_checks_nonfatal", lambda settings: settings.formats.gpt_safety_checks_nonfatal),
        ("keystone_authtoken", "service_token_roles", lambda settings: settings.auth.service_token_roles),
        ("DEFAULT", "disabled_notifications", lambda settings: settings.notifications.disabled),
        ("oslo_messaging_notifications", "topics", lambda settings: settings.notifications.topics),
    ],
)
def test_brackets_and_quotes_of_plain_lists_are_taken_off_with_warnings(
    section: str, option: str, found: Callable[[Settings], tuple[str, ...]], tmp_path: Path
) -> None:
    for text, warnings in {"x,y": 0, "[x,y]": 1, '"x","y"': 1, "['x', 'y']": 2}.items():
        loaded = of(tmp_path, f"[{section}]\n{option} = {text}\n")
        assert found(loaded.settings) == ("x", "y")
        assert len(notes(loaded, NoteKind.WARNING)) == warnings


@pytest.mark.parametrize(
    ("option", "text", "reason"),
    [
        ("ignore_user_roles", 'admin,"service', "a quote in '\"service' is unmatched"),
        ("ignore_user_roles", "admin',service", 'a quote in "admin\'" is unmatched'),
        ("ignore_user_roles", '"a"b,c', "is unmatched"),
        ("ignore_user_roles", "[admin,service", "unmatched bracket in '[admin'"),
        ("inject", 'a:"1', "a quote in '\"1' is unmatched"),
        ("inject", 'a":1', "a quote in 'a\"' is unmatched"),
        ("inject", '"a":"1"x,"b":2', "is unmatched"),
        ("inject", '"a":"1","b"', "NAME:VALUE"),
        ("inject", '"a":"1",', "NAME:VALUE"),
        ("inject", '"a":"1",b:1,"b":"2"', "Duplicate key b"),
    ],
)
def test_quotes_and_brackets_that_cannot_be_understood_stop_the_start_by_name(
    option: str, text: str, reason: str, tmp_path: Path
) -> None:
    refused = refusal(tmp_path, f"[inject_metadata_properties]\n{option} = {text}\n")
    assert refused.option == f"[inject_metadata_properties] {option}"
    assert reason in refused.told


@pytest.mark.parametrize(
    ("text", "plugins"),
    [
        ("[]", ()),
        ("[a,b]", ("a", "b")),
        ("['a', \"b\"]", ("a", "b")),
        ("[ a ,\n    b ]", ("a", "b")),
        ("[a,b],", ("a", "b")),
    ],
)
def test_bounded_lists_mean_what_they_mean_in_glance(text: str, plugins: tuple[str, ...], tmp_path: Path) -> None:
    loaded = of(tmp_path, f"[image_import_opts]\nimage_import_plugins = {text}\n")
    assert loaded.settings.imports.plugins == plugins


@pytest.mark.parametrize(
    ("text", "option", "reason"),
    [
        ("[import_filtering_opts]\nallowed_ports = 80,443", "allowed_ports", 'start with "["'),
        ("[import_filtering_opts]\nallowed_ports = 80,443", "allowed_ports", "a list in brackets, e.g. [a, b]"),
        ("[import_filtering_opts]\nallowed_ports = [0]", "allowed_ports", "greater than or equal to 1"),
        ("[import_filtering_opts]\nallowed_hosts = [a b]", "allowed_hosts", "a b"),
        ("[image_import_opts]\nimage_import_plugins = ['a]", "image_import_plugins", "quote"),
        ("[DEFAULT]\nenabled_import_methods = [web-downlod]", "enabled_import_methods", "of these methods: "),
        ("[DEFAULT]\nnode_staging_uri = /var/lib/x", "node_staging_uri", "is not a file:///path/to/dir URI"),
        ("[DEFAULT]\nnode_staging_uri = nfs://host/x", "node_staging_uri", "is not a file:///path/to/dir URI"),
        ("[DEFAULT]\nbind_port = x", "bind_port", "found 'x'"),
        ("[DEFAULT]\npublic_endpoint = http://$host", "public_endpoint", "refers to $host, which no file sets"),
        ("[image_format]\nrequire_image_format_match = perhaps", "require_image_format_match", "found 'perhaps'"),
        ("[inject_metadata_properties]\ninject = a", "inject", "property1:value1,property2:value2"),
        ("[inject_metadata_properties]\ninject = a:1,a:2", "inject", "Duplicate key a"),
        ("[DEFAULT]\nenabled_backends = a", "enabled_backends", "write it as id:type"),
        ("[DEFAULT]\nenabled_backends = a:swift\n[glance_store]\ndefault_backend=a", "_backends", "a is of type swift"),
        ("[DEFAULT]\nenabled_backends = a:file\n[a]\nfilesystem_store_datadir=/a", "default_backend", "one of a"),
        ("[DEFAULT]\nenabled_backends = a:file\n[glance_store]\ndefault_backend=a", "store_datadir", "store a"),
        ("[glance_store]\ndefault_store = swift", "default_store", "the store is of type swift"),
        ("[glance_store]\nstores = http,rbd", "stores", "default_store is file, which is not in [glance_store] stores"),
        ("[glance_store]\ndefault_store = $nowhere", "default_store", "refers to $nowhere"),
        ("[glance_store]\ndefault_store = file", "filesystem_store_datadir", "required by store file"),
    ],
)  # fmt: skip
def test_what_glance_would_refuse_stops_the_start_by_name(text: str, option: str, reason: str, tmp_path: Path) -> None:
    refused = refusal(tmp_path, text + "\n")
    assert refused.source == str(tmp_path / "glance-api.conf")
    assert refused.option.startswith("[")
    assert refused.option.endswith(option)
    assert reason in refused.told


@pytest.mark.parametrize(
    ("text", "option", "where", "reason"),
    [
        ("[DEFAULT]\nhashing_algorithm = md5", "imports.hashing_algorithm", "DEFAULT.hashing_algorithm", "'sha256'"),
        (
            "[image_conversion]\noutput_format = vdi",
            "conversion.output_format",
            "image_conversion.output_format",
            "raw",
        ),
        ("[DEFAULT]\nimage_size_cap = 0", "imports.image_size_cap_bytes", "DEFAULT.image_size_cap", "found '0'"),
        ("[import_filtering_opts]\nallowed_ports = [80,]", "uri.allowed_ports", "import_filtering_opts", "item 2"),
        ("[task]\ntask_time_to_live = -1", "imports.task_time_to_live_h", "task.task_time_to_live", "found '-1'"),
        (
            "[DEFAULT]\nenabled_backends = a:file\n[glance_store]\ndefault_backend=b\n[a]\nfilesystem_store_datadir=/a",
            "default_store",
            "glance_store.default_backend",
            "not one of the stores; the stores are a",
        ),
        (
            "[DEFAULT]\nenabled_backends = os_glance_x:file\n[glance_store]\ndefault_backend=os_glance_x\n"  # noqa: ISC004
            "[os_glance_x]\nfilesystem_store_datadir=/a",
            "stores",
            "",
            "reserved",
        ),
    ],
)
def test_what_glance_accepts_and_we_do_not_stops_the_start_by_name(
    text: str, option: str, where: str, reason: str, tmp_path: Path
) -> None:
    refused = refusal(tmp_path, text + "\n")
    assert refused.source.startswith(f"{tmp_path / 'glance-api.conf'}:{where}")
    assert (refused.option, reason in refused.told) == (option, True)


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    refused = refusal(tmp_path, "[DEFAULT]\nbind_port = x\n[import_filtering_opts]\nallowed_ports = 80\n")
    assert isinstance(refused, SeveralRefused)
    assert str(refused).count("\n") == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("bind_port = 1\n", "Section must be started"),
        ("[DEFAULT\nbind_port = 1\n", "Invalid section"),
        ("[DEFAULT]\nbind_port\n", "No ':' or '=' found"),
        ("[DEFAULT]\n= 5\n", "Key cannot be empty"),
    ],
)
def test_a_file_that_cannot_be_parsed_stops_the_start(text: str, reason: str, tmp_path: Path) -> None:
    refused = refusal(tmp_path, text)
    assert refused.option.startswith("line ")
    assert reason in refused.told


def test_a_file_that_is_no_text_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "glance-api.conf"
    path.write_bytes(b"[DEFAULT]\nx = \xff\n")
    with pytest.raises(ConfigurationRefused, match="not text in UTF-8"):
        load(path)


@pytest.mark.parametrize("made", [False, True])
def test_files_that_are_not_there_stop_the_start(made: bool, tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    if made:
        folder.mkdir()
    with pytest.raises(ConfigurationRefused, match="has neither" if made else "is not a file or directory") as refused:
        load(folder)
    assert (refused.value.source, refused.value.option) == ("environment TRANSSHIP_GLANCE_CONFIG", "glance_config")


@pytest.mark.parametrize(
    ("closed", "mode"),
    [("etc", 0o000), ("etc", 0o444), ("etc/glance-api.conf.d", 0o111), ("etc/glance-api.conf", 0o000)],
)
def test_what_may_not_be_read_stops_the_start_by_name(
    closed: str, mode: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "etc", "[DEFAULT]\nbind_port = 1\n")
    write(tmp_path / "etc" / "glance-api.conf.d", "[DEFAULT]\nbind_port = 2\n", "site.conf")
    # The directories above are closed to others; what is relative needs none of them.
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o755)
    Path(closed).chmod(mode)
    try:
        with without_privileges(), pytest.raises(ConfigurationRefused, match="cannot be read: Permission") as refused:
            read_glance_settings((Path("etc"),), "environment TRANSSHIP_GLANCE_CONFIG")
    finally:
        Path(closed).chmod(0o755)
    assert closed in str(refused.value)


def test_an_unknown_option_in_a_section_that_is_wholly_known_is_a_slip(tmp_path: Path) -> None:
    loaded = of(tmp_path, "[import_filtering_opts]\nalowed_hosts = [a]\n[DEFAULT]\nsome_other = 1\n[x]\ny = 1\n")
    reason = "Glance has no such option, so it has no effect; did you mean allowed_hosts?"
    assert notes(loaded, NoteKind.WARNING) == [f"import_filtering_opts.alowed_hosts: {reason}"]
    assert notes(loaded, NoteKind.IGNORED) == []


KEYSTONE = """
[keystone_authtoken]
auth_url = https://keystone
username = glance
password = hush
project_name = service
"""


@pytest.mark.parametrize(
    ("flavor", "auth"),
    [
        ("keystone", "keystone"),
        ("keystone+cachemanagement", "keystone"),
        ("keystone+caching", "keystone"),
        ("caching", "none"),
        ("", "none"),
    ],
)
def test_the_flavor_of_the_pipeline_says_whether_keystone_is_asked(flavor: str, auth: str, tmp_path: Path) -> None:
    assert of(tmp_path, f"{KEYSTONE}[paste_deploy]\nflavor = {flavor}\n").settings.api.auth == auth


def test_an_identity_that_a_proxy_states_is_not_believed(tmp_path: Path) -> None:
    refused = refusal(tmp_path, "[paste_deploy]\nflavor = trusted-auth\n")
    assert refused.option == "[paste_deploy] flavor"


def test_keystone_without_credentials_stops_the_start(tmp_path: Path) -> None:
    refused = refusal(tmp_path, "[paste_deploy]\nflavor = keystone\n[keystone_authtoken]\nauth_url = http://k\n")
    assert "auth.username" in str(refused)
    assert "auth.user_id" in str(refused)
    assert "auth.project_id" in str(refused)


@pytest.mark.parametrize(("text", "found"), [("pa$word", "refers to an option without a value"), ("pa$$word", "")])
def test_a_dollar_in_a_password_is_escaped_as_in_glance_and_never_shown(text: str, found: str, tmp_path: Path) -> None:
    file = f"{KEYSTONE.replace('hush', text)}[paste_deploy]\nflavor = keystone\n"
    if found:
        refused = refusal(tmp_path, file)
        assert found in str(refused)
        assert "word" not in refused.told
    else:
        assert of(tmp_path, file).settings.auth.password.get_secret_value() == "pa$word"


def test_a_login_by_ids_is_read(tmp_path: Path) -> None:
    text = KEYSTONE.replace("username = glance", "user_id = u-1").replace("project_name = service", "project_id = p-1")
    settings = of(tmp_path, f"{text}[paste_deploy]\nflavor = keystone\n").settings
    assert (settings.auth.user_id, settings.auth.project_id) == ("u-1", "p-1")
    assert (settings.auth.username, settings.auth.project_name) == ("", "")


def test_the_login_may_stand_in_a_section_of_its_own(tmp_path: Path) -> None:
    login = KEYSTONE.replace("keystone_authtoken", "Service_User").replace("= glance", "= $who") + "who = images\n"
    text = "[keystone_authtoken]\nauth_section = service_user\nusername = passed_over\ntoken_cache_time = 60\n"
    loaded = of(tmp_path, f"{login}{text}[paste_deploy]\nflavor = keystone\n")
    assert loaded.settings.auth.username == "images"
    assert loaded.settings.auth.auth_url == "https://keystone"
    assert loaded.settings.auth.token_cache_s == 60
    assert loaded.origins["auth.username"] == f"{tmp_path / 'glance-api.conf'}:Service_User.username"
    assert notes(loaded, NoteKind.IGNORED) == [
        "keystone_authtoken.username: auth_section is set, so the login is read from [service_user]"
    ]


def test_a_section_of_the_login_that_no_file_has_stops_the_start_by_name(tmp_path: Path) -> None:
    refused = refusal(tmp_path, f"{KEYSTONE}auth_section = elsewhere\n[paste_deploy]\nflavor = keystone\n")
    assert refused.option == "[keystone_authtoken] auth_section"
    assert "no file has a section [elsewhere]" in refused.told


@pytest.mark.parametrize("password", ["pa$!x", "pa$1x", "pass$", "${", "1$"])
def test_a_dollar_of_a_password_that_is_followed_by_no_name_needs_no_escape(password: str, tmp_path: Path) -> None:
    file = f"{KEYSTONE.replace('hush', password)}[paste_deploy]\nflavor = keystone\n"
    assert of(tmp_path, file).settings.auth.password.get_secret_value() == password


def test_names_are_followed_to_their_end_and_defaults_of_glance_are_known(tmp_path: Path) -> None:
    text = """
[DEFAULT]
base = /srv
state_path = $base/glance
public_endpoint = http://images:$bind_port
enabled_backends = $one:file
one = disk
[glance_store]
default_backend = $one
[disk]
filesystem_store_datadir = $state_path/images
"""
    settings = of(tmp_path, text).settings
    assert str(settings.stores["disk"].dir) == "/srv/glance/images"
    assert settings.api.public_endpoint == "http://images:9292"
    assert settings.default_store == "disk"


def test_options_that_name_each_other_stop_the_start_by_name(tmp_path: Path) -> None:
    refused = refusal(tmp_path, "[DEFAULT]\npublic_endpoint = $other\nother = x$public_endpoint\n")
    assert "refers to itself: [DEFAULT] public_endpoint -> [DEFAULT] other" in refused.told


@pytest.mark.parametrize(("text", "seconds"), [("-1", 0), ("60", 60)])
def test_a_cache_time_of_the_middleware_is_understood(text: str, seconds: float, tmp_path: Path) -> None:
    assert of(tmp_path, f"{KEYSTONE}token_cache_time = {text}\n").settings.auth.token_cache_s == seconds


ADDRESS = "[DEFAULT]\nbind_host = 0.0.0.0\n"


@pytest.mark.parametrize(
    ("environ", "host", "warned"),
    [
        ({}, "127.0.0.1", True),
        ({"TRANSSHIP_API__ACCEPT_ANYONE": "false"}, "127.0.0.1", True),
        ({"TRANSSHIP_API__ACCEPT_ANYONE": "true"}, "0.0.0.0", False),
        ({"TRANSSHIP_API__HOST": "::1"}, "::1", False),
    ],
)
def test_an_open_address_is_used_only_where_anyone_is_accepted(
    environ: Mapping[str, str], host: str, warned: bool, tmp_path: Path
) -> None:
    loaded = load(write(tmp_path, ADDRESS), environ=environ)
    assert loaded.settings.api.host == host
    assert bool(notes(loaded, NoteKind.WARNING)) is warned


@pytest.mark.parametrize(
    ("backends", "directory", "unused"),
    [("", "/srv/single", "os_glance_staging_store"), ("enabled_backends = a:file\n", "/srv/multi", "DEFAULT")],
)
def test_which_staging_directory_counts_depends_on_the_stores(
    backends: str, directory: str, unused: str, tmp_path: Path
) -> None:
    text = f"[DEFAULT]\nnode_staging_uri = file:///srv/single\n{backends}"
    text += "[os_glance_staging_store]\nfilesystem_store_datadir = /srv/multi\n"
    text += "[glance_store]\ndefault_backend = a\n[a]\nfilesystem_store_datadir = /srv/a\n" if backends else ""
    loaded = of(tmp_path, text)
    assert str(loaded.settings.staging.dir) == directory
    assert [note.partition(".")[0] for note in notes(loaded, NoteKind.IGNORED)] == [unused]


def test_the_warning_about_staging_goes_when_another_source_names_the_directory(tmp_path: Path) -> None:
    path = write(tmp_path, "[DEFAULT]\nnode_staging_uri = file:///srv/single\n")
    assert len(notes(load(path), NoteKind.WARNING)) == 1
    assert notes(load(path, staging__dir="/srv/own"), NoteKind.WARNING) == []


SWITCHES: Mapping[str, tuple[str, ...]] = {
    "[DEFAULT]\ndelayed_delete": ("false", "0", "off", "no", "OFF"),
    "[DEFAULT]\nallow_anonymous_access": ("false", "0", "off", "no"),
    "[keystone_authtoken]\ninsecure": ("false", "0", "off", "no"),
    "[keystone_authtoken]\nservice_token_roles_required": ("true", "1", "on", "yes", "Yes"),
}


@pytest.mark.parametrize(("option", "texts"), SWITCHES.items())
def test_a_switch_in_the_position_that_holds_here_is_passed_over_however_it_is_spelled(
    option: str, texts: tuple[str, ...], tmp_path: Path
) -> None:
    assert [notes(of(tmp_path, f"{option} = {text}\n"), NoteKind.IGNORED) for text in texts] == [[]] * len(texts)
    other = "no" if "yes" in texts else "yes"
    assert len(notes(of(tmp_path, f"{option} = {other}\n"), NoteKind.IGNORED)) == 1


def test_no_option_is_mapped_to_a_setting_that_does_not_exist() -> None:
    of_kinds = [option for kind in KINDS.values() if kind.glance for option in kind.glance.options]
    for setting in [option.setting for option in (*OPTIONS, *COMMON_STORE_OPTIONS, *of_kinds)]:
        assert field_at(tuple(setting.split("."))) is not None, setting


def test_the_page_in_the_repository_is_current() -> None:
    page = (ROOT / GLANCE_FILE).read_text()
    assert page == glance_page(page), "run: python -m config.show"


def test_every_method_has_a_flow() -> None:
    flows = {each.entrypoint.rpartition(".")[2].replace("_", "-") for each in read_definitions(definition_file())}
    assert flows >= set(ImportMethod)


def test_a_file_of_authorities_that_is_left_empty_is_none(tmp_path: Path) -> None:
    assert of(tmp_path, "[keystone_authtoken]\ncafile =\n").settings.auth.ca_file is None
