import click
from click.testing import CliRunner

from automm.api import hookimpl


@hookimpl
def automm_commands(group):
    @group.command()
    @click.argument("name")
    def greet(name):
        """Greet somebody: `automm greet Ada`."""
        click.echo(f"Hello, {name}.")


group = click.Group()  # automm passes its own
automm_commands(group)
assert CliRunner().invoke(group, ["greet", "Ada"]).output == "Hello, Ada.\n"
