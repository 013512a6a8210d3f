"""What an option is: one field of a command's model, with type, range, default, flags, unit and meaning.

A command's options are one frozen pydantic model. Everything else that knows of an option reads it here: the
command line (`options.command_line`), the schema, the defaults and the reference page of the configuration
(`options.configuration`), and the code that uses the value.
"""

from typing import Any, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

POSITIONAL = "positional"
CONFIG_ONLY = "configuration only"


class Words(NamedTuple):
    """What the field of an option says beside pydantic's own words; see `option`."""

    flags: tuple[str, ...]
    metavar: str | None
    unit: str | None
    section: str | None


class Options(BaseModel):
    """Options of a command, or a group of options that commands share.

    A notebook makes them by name, `SirenOptions(volumes="volumes", outdir="siren")`; pydantic's
    ValidationError tells what is wrong with a value.

    section: heading under which `--help` lists the fields of this class. epilog: last words of `--help`.
    exclusive: groups of fields of which the user gives one at most. one_of: groups of fields of which the
    user gives exactly one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)
    section: ClassVar[str] = ""
    epilog: ClassVar[str | None] = None
    exclusive: ClassVar[tuple[tuple[str, ...], ...]] = ()
    one_of: ClassVar[tuple[tuple[str, ...], ...]] = ()

    def changed(self, **values: Any) -> "Options":
        """Return a copy with other values, which are not checked again."""
        return self.model_copy(update=values)

    def given(self, *names: str) -> bool:
        """Say whether the user gave one of these options, be it with its default value."""
        return not self.model_fields_set.isdisjoint(names)


def option(
    default: Any,
    meaning: str,
    *flags: str,
    metavar: str | None = None,
    unit: str | None = None,
    section: str | None = None,
    **limits: Any,
) -> Any:
    """Return the field of one option.

    default: `...` where the user has to give the option. meaning: a sentence for `--help` and for the
    reference of the configuration. flags: of the command line, by default the name of the field; `POSITIONAL`
    for an argument without a flag, `CONFIG_ONLY` for a key that only a configuration can give. metavar:
    stands for the value in `--help`. section: heading in `--help`, by default that of the class. limits: ge,
    gt, le, lt, min_length, ... of pydantic's Field.
    """
    words: Any = Words(flags, metavar, unit, section)._asdict()
    return Field(default, description=meaning, json_schema_extra=words, **limits)


def words_of(field: FieldInfo) -> Words:
    """Return the words that `option` has put into a field; raises TypeError for any other field."""
    words: Any = field.json_schema_extra
    return Words(**words)
