"""Checks a whole recipe and reports all faults together."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from ml_collections import ConfigDict

from lga_jax.errors import UserError, listed
from lga_jax.recipe import relations
from lga_jax.recipe.augmentation import AUGMENT
from lga_jax.recipe.keys import rules_of
from lga_jax.recipe.nearest import did_you_mean, nearest_keys
from lga_jax.recipe.rule import Rule

_Path = tuple[str, ...]


class RecipeError(UserError):
    """All faults of a recipe, one per line of its text; commands print each as a separate error."""

    def __init__(self, faults: Sequence[UserError]) -> None:
        super().__init__(", ".join(fault.subject for fault in faults))
        self.faults = tuple(faults)

    def __str__(self) -> str:
        return "\n".join(map(str, self.faults))

    def within(self, place: str) -> "RecipeError":
        """The same faults, each with `place` before its subject."""
        return RecipeError([fault.within(place) for fault in self.faults])


def check(
    config: ConfigDict, *, device_count: int | None = None, new_run: bool = False, own: Iterable[str] = ()
) -> ConfigDict:
    """Returns a locked copy of the recipe with converted values (lists become tuples, 1e3 becomes 1000).

    Raises RecipeError with all faults: unknown and missing keys, wrong values, and values that contradict each other.

    Args:
        config: the recipe; it is not changed.
        device_count: devices that share a batch, over all processes. None: unknown, without checks that depend on it.
        new_run: the recipe starts a run, so a frozen or batch-normed backbone needs model.init_from.
        own: keys and sections replaced by objects of the caller: "data.train", "data.eval", "model.backbone",
            "model.attention". They are not checked.
    """
    nested = config.to_dict()
    ignored = tuple(own)
    rules = {key: rule for key, rule in rules_of(nested).items() if not _is_within(key, ignored)}
    ignored += tuple(_keys_of_unknown_kinds(nested, rules))
    values, faults = {}, []
    for path, value in _leaves(nested, rules):
        key = ".".join(path)
        if _is_within(key, ignored):
            continue
        try:
            values[key] = _accepted(key, value, rules)
            _put(nested, path, values[key])
        except UserError as fault:
            faults.append(fault)
    faults += _missing(nested, rules, [fault.subject for fault in faults])
    faults += _relations(values, device_count, new_run)
    if faults:
        raise RecipeError(faults)
    return ConfigDict(nested, type_safe=False).lock()


def _leaves(nested: Mapping[str, Any], rules: Mapping[str, Rule], path: _Path = ()) -> Iterator[tuple[_Path, Any]]:
    for name, value in nested.items():
        here = (*path, name)
        if isinstance(value, Mapping) and value and ".".join(here) not in rules:
            yield from _leaves(value, rules, here)
        else:
            yield here, value


def _accepted(key: str, value: Any, rules: Mapping[str, Rule]) -> Any:
    """The converted value."""
    if key not in rules:
        raise _unknown(key, value, rules)
    rule = rules[key]
    try:
        return rule.accept(value)
    except (ValueError, TypeError, OverflowError):
        pass
    near = nearest_keys(value, rule.choices) if isinstance(value, str) and rule.is_text else []
    raise UserError(
        key,
        expected=rule.expected,
        found=_shown(value),
        remedy=did_you_mean([repr(name) for name in near], "correct the recipe"),
    )


def _unknown(key: str, value: Any, rules: Mapping[str, Rule]) -> UserError:
    inside = [known for known in rules if known.startswith(f"{key}.")]
    if inside:
        names = dict.fromkeys(known.removeprefix(f"{key}.").split(".")[0] for known in inside)
        return UserError(
            key, expected=f"a section with {listed(list(names))}", found=_shown(value), remedy="correct the recipe"
        )
    if key == AUGMENT:
        return UserError(
            key,
            expected="no such key in a recipe, but the values of a preset",
            found=_shown(value),
            remedy=f"call augment(config, {value!r}), from lga_jax.recipe",
        )
    return UserError(
        key,
        expected="a recipe key",
        found="an unknown key",
        remedy=did_you_mean(nearest_keys(key, rules), _where_keys_are(key, rules)),
    )


def _where_keys_are(key: str, rules: Mapping[str, Rule]) -> str:
    section = key.rpartition(".")[0]
    names = [known.removeprefix(f"{section}.") for known in rules if known.rpartition(".")[0] == section]
    return f"{section} has {listed(names, 12)}" if section and names else "configs/coco.py lists all keys"


def _missing(nested: Mapping[str, Any], rules: Mapping[str, Rule], reported: Sequence[str]) -> Iterator[UserError]:
    """Missing keys of the recipe, except in sections that are already reported."""
    present = {".".join(path) for path, _ in _leaves(nested, rules)}
    for key, rule in rules.items():
        if rule.needed and key not in present and not _is_within(key, tuple(reported)):
            yield UserError(
                key,
                expected=rule.expected,
                found="no such key",
                remedy='start from a recipe that has it: start_from("coco")',
            )


def _keys_of_unknown_kinds(nested: Mapping[str, Any], rules: Mapping[str, Rule]) -> Iterator[str]:
    """Keys that cannot be checked, because the `source` or the `name` of a backbone in their section is wrong."""
    deciding = [key for key in rules if key.endswith(".source") or key == "model.backbone.name"]
    for place, kind in (key.rsplit(".", 1) for key in deciding):
        section: Any = nested
        for name in place.split("."):
            section = section.get(name) if isinstance(section, Mapping) else None
        if isinstance(section, Mapping) and section.get(kind) not in rules[f"{place}.{kind}"].choices:
            yield from (f"{place}.{name}" for name in section if name not in (kind, "weight"))


def _relations(values: Mapping[str, Any], device_count: int | None, new_run: bool) -> list[UserError]:
    questions: list[Callable[[Mapping[str, Any]], Iterator[UserError]]] = [*relations.RELATIONS]
    questions.append(partial(relations.images_at_once, device_count=device_count or 1))
    if device_count:
        questions.append(partial(relations.batch_and_devices, device_count=device_count))
    if new_run:
        questions.append(relations.initial_weights)
    faults = []
    for question in questions:
        try:
            faults += question(values)
        except KeyError:  # a value is wrong, or replaced by an object of the caller
            continue
    return faults


def _put(nested: dict, path: _Path, value: Any) -> None:
    for name in path[:-1]:
        nested = nested[name]
    nested[path[-1]] = value


def _is_within(key: str, sections: Sequence[str]) -> bool:
    return any(key == section or key.startswith(f"{section}.") for section in sections)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
