import pytest

from lga_jax.stores import place
from lga_jax.stores.place import check_local, check_place, is_url
from tests.faults import refused


@pytest.mark.parametrize(
    "url", ["gs://bucket/run", "s3://b/a/b", "ftp://x", "memory://a/b", "file:///tmp/x", "gs:/b/a"]
)
def test_urls(url):
    assert is_url(url)


@pytest.mark.parametrize("folder", ["runs/a", "/runs/a", "./a:b", "a:b", "C:run", "~/runs", "1gs://a/b"])
def test_folders(folder):
    assert not is_url(folder)
    check_place(folder)
    check_local(folder, "output")


@pytest.mark.parametrize(
    "url", ["ftp://x/y", "memory://a/b", "gs://bucket", "gs:/bucket/run", "gs:///run", "gs://b//run"]
)
def test_other_urls_are_refused(url):
    with refused("workdir", url):
        check_place(url)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(place, "find_spec", lambda name: None)
    with refused("workdir s3://bucket/run", "none") as error:
        check_place("s3://bucket/run")
    assert "lga_jax[s3]" in error.value.remedy


def test_where_only_a_folder_suits():
    with refused("output", "gs://bucket/run"):
        check_local("gs://bucket/run", "output")
