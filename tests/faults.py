"""Expected errors of users, by their fields and not by their sentences, and a disk that fails."""

import os
import re
import tempfile
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


def fail_writing(patch: pytest.MonkeyPatch, name: str, number: int) -> None:
    """Lets the operating system refuse the content of the file `name`, with an error of errno."""
    create = tempfile.NamedTemporaryFile

    def create_failing(*, prefix: str, **options: object) -> object:
        def write(data: bytes) -> int:
            raise OSError(number, os.strerror(number))

        file = create(prefix=prefix, **options)
        if prefix == f".{name}.":
            file.write = write
        return file

    patch.setattr(tempfile, "NamedTemporaryFile", create_failing)
