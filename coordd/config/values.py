"""The text of a setting -> a value of its type, and back to text for people.

Texts are read as Milvus' Go code reads them: booleans are `true`/`false`/`1`/`0`/`t`/`f` (so `yes` is wrong
here, where Milvus would silently take false), numbers are decimal.
"""

import math

from pydantic import SecretStr

from coordd.config.keys import MASK, shown
from coordd.config.schema import Kind, Setting

_BOOLS = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}


class WrongValueError(ValueError):
    """The text is not of the setting's type."""


def parse(setting: Setting, text: str) -> object:
    """Read `text` (not blank, unless the setting is a text) as a value of the setting's type.

    Raises:
        WrongValueError: the message says what was expected, without the text itself.
    """
    match setting.kind:
        case Kind.TEXT:
            return text
        case Kind.LIST:
            return tuple(part.strip() for part in text.split(",") if part.strip())
        case Kind.BOOL:
            value = _BOOLS.get(text.strip().lower())
            if value is not None:
                return value
        case Kind.INT | Kind.FLOAT:
            number = _number(text)
            if number is not None and (setting.kind is Kind.FLOAT or number == int(number)):
                return number if setting.kind is Kind.FLOAT else int(number)
    raise WrongValueError(f"must be {setting.expected}")


def _number(text: str) -> int | float | None:
    """A finite number, exact if it is whole; None for anything else."""
    bare = text.strip()
    if not bare.isascii():
        return None
    try:
        return int(bare)
    except ValueError:
        pass
    try:
        number = float(bare)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def quoted(setting: Setting, text: str) -> str:
    """`text` for an error message: in quotes, secrets masked, shortened if very long."""
    if setting.secret and text:
        return MASK
    safe = shown(setting.path, text)
    return f'"{safe}"' if len(safe) <= 200 else f'"{safe[:200]}..."'


def rendered(setting: Setting, value: object) -> str:
    """A value of the settings model as it would be written in YAML; secrets masked, None as nothing."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case SecretStr():
            return MASK if value.get_secret_value() else ""
        case tuple():
            return ",".join(shown(setting.path, str(part)) for part in value)
        case float():
            return f"{value:g}"
        case _:
            return shown(setting.path, str(value))
