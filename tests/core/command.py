"""The command line, called in this process."""

from typer.testing import CliRunner

from samlet.cli.main import app
from samlet.errors import UserError


def run_command(*arguments: object) -> str:
    """Run `samlet` with arguments, and give what it printed on standard output.

    Raises:
        UserError: the command ends with it.
    """
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(done.exception, UserError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout
