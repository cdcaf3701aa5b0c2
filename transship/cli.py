"""The ``transship`` command: names, options and help. What a command does stands in `transship.commands`.

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
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_app = typer.Typer(help="Show the settings.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(config_app, name="config")

ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Configuration file, instead of the usual places.")
]

GlanceOption = Annotated[
    list[Path] | None,
    typer.Option("--glance-config", metavar="FILE", help="Configuration file of a Glance, or its directory; repeat."),
]


@app.callback()
def _options(
    context: typer.Context,
    config: ConfigOption = None,
    home: Annotated[
        Path | None, typer.Option("--home", metavar="DIR", help="Home directory, instead of TRANSSHIP_HOME.")
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="OPTION=VALUE", help="A setting, e.g. api.port=9393; may be repeated."),
    ] = None,
    glance_config: GlanceOption = None,
) -> None:
    # Kept as they are: loading the settings here would make the help of each command wait for it.
    context.obj = (config, home, assignments or [], glance_config or [])


def _invocation(context: typer.Context, config: Path | None = None, glance: list[Path] | None = None) -> Invocation:
    from transship.commands.context import Invocation, parse_overrides

    first_config, home, assignments, first_glance = context.obj
    return Invocation(config or first_config, parse_overrides(home, assignments, glance or first_glance))


@app.command()
def up(
    context: typer.Context,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when everything is ready.")] = False,
    config: ConfigOption = None,
    glance_config: GlanceOption = None,
) -> None:
    """Start everything on this machine and keep it running."""
    from transship.commands import run

    raise typer.Exit(run.up(_invocation(context, config, glance_config), detach=detach))


@app.command()
def down(
    context: typer.Context,
    now: Annotated[bool, typer.Option("--now", help="Kill everything instead of letting imports end.")] = False,
) -> None:
    """Stop what 'up' started; running imports may end first."""
    from transship.commands import run

    raise typer.Exit(run.down(_invocation(context), now=now))


@app.command()
def worker(context: typer.Context, config: ConfigOption = None, glance_config: GlanceOption = None) -> None:
    """Run imports on this host for services that run on another one."""
    from transship.commands import worker as command

    command.worker(_invocation(context, config, glance_config))


@app.command()
def reload(context: typer.Context) -> None:
    """Give what runs the code and settings of now; running imports and requests go on."""
    from transship.commands import reload as command

    raise typer.Exit(command.reload(_invocation(context)))


@app.command()
def status(context: typer.Context) -> None:
    """Show what runs, how it is, and how many images and tasks there are."""
    from transship.commands import status as command

    raise typer.Exit(command.status(_invocation(context)))


@app.command()
def deploy(
    context: typer.Context,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Also replace store blocks that were edited in the Prefect UI.")
    ] = False,
) -> None:
    """Apply work pool, queues, blocks and deployments to Prefect."""
    from transship.commands import deploy as command

    raise typer.Exit(command.deploy(_invocation(context), overwrite=overwrite))


@app.command()
def doctor(context: typer.Context) -> None:
    """Check what imports need, and say what to do about what is wrong."""
    from transship.commands import doctor as command

    raise typer.Exit(command.doctor(_invocation(context)))


@app.command(name="import")
def import_(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="[URL|FILE]", help="Where the image comes from.")] = "",
    name: Annotated[str, typer.Option("--name", help="Name of the image; else that of the file.")] = "",
    disk_format: Annotated[str, typer.Option("--disk-format", help="Else asked of the data.")] = "",
    container_format: Annotated[str, typer.Option("--container-format")] = "bare",
    stores: Annotated[list[str] | None, typer.Option("--store", help="Target store; may be repeated.")] = None,
    all_stores: Annotated[bool, typer.Option("--all-stores", help="Import into every store.")] = False,
    allow_failure: Annotated[
        bool, typer.Option("--allow-failure", help="Accept the image even if a store failed.")
    ] = False,
    properties: Annotated[
        list[str] | None, typer.Option("--property", metavar="NAME=VALUE", help="Extra property; may be repeated.")
    ] = None,
    image_id: Annotated[str, typer.Option("--id", help="Id of the image, a UUID; else chosen for you.")] = "",
) -> None:
    """Import an image and show how it goes on."""
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
    )
    raise typer.Exit(import_image(_invocation(context), options))


@app.command()
def rerun(
    context: typer.Context,
    image_id: Annotated[str, typer.Argument(metavar="IMAGE", help="Id of the image.")],
    store: Annotated[str, typer.Option("--store", help="Write this store only, of those that failed.")] = "",
) -> None:
    """Do again what failed of an image's last import."""
    from transship.commands.rerun import rerun as command

    raise typer.Exit(command(_invocation(context), image_id, store))


@app.command()
def images(context: typer.Context) -> None:
    """List the images."""
    from transship.commands.images import list_images

    raise typer.Exit(list_images(_invocation(context)))


@app.command(name="check-uri")
def check_uri(context: typer.Context, uri: Annotated[str, typer.Argument(metavar="URL")]) -> None:
    """Say whether a URI would be imported from, and which rule decides."""
    from transship.commands import check_uri as command

    raise typer.Exit(command.check_uri(_invocation(context), uri))


@config_app.command(name="show")
def config_show(context: typer.Context) -> None:
    """Show every setting in force, with secrets masked, and where it came from."""
    from transship.commands import configuration

    raise typer.Exit(configuration.show(_invocation(context)))


@config_app.command(name="check")
def config_check(
    context: typer.Context,
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE]...", help="Files of a Glance, its directory, or one of ours.")
    ] = None,
) -> None:
    """Check configuration files, and show what they set and what has no effect."""
    from transship.commands import configuration

    raise typer.Exit(configuration.check(_invocation(context), files or []))


@config_app.command(name="sample")
def config_sample() -> None:
    """Print a configuration file with every option and its default."""
    from transship.commands import configuration

    raise typer.Exit(configuration.sample())


@config_app.command(name="new-key")
def config_new_key() -> None:
    """Print a fresh key for database.secret_key."""
    from transship.commands import configuration

    raise typer.Exit(configuration.new_key())


def main() -> int:
    """Run the command; errors raised on purpose are one line, never a trace.

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
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
