"""Expected errors of users, by their fields and not by their sentences."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lga_jax.errors import UserError


@contextmanager
def refused(subject: str, found: str = "", kind: type[UserError] = UserError) -> Iterator[pytest.ExceptionInfo]:
    """Expects a UserError of one line; regular expressions are searched in its subject and in what it found."""
    with pytest.raises(kind) as caught:
        yield caught
    assert re.search(subject, caught.value.subject), caught.value.subject
    assert re.search(found, caught.value.found), caught.value.found
    assert len(str(caught.value).splitlines()) == 1
