"""Names of settings: how Milvus reduces them, which settings share one value, which values are secret.

Milvus looks a setting up under its name in lower case without `/`, `_` and `.`, so that
`rootCoord.enableActiveStandby`, `ROOT_COORD_ENABLE_ACTIVE_STANDBY` and the etcd key
`<root>/config/rootCoord/enableActiveStandby` are one item.

Source of truth: Milvus 2.3.5 pkg/config/config.go, pkg/util/paramtable/base_table.go.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

MASK = "******"

_DROPPED = str.maketrans("", "", "/_.")
_SECRET_WORDS = (
    "password", "passwd", "passphrase", "secret", "token", "accesskey", "apikey", "privatekey", "authparam",
    "credential", "saslusername", "sslkeypem", "oauthbearerconfig", "jaas",
)  # fmt: skip
_URL_USER = re.compile(r"(?<=://)[^/@\s]+@")
_LOGIN = re.compile(r"\b(token|password|(?:client_?)?secret|private_?key):.+", re.IGNORECASE | re.DOTALL)
"""Parameters of a login as Pulsar's are written, which may stand under another key by mistake."""


def normalise(name: str) -> str:
    """The item name of a YAML path (`etcd.requestTimeout`) or of an etcd key (`etcd/requestTimeout`)."""
    return name.lower().translate(_DROPPED)


def normalise_env(name: str) -> str:
    """The item name of an environment variable. Milvus drops a leading `milvus.`, but not `MILVUS_`."""
    return normalise(name.lower().removeprefix("milvus."))


def is_secret(key: str) -> bool:
    """Whether the value of this key (in any spelling) must not be shown."""
    name = normalise(key)
    return any(word in name for word in _SECRET_WORDS)


def shown(key: str, value: str) -> str:
    """`value` as it may be printed: secrets and the user part of URLs are masked, the empty text is kept."""
    if value and is_secret(key):
        return MASK
    return _LOGIN.sub(rf"\1:{MASK}", _URL_USER.sub(f"{MASK}@", value))


def shown_key(key: str) -> str:
    """`key` as it may be printed. No setting has a colon in its name: in `{password:x}` a space is missing,
    and for YAML all of it is a key.
    """
    head, colon, _rest = key.partition(":")
    return f"{head}:{MASK}" if colon and is_secret(key) else key


@dataclass(frozen=True, slots=True)
class Fallback:
    """Another key that is read when the setting's own key is absent (or blank) everywhere.

    `convert` turns the text found there into text for the setting; "" means that it says nothing.
    """

    path: str
    convert: Callable[[str], str] | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """Marks a field of the settings model as read from one YAML path.

    `path` is spelled as in milvus.yaml; `{role}` stands for the `Role` of the section that the field is in.
    `aliases` are other YAML paths of equal rank: the higher source wins, and two different values in one
    source are an error. `env` are further environment variables of the same rank. `live` settings take
    effect while the process runs, all others at the next start.
    """

    path: str
    aliases: tuple[str, ...] = ()
    fallbacks: tuple[Fallback, ...] = ()
    env: tuple[str, ...] = ()
    live: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """Marks a field of the settings model as all that lies below one YAML path, whatever it is called: rest
    of the key, in lower case and with dots -> text. Files and etcd count, variables do not: in Milvus' names
    of those the dots are lost.
    """

    path: str

    def member(self, key: str) -> str | None:
        """The rest of `key` (a YAML path or an etcd key) if it lies below the path."""
        head, below, rest = key.replace("/", ".").lower().partition(f"{self.path.lower()}.")
        return rest if below and not head and rest else None

    def path_of(self, member: str) -> str:
        """The YAML path of one member."""
        return f"{self.path}.{member}"


@dataclass(frozen=True, slots=True)
class Role:
    """Marks a section of the settings model as one of several that are alike, those of the roles above all:
    `name`, the way to it in the YAML, replaces `{role}` in its keys.
    """

    name: str
