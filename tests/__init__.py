"""Tests, the slow oracles they compare with (tests.reference), and what checks the annotations of lga_jax meanwhile."""

from beartype import BeartypeConf, beartype

# An int may stand where a float is annotated, as PEP 484 has it: recipes say 32, not 32.0.
check_annotations = beartype(conf=BeartypeConf(is_pep484_tower=True))
