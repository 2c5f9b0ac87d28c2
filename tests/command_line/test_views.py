"""Flags of views become the fields of Views."""

import pytest
from absl import flags

from lga_jax.command_line.views import define_views
from lga_jax.inference.views import Views


@pytest.fixture
def read():
    """Views of some flags; the flags are removed again."""
    before = set(flags.FLAGS)
    views = define_views()
    yield lambda *given: flags.FLAGS(["program", *given]) and Views(**views())
    flags.FLAGS.remove_flag_values({name: flags.FLAGS[name] for name in set(flags.FLAGS) - before})
    flags.FLAGS.unparse_flags()


def test_without_flags_the_image_alone_is_predicted(read):
    assert read() == Views() and read().is_plain


def test_all_flags(read):
    views = read("--flip", "--scales=1,1.5", "--tile=640", "--overlap=0.5", "--merge=wbf")
    assert views == Views(True, (1.0, 1.5), 640, 0.5, "wbf")


@pytest.mark.parametrize("given", ["--scales=large", "--scales=", "--merge=mean", "--tile=-1"])
def test_other_values_are_refused(read, given):
    with pytest.raises(flags.IllegalFlagValueError):
        read(given)
