from tests.stores.memory import bucket  # noqa: F401
