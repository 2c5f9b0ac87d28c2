"""Tells folders from URLs of object stores, and refuses URLs that no command can use."""

import os
import re
from importlib.util import find_spec

from lga_jax.errors import UserError

_PACKAGES = {"gs": "gcsfs", "s3": "s3fs"}  # scheme -> the package that fsspec needs for it


def is_url(place: str | os.PathLike) -> bool:
    """Whether a place is SCHEME:/..., with one slash too: `Path` removes the second one."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/", os.fspath(place)) is not None


def check_place(place: str | os.PathLike, subject: str = "workdir") -> None:
    """Raises UserError for a URL that is not gs://BUCKET/FOLDER or s3://BUCKET/FOLDER, or whose package is missing."""
    text = os.fspath(place)
    if not is_url(text):
        return
    scheme = text.partition(":")[0]
    if scheme not in _PACKAGES or not re.fullmatch(r"[a-z0-9]+://[^/]+(/[^/]+)+/?", text):
        raise UserError(
            subject,
            expected="a folder, gs://BUCKET/FOLDER or s3://BUCKET/FOLDER",
            found=text,
            remedy="for another store use a local folder, and copy it with the store's own program",
        )
    package = _PACKAGES[scheme]
    if find_spec(package) is None:
        raise UserError(
            f"{subject} {text}".strip(),
            expected=f"the package {package}",
            found="none",
            remedy=f"pip install 'lga_jax[{scheme}]', or use a local folder",
        )


def check_local(place: str | os.PathLike, subject: str) -> None:
    """Raises UserError for a URL."""
    if is_url(place):
        raise UserError(
            subject,
            expected="a local file or folder",
            found=os.fspath(place),
            remedy="copy it with the store's own program, for example gcloud storage rsync -r or aws s3 sync",
        )
