"""The objects of a folder in an object store, through fsspec."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lga_jax.errors import UserError, printable
from lga_jax.stores.place import check_place


class StoreError(UserError):
    """A store that could not be reached, read or written."""


class Store:
    """The objects below gs://BUCKET/FOLDER or s3://BUCKET/FOLDER; names are relative to it.

    An object appears whole or not at all, and can then be seen by everybody. All methods raise StoreError.
    """

    def __init__(self, url: str) -> None:
        check_place(url)
        import fsspec  # takes 0.1 s, which commands with a local workdir save

        self.url = url.rstrip("/")
        with self._reached():
            self._files, self._root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)

    def sizes(self) -> dict[str, int]:
        """The bytes of all objects, by name; without names that would lead out of a local folder."""
        with self._reached():
            found = self._files.find(self._root, detail=True)
        sizes = {name.removeprefix(f"{self._root}/"): entry["size"] for name, entry in found.items()}
        return {name: size for name, size in sizes.items() if not {"", ".", ".."} & set(name.split("/"))}

    def read(self, name: str) -> bytes | None:
        """The content of an object; None if there is none."""
        with self._reached():
            try:
                return self._files.cat_file(self._full(name))
            except FileNotFoundError:
                return None

    def write(self, name: str, data: bytes) -> None:
        """Writes or replaces an object."""
        with self._reached():
            self._files.pipe_file(self._full(name), data)

    def create(self, name: str, data: bytes) -> bool:
        """Writes a new object. Returns False, and changes nothing, if it exists."""
        with self._reached():
            try:
                self._files.pipe_file(self._full(name), data, mode="create")
            except FileExistsError:
                return False
        return True

    def upload(self, path: Path, name: str) -> None:
        """Copies a local file into the store."""
        with self._reached():
            self._files.put_file(str(path), self._full(name))

    def download(self, name: str, path: Path) -> None:
        """Copies an object to a local file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._reached():
            self._files.get_file(self._full(name), str(path))

    def remove(self, names: Iterable[str]) -> None:
        """Removes objects that may exist."""
        with self._reached():
            for name in names:
                with suppress(FileNotFoundError):
                    self._files.rm_file(self._full(name))

    def _full(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _reached(self) -> Iterator[None]:
        # Each file system raises the exceptions of its own HTTP and credential libraries.
        try:
            yield
        except Exception as error:
            lines = str(error).strip().splitlines()
            found = f"{type(error).__name__}: {printable(lines[0], 120) if lines else ''}"
            raise StoreError(
                self.url,
                expected="a bucket that this machine can read and write",
                found=found,
                remedy="check the name, the credentials (gcloud auth application-default login, or aws configure) "
                "and the network",
            ) from error
