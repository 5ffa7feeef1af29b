"""Mappings of settings: laid over one another, told apart, and by dotted names."""

from __future__ import annotations

from recipes.chain.command.values import difference, merged, nested

BASE = {"a": 1, "group": {"b": 2, "c": [3, 4]}, "empty": {}}


def test_dotted_names_are_mappings_in_mappings() -> None:
    dotted = {"group.b": 5, "group.inner.d": [6], "a": None}
    assert nested(dotted) == {"group": {"b": 5, "inner": {"d": [6]}}, "a": None}


def test_a_difference_laid_over_its_base_gives_the_values_again() -> None:
    for values in (
        {"a": 1, "group": {"b": 2, "c": [3]}, "empty": {"e": 7}},
        {"a": {"x": 1}, "group": None, "empty": {}},
        BASE,
    ):
        found = difference(BASE, values)
        assert merged(BASE, found) == values
        assert all(found[name] != BASE[name] for name in found)
    assert difference(BASE, BASE) == {}
    assert difference(BASE, {**BASE, "group": {"b": 9, "c": [3, 4]}}) == {"group": {"b": 9}}
