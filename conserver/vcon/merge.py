"""Two chains worked on one vCon at once: joining what the later one did into the newer document.

Three versions meet: `base`, from which this chain started; `ours`, what it made of it; `theirs`,
what another chain wrote meanwhile. The result is theirs plus what we did, by these rules:

1. What we appended (parties, dialogs, attachments, analyses, tags, extensions) is appended to
   theirs, unless theirs has got the very same addition itself. Tags of both end in one attachment.
2. What we removed is removed from theirs as well, if theirs left it as it was. Something that the
   other side still points at is kept, or put back: a reference must not lose what it means.
3. What we edited replaces what theirs has. Where both edited the same element, its members are
   joined one by one; appends of both sides to one list are kept; in a true conflict the later
   chain (ours) wins and a note says so, for the log.

References in a vCon are indices, so every one of them moves when an element does. Therefore the
merge does not work on indices at all: every element gets a name ("base 0", "ours 2"), every
reference becomes the name that it means, the lists are joined, and only then are names turned into
indices again. Which element of a later version is which one of the base is found by content, in
order, and for an edited one by the members that stayed. A reference that points at nothing (an
index out of range) stays the number it was. Bodies are content: indices in them are not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any, NamedTuple

import orjson

from conserver.errors import Rejected
from conserver.vcon.document import Vcon, is_tags
from conserver.vcon.references import LISTS, map_references

_TAG_MEMBERS = frozenset(
    ("type", "purpose", "start", "party", "dialog", "mediatype", "mimetype", "encoding", "body")
)
# Elements that agree in one of the first are one, those that differ in any of them are two, however
# much else they share. Several elements may well have started at once.
_IDENTITIES = ("id", "uuid", "message_id")
_DIFFERENCES = (*_IDENTITIES, "start")
# Beyond this many pairs (500 edited dialogs) an edited element is looked for in its place only.
_MAX_COMPARISONS = 250_000
_ABSENT = object()


@dataclass(slots=True)
class Merged:
    """The joined vCon, whose base is theirs, and one note per edit that was decided for ours."""

    vcon: Vcon
    notes: list[str] = field(default_factory=list)


class Reference(NamedTuple):
    """What an index means: the element of that name in that list."""

    member: str
    name: str


def merge(base: bytes, ours: Vcon, theirs: bytes) -> Merged:
    """Join what `ours` did since `base` into the newer document `theirs`.

    `ours` itself is returned if theirs is the base, and theirs untouched if ours changed nothing.

    Raises:
        Rejected: theirs is no vCon, another vCon, or was signed or encrypted meanwhile while ours
            has changes, which nobody can add to it.
    """
    if theirs == base:
        return Merged(ours)
    merged = Vcon.parse(theirs)
    if merged.uuid != ours.uuid:
        raise Rejected(f"the newer document is another vCon's: {merged.uuid}")
    if not ours.changed:
        return Merged(merged)
    if merged.form != "unsigned":
        raise Rejected("it was signed or encrypted while a chain changed it: both cannot be kept")
    join = _Join(orjson.loads(base), ours.view, merged.data)
    join.write(merged.data)
    return Merged(merged, join.notes)


class _Side:
    """One version of the document: its elements by name, with references by name in them."""

    def __init__(self, document: dict[str, Any], label: str, base: _Side | None = None) -> None:
        self.document = document
        self.names: dict[str, list[str]] = {}
        self.keys: dict[str, list[bytes]] = {}
        for member in LISTS:
            items = document.get(member) or []
            # Indices into this list and later ones have no name yet: they do not count here.
            partly = [map_references(item, member, self._name) for item in items]
            keys = self.keys[member] = [_bytes(item) for item in partly]
            origins = [None] * len(keys) if base is None else _origins(base.keys[member], keys)
            self.names[member] = [
                f"{label} {index}" if base is None or origin is None else base.names[member][origin]
                for index, origin in enumerate(origins)
            ]
        self.elements: dict[str, dict[str, Any]] = {
            member: {
                name: map_references(item, member, self._name)
                for name, item in zip(self.names[member], document.get(member) or [], strict=True)
            }
            for member in LISTS
        }

    def _name(self, index: Any, target: str) -> Any:
        if not isinstance(index, int) or isinstance(index, bool):
            return index
        names = self.names.get(target)
        if names is None:
            return None
        return Reference(target, names[index]) if 0 <= index < len(names) else index


class _Join:
    """The joined lists, with names instead of indices until `write`."""

    def __init__(self, base: dict[str, Any], ours: dict[str, Any], theirs: dict[str, Any]) -> None:
        self.notes: list[str] = []
        self._base = _Side(base, "base")
        self._ours = _Side(ours, "ours", self._base)
        self._theirs = _Side(theirs, "theirs", self._base)
        # An addition of ours that went into another element, and that element.
        self._into: dict[Reference, Reference] = {}
        # What one side removed and the other one left as it was, in case something points at it.
        self._removed: dict[Reference, Any] = {}
        self._lists: dict[str, dict[str, Any]] = {}
        for member in LISTS:
            self._lists[member] = self._join_theirs(member)
            self._append_ours(member)
        self._put_back_what_is_pointed_at()

    def write(self, document: dict[str, Any]) -> None:
        """Turn `document`, which is theirs, into the result."""
        base, ours, theirs = (
            {name: value for name, value in side.document.items() if name not in LISTS}
            for side in (self._base, self._ours, self._theirs)
        )
        joined = _join_values(base, ours, theirs, "", self.notes)
        for name in theirs.keys() - joined.keys():
            del document[name]
        document.update(joined)
        places = {
            Reference(member, name): index
            for member, elements in self._lists.items()
            for index, name in enumerate(elements)
        }

        def place(value: Any, _target: str) -> Any:
            return places[value] if isinstance(value, Reference) else value

        for member, elements in self._lists.items():
            items = [map_references(element, member, place) for element in elements.values()]
            if items or document.get(member):
                document[member] = items
            if not items and member in self._base.document and member not in self._ours.document:
                document.pop(member, None)

    def _join_theirs(self, member: str) -> dict[str, Any]:
        """The elements of theirs, with our edits and without what we removed."""
        base, ours = self._base.elements[member], self._ours.elements[member]
        joined: dict[str, Any] = {}
        for name, element in self._theirs.elements[member].items():
            if name not in base:
                joined[name] = element
            elif name in ours:
                path = f"{member}[{len(joined)}]"
                joined[name] = _join_values(base[name], ours[name], element, path, self.notes)
            elif _equal(element, base[name]):
                self._removed[Reference(member, name)] = element
            else:
                joined[name] = element
                self.notes.append(f"{member}: one that we removed was edited meanwhile, kept")
        return joined

    def _append_ours(self, member: str) -> None:
        """Our additions, and what we edited while theirs removed it."""
        base, theirs = self._base.elements[member], self._theirs.elements[member]
        joined = self._lists[member]
        new = {name: element for name, element in theirs.items() if name not in base}
        for name, element in self._ours.elements[member].items():
            if name in theirs:
                continue
            here = Reference(member, name)
            if name in base:
                if _equal(element, base[name]):
                    self._removed[here] = element
                else:
                    joined[name] = element
                    self.notes.append(f"{member}: one that we edited was removed meanwhile, kept")
                continue
            added = map_references(element, member, self._follow)
            twin = next((other for other in new if _equal(new[other], added)), None)
            if twin is not None:
                del new[twin]  # Of two equal additions of ours it stands for one.
            home = twin or (_join_tags(added, joined) if is_tags(added) else None)
            if home is None:
                joined[name] = added
            else:
                self._into[here] = Reference(member, home)

    def _put_back_what_is_pointed_at(self) -> None:
        """Put removed elements back as long as one that stays points at them."""
        wanted: list[Reference] = []

        def note(value: Any, _target: str) -> Any:
            value = self._follow(value, _target)
            if isinstance(value, Reference):
                wanted.append(value)
            return value

        for member, elements in self._lists.items():
            for name, element in elements.items():
                elements[name] = map_references(element, member, note)
        while wanted:
            here = wanted.pop()
            if here in self._removed:
                element = self._removed.pop(here)
                self._lists[here.member][here.name] = map_references(element, here.member, note)
                self.notes.append(f"{here.member}: one was removed that is still pointed at, kept")
        for member, elements in self._lists.items():
            # What came back stands where it stood in theirs.
            names = dict.fromkeys([*self._theirs.names[member], *elements])
            self._lists[member] = {name: elements[name] for name in names if name in elements}

    def _follow(self, value: Any, _target: str) -> Any:
        return self._into.get(value, value) if isinstance(value, Reference) else value


def _origins(base_keys: Sequence[bytes], keys: Sequence[bytes]) -> list[int | None]:
    """For every element of a later version the index of the base element that it is, or None."""
    origins: list[int | None] = [None] * len(keys)
    matcher = SequenceMatcher(None, base_keys, keys, autojunk=False)
    for old, new, length in matcher.get_matching_blocks():
        origins[new : new + length] = range(old, old + length)
    gone = sorted(set(range(len(base_keys))).difference(origins))
    unknown = [new for new, origin in enumerate(origins) if origin is None]
    # Equal ones among these were moved, similar ones edited: not removed and added.
    facts = {old: _facts(base_keys[old]) for old in gone}
    others = {new: _facts(keys[new]) for new in unknown}
    if len(gone) * len(unknown) <= _MAX_COMPARISONS:
        pairs = [(old, new) for old in gone for new in unknown]
    else:
        pairs = list(zip(gone, unknown, strict=False))
    ranked = [(-_likeness(facts[old], others[new]), abs(old - new), old, new) for old, new in pairs]
    for likeness, _, old, new in sorted(ranked):
        if likeness <= -0.5 and old in facts and origins[new] is None:
            origins[new] = old
            del facts[old]
    return origins


def _facts(key: bytes) -> dict[str, bytes]:
    element = orjson.loads(key)
    if not isinstance(element, dict):
        return {}
    return {name: orjson.dumps(value) for name, value in element.items()}


def _likeness(one: dict[str, bytes], other: dict[str, bytes]) -> float:
    """The share of members that are the same, 0 to 1, unless something identifies them."""
    if any(name in one and name in other and one[name] != other[name] for name in _DIFFERENCES):
        return 0.0
    if any(name in one and name in other for name in _IDENTITIES):
        return 1.0
    return len(one.items() & other.items()) / max(len(one), len(other), 1)


def _join_values(base: Any, ours: Any, theirs: Any, path: str, notes: list[str]) -> Any:
    """One value in three versions; each of them may be _ABSENT, and so may the result."""
    if _equal(ours, base) or _equal(ours, theirs):
        return theirs
    if _equal(theirs, base):
        return ours
    if isinstance(ours, dict) and isinstance(theirs, dict):
        before = base if isinstance(base, dict) else {}
        joined: dict[str, Any] = {}
        for name in dict.fromkeys([*theirs, *ours]):
            inner = f"{path}.{name}" if path else name
            one, two, three = (side.get(name, _ABSENT) for side in (before, ours, theirs))
            value = _join_values(one, two, three, inner, notes)
            if value is not _ABSENT:
                joined[name] = value
        return joined
    both = _join_lists(_as_list(base) or [], _as_list(ours), _as_list(theirs))
    if both is not None:
        return orjson.dumps(both).decode() if isinstance(theirs, str) else both
    notes.append(f"{path}: both chains changed it, the later one wins")
    return ours


def _join_lists(base: list[Any], ours: list[Any] | None, theirs: list[Any] | None) -> Any:
    """Both lists' changes, if they can be told apart: texts (tags), or appends only; else None."""
    if ours is None or theirs is None:
        return None
    if all(isinstance(item, str) for item in [*base, *ours, *theirs]):
        kept = [item for item in theirs if item not in base or item in ours]
        return kept + [item for item in ours if item not in base and item not in theirs]
    length = len(base)
    if not _equal(ours[:length], base) or not _equal(theirs[:length], base):
        return None
    new = {_bytes(item) for item in theirs[length:]}
    return theirs + [item for item in ours[length:] if _bytes(item) not in new]


def _join_tags(added: dict[str, Any], joined: dict[str, Any]) -> str | None:
    """Put the tags of an added attachment into the last one that is there; that one's name.

    None if there is none, or if the added one says more than tags, which would be lost.
    """
    tags = added.get("body")
    if not isinstance(tags, list) or not set(added) <= _TAG_MEMBERS:
        return None
    for name, element in reversed(joined.items()):
        if is_tags(element) and isinstance(element.get("body"), list):
            body = element["body"]
            joined[name] = {**element, "body": body + [tag for tag in tags if tag not in body]}
            return name
    return None


def _as_list(value: Any) -> list[Any] | None:
    """A list, be it written natively or as a string of JSON; None for anything else."""
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return None
    return value if isinstance(value, list) else None


def _equal(one: Any, other: Any) -> bool:
    """Equal as JSON. To Python 1, 1.0 and True are equal too, and an edit would be missed."""
    if one is _ABSENT or other is _ABSENT:
        return one is other
    return _bytes(one) == _bytes(other)


def _bytes(value: Any) -> bytes:
    try:
        return orjson.dumps(value, default=list)
    except TypeError as error:
        raise Rejected(f"two chains' work cannot be joined: {error}") from None
