"""How the project tells a user that something they gave it is wrong."""

import sys
from collections.abc import Callable


class UserError(ValueError):
    """A fault in what the user gave: one line that names the thing, what was expected, what was found, what to do."""


def exit_on_user_error(main: Callable[..., None]) -> Callable[..., None]:
    """Wraps a script's main: a UserError becomes one line on stderr and exit status 2, without a traceback."""

    def wrapped(*args: object) -> None:
        try:
            main(*args)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)

    return wrapped
