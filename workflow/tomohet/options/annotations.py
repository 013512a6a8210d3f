"""What the annotation of an option says: the types of a value, its choices, how many values, its marks."""

import types
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BeforeValidator
from pydantic.fields import FieldInfo


class Kind(NamedTuple):
    """How an option is written.

    types: of one value, such as (float, str). choices: all values that there are, or (). count: of values,
    None for a single one, `...` for any number. optional: whether None is a value. marks: limits and other
    marks of one value. whole: limits of a list.
    """

    types: tuple[Any, ...]
    choices: tuple[Any, ...]
    count: Any
    optional: bool
    marks: tuple[Any, ...]
    whole: tuple[Any, ...]


def kind_of(field: FieldInfo) -> Kind:
    """Read the annotation of a field."""
    marks = list(field.metadata)
    if any(isinstance(mark, BeforeValidator) for mark in marks):
        return Kind((str,), (), None, False, (), ())
    options = [one for one in _alternatives(field.annotation) if one is not type(None)]
    optional = len(options) < len(_alternatives(field.annotation))
    count, whole = None, ()
    if get_origin(options[0]) is tuple:
        entries = get_args(options[0])
        count = ... if entries[-1] is ... else len(entries)
        options, whole, marks = [entries[0]], tuple(marks), []
    found: list[Any] = []
    choices: list[Any] = []
    for option in options:
        one, *own = get_args(option) if get_origin(option) is Annotated else (option,)
        marks += own
        literal = get_origin(one) is Literal
        choices += get_args(one) if literal else ()
        found.append(str if literal else one)
    exhaustive = tuple(choices) if len(options) == 1 else ()
    return Kind(tuple(found), exhaustive, count, optional, tuple(marks), whole)


def _alternatives(annotation: Any) -> list[Any]:
    if get_origin(annotation) in (Union, types.UnionType):
        return list(get_args(annotation))
    return [annotation]
