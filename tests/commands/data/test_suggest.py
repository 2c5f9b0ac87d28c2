"""`lga_jax suggest` as a user calls it; tests/suggest has what is suggested."""

from lga_jax.commands.data import suggest
from lga_jax.recipe import check, load
from tests.commands.calling import run_command


def test_a_recipe_is_written_and_named_and_never_overwritten(tiny_run, tmp_path):
    args = ("--config", "tiny.py", "--output", tmp_path / "mine.py")
    done = run_command(suggest, *args, folder=tiny_run)
    assert done.status == 0, done.stderr
    assert str(tmp_path / "mine.py") in done.stdout and "batch_size" in done.stdout
    check(load(tmp_path / "mine.py"))
    text = (tmp_path / "mine.py").read_text()
    done = run_command(suggest, *args, folder=tiny_run)
    assert (done.status, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("error: --output ") and (tmp_path / "mine.py").read_text() == text
