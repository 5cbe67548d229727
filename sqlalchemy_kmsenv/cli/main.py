"""``kmsenv``: the group of commands, each imported when it is called."""

from __future__ import annotations

from importlib import import_module

import click

COMMANDS: dict[str, str] = {
    "doctor": "sqlalchemy_kmsenv.cli.doctor:doctor",
    "inspect": "sqlalchemy_kmsenv.cli.inspection:inspect",
    "kms": "sqlalchemy_kmsenv.cli.kms:kms",
    "policy": "sqlalchemy_kmsenv.cli.policy:policy",
    "reencrypt": "sqlalchemy_kmsenv.cli.reencrypt:reencrypt",
    "rewrap": "sqlalchemy_kmsenv.cli.rewrap:rewrap",
    "survey": "sqlalchemy_kmsenv.cli.survey:survey",
    "verify": "sqlalchemy_kmsenv.cli.verify:verify",
}
"""Where each command is: ``name`` to ``module:attribute``."""


class LazyGroup(click.Group):
    """Imports a command when it is asked for: ``kmsenv --help`` needs no database and no boto3."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, in alphabetical order."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, if there is one."""
        module, _, attribute = COMMANDS.get(cmd_name, "").partition(":")
        if not module:
            return None
        command: click.Command = getattr(import_module(module), attribute)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sqlalchemy-kmsenv")
def main() -> None:
    """Look after encrypted columns and their keys."""


if __name__ == "__main__":
    main(prog_name="kmsenv")
