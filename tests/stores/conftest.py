from tests.stores.memory import bucket, run  # noqa: F401
