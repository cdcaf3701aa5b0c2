"""The ``transship`` command: names, options and help. `transship.commands` holds what each command does.

The modules of the commands are imported when a command runs, so that ``--help`` answers at once.
"""

# ruff: noqa: PLC0415 - see above

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from transship.domain.errors import CommandRefused, TransshipError
from transship.host.caller_environment import leave_caller_behind

if TYPE_CHECKING:
    from transship.commands.context import Invocation

app = typer.Typer(
    help="Import images into the stores of a cloud, as retryable Prefect flows.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_app = typer.Typer(help="Show and check the settings.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(config_app, name="config")


def _examples(*commands: str) -> str:
    """Return the examples at the end of a command's help; the backspace keeps their lines apart."""
    return "\b\nExamples:\n" + "\n".join(f"  {command}" for command in commands)


ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Configuration file to use instead of the default ones.")
]

SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="OPTION=VALUE", help="Override a setting, e.g. api.port=9393; may be repeated."),
]

GlanceOption = Annotated[
    list[Path] | None,
    typer.Option("--glance-config", metavar="FILE", help="Glance configuration file or directory; may be repeated."),
]


JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"transship {version('transship')}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    config: ConfigOption = None,
    home: Annotated[
        Path | None, typer.Option("--home", metavar="DIR", help="Home directory; overrides TRANSSHIP_HOME.")
    ] = None,
    assignments: SetOption = None,
    glance_config: GlanceOption = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    # Only kept: loading the settings here would delay the help of each command.
    context.obj = (config, home, assignments or [], glance_config or [])


def _invocation(
    context: typer.Context,
    config: Path | None = None,
    glance: list[Path] | None = None,
    assignments: list[str] | None = None,
) -> Invocation:
    from transship.commands.context import Invocation, parse_overrides
    from transship.host.logs import configure_logs

    configure_logs("WARNING", "command")  # standard output is for what the command prints
    first_config, home, first_assignments, first_glance = context.obj
    all_assignments = [*first_assignments, *(assignments or [])]
    return Invocation(config or first_config, parse_overrides(home, all_assignments, glance or first_glance))


@app.command(
    epilog=_examples(
        "transship up --detach",
        "transship --home /srv/transship up --set api.port=9393",
    )
)
def up(
    context: typer.Context,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Run in the background, and return when everything is ready.")
    ] = False,
    config: ConfigOption = None,
    glance_config: GlanceOption = None,
    assignments: SetOption = None,
) -> None:
    """Start everything on this machine and keep it running.

    The home directory remembers --set and --glance-config for later commands, unless --config names a file.
    """
    from transship.commands import run

    raise typer.Exit(run.up(_invocation(context, config, glance_config, assignments), detach=detach))


@app.command(
    epilog=_examples(
        "transship down",
        "transship down --now",
    )
)
def down(
    context: typer.Context,
    now: Annotated[
        bool, typer.Option("--now", help="Kill everything at once instead of letting running imports finish.")
    ] = False,
) -> None:
    """Stop everything that 'up' started. Running imports may finish first."""
    from transship.commands import run

    raise typer.Exit(run.down(_invocation(context), now=now))


@app.command(
    epilog=_examples(
        "transship worker --config /etc/transship/transship.toml",
    )
)
def worker(context: typer.Context, config: ConfigOption = None, glance_config: GlanceOption = None) -> None:
    """Run imports on this host for services on another host."""
    from transship.commands import worker as command

    command.worker(_invocation(context, config, glance_config))


@app.command(
    epilog=_examples(
        "transship reload",
    )
)
def reload(context: typer.Context) -> None:
    """Apply the current code and settings to all running components. Running imports and requests continue."""
    from transship.commands import reload as command

    raise typer.Exit(command.reload(_invocation(context)))


@app.command(
    epilog=_examples(
        "transship status",
        "transship status --json | jq .healthy",
    )
)
def status(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show components, health, images and tasks."""
    from transship.commands import status as command

    raise typer.Exit(command.status(_invocation(context), as_json=as_json))


@app.command(
    epilog=_examples(
        "transship deploy",
        "transship deploy --overwrite",
    )
)
def deploy(
    context: typer.Context,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Also overwrite store blocks that were edited in the Prefect UI.")
    ] = False,
    if_changed: Annotated[
        bool, typer.Option("--if-changed", help="Apply only if settings, version or deployments have changed.")
    ] = False,
) -> None:
    """Apply work pool, queues, blocks and deployments.

    Creates or updates them in Prefect, and prepares the stores.
    """
    from transship.commands import deploy as command

    raise typer.Exit(command.deploy(_invocation(context), overwrite=overwrite, if_changed=if_changed))


@app.command(
    epilog=_examples(
        "transship doctor",
        "transship doctor --json | jq '.[] | select(.level != \"ok\")'",
    )
)
def doctor(context: typer.Context, as_json: JsonOption = False) -> None:
    """Check what imports need, and name remedies."""
    from transship.commands import doctor as command

    raise typer.Exit(command.doctor(_invocation(context), as_json=as_json))


@app.command(
    name="import",
    epilog=_examples(
        "transship import https://cloud.debian.org/images/cloud/bookworm/latest/debian-12-generic-amd64.qcow2",
        "transship import disk.raw --name mine --property os_type=linux",
        "transship import disk.qcow2 --store fast --store archive --allow-failure",
    ),
)
def import_(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="URL|FILE", help="Source of the image: a URL or a local file.")] = "",
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Name of the image; default: the file name.")
    ] = "",
    disk_format: Annotated[
        str, typer.Option("--disk-format", metavar="FORMAT", help="Disk format; default: detected from the data.")
    ] = "",
    container_format: Annotated[
        str, typer.Option("--container-format", metavar="FORMAT", help="Container format.")
    ] = "bare",
    stores: Annotated[
        list[str] | None, typer.Option("--store", metavar="STORE", help="Target store; may be repeated.")
    ] = None,
    all_stores: Annotated[bool, typer.Option("--all-stores", help="Import into every store.")] = False,
    allow_failure: Annotated[
        bool, typer.Option("--allow-failure", help="Activate the image even if some stores fail.")
    ] = False,
    properties: Annotated[
        list[str] | None, typer.Option("--property", metavar="NAME=VALUE", help="Extra property; may be repeated.")
    ] = None,
    image_id: Annotated[str, typer.Option("--id", metavar="UUID", help="UUID for the image; default: generated.")] = "",
    keep: Annotated[
        bool,
        typer.Option(
            "--keep", help="Keep the image if its import fails, for 'transship rerun'; default: ask, or remove it."
        ),
    ] = False,
) -> None:
    """Import an image and show its progress."""
    from transship.commands.import_image import ImportOptions, import_image, parse_properties

    options = ImportOptions(
        source=source,
        name=name,
        disk_format=disk_format,
        container_format=container_format,
        stores=tuple(stores or ()),
        all_stores=all_stores,
        allow_failure=allow_failure,
        properties=parse_properties(properties or []),
        image_id=image_id,
        keep=keep,
    )
    raise typer.Exit(import_image(_invocation(context), options))


@app.command(
    epilog=_examples(
        "transship rerun debian-12",
        "transship rerun 6c1c0e5e-2b0f-4a53-9f0a-0d4f4f4d7a11 --store archive",
    )
)
def rerun(
    context: typer.Context,
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="Id or name of the image.")],
    store: Annotated[
        str, typer.Option("--store", metavar="STORE", help="Write only this one of the failed stores.")
    ] = "",
) -> None:
    """Retry what failed in the last import of an image, and show the progress."""
    from transship.commands.rerun import rerun as command

    raise typer.Exit(command(_invocation(context), image, store))


@app.command(
    epilog=_examples(
        "transship images",
        "transship images --json | jq -r '.[] | select(.status == \"active\") | .id'",
    )
)
def images(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the images."""
    from transship.commands.images import list_images

    raise typer.Exit(list_images(_invocation(context), as_json=as_json))


@app.command(
    name="check-uri",
    epilog=_examples(
        "transship check-uri https://cloud.debian.org/images/cloud/",
    ),
)
def check_uri(
    context: typer.Context, uri: Annotated[str, typer.Argument(metavar="URL")], as_json: JsonOption = False
) -> None:
    """Check whether a URL is accepted, and which rule decides."""
    from transship.commands import check_uri as command

    raise typer.Exit(command.check_uri(_invocation(context), uri, as_json=as_json))


@config_app.command(
    name="show",
    epilog=_examples(
        "transship config show",
        "transship config show --json | jq '.[] | select(.origin != \"default\")'",
    ),
)
def config_show(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show all settings in force and where each comes from. Secrets are masked."""
    from transship.commands import configuration

    raise typer.Exit(configuration.show(_invocation(context), as_json=as_json))


@config_app.command(
    name="check",
    epilog=_examples(
        "transship config check",
        "transship config check /etc/glance/glance-api.conf",
    ),
)
def config_check(
    context: typer.Context,
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE", help="Glance configuration files or directories, or one Transship file."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check configuration files, or without arguments the settings in force. Shows what is set and what has no effect.

    Files are checked alone: the environment and the default files are not read.
    """
    from transship.commands import configuration

    raise typer.Exit(configuration.check(_invocation(context), files or [], as_json=as_json))


@config_app.command(
    name="sample",
    epilog=_examples(
        "transship config sample > transship.toml",
    ),
)
def config_sample() -> None:
    """Print a configuration file with every option and its default."""
    from transship.commands import configuration

    raise typer.Exit(configuration.sample())


@config_app.command(
    name="new-key",
    epilog=_examples(
        "transship config new-key",
    ),
)
def config_new_key() -> None:
    """Print a new key for database.secret_key."""
    from transship.commands import configuration

    raise typer.Exit(configuration.new_key())


def main() -> int:
    """Run the command. Errors raised on purpose, and files that cannot be used, are one line without a traceback.

    Returns:
        The exit status: 1 for an error, 2 for wrong usage, 130 after Ctrl-C.
    """
    leave_caller_behind()
    try:
        return int(app(standalone_mode=True) or 0)
    except TransshipError as error:
        from transship.commands.context import RED, coloured

        print(coloured(f"error: {error}", RED, error=True), file=sys.stderr)
        return 2 if isinstance(error, CommandRefused) else 1
    except OSError as error:
        if error.filename is None:
            raise
        denied = isinstance(error, PermissionError)
        remedy = "run this as the user who started the service" if denied else "check the path and its file system"
        print(f"error: {error.filename} cannot be used: {error.strerror}; {remedy}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
