"""Three-way merge of a vCon that two chains changed at the same time.

There are three versions: `base`, from which this chain started; `ours`, which this chain made from
the base; and `theirs`, which another chain has written meanwhile. The result is `theirs` plus our
changes:

1. Additions (parties, dialogs, attachments, analyses, tags, extensions) are appended to `theirs`,
   unless `theirs` contains an equal addition. Tags of both sides are put into one attachment.
2. Removals are repeated in `theirs` if `theirs` left the element unchanged. An element that the
   other side still refers to is kept or restored, so that no reference loses its target.
3. Edits replace the version of `theirs`. If both sides edited the same element, its members are
   merged one by one, and additions of both sides to one list are kept. In a real conflict the
   later chain (ours) wins, and a note for the log says so.

References in a vCon are indices, which change whenever an element moves. The merge therefore gives
every element a name ("base 0", "ours 2"), replaces every index by the name of its target, merges
the lists, and replaces the names by indices at the end. It matches the elements of `ours` and
`theirs` with elements of the base by content and order; it matches an edited element by the members
that are still equal. An index that is out of range stays unchanged. Indices inside of bodies are
unknown, and stay unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any, NamedTuple

import orjson

from conserver.errors import Rejected
from conserver.vcon.document import Vcon, is_tags
from conserver.vcon.indices import LISTS, map_indices

_TAG_MEMBERS = frozenset(
    ("type", "purpose", "start", "party", "dialog", "mediatype", "mimetype", "encoding", "body")
)
# Two elements with an equal member of _IDENTITIES are the same element. Two elements that differ in
# a member of _DIFFERENCES are different elements, even if all other members are equal. An equal
# `start` proves nothing, because several elements may have started at once.
_IDENTITIES = ("id", "uuid", "message_id")
_DIFFERENCES = (*_IDENTITIES, "start")
# With more pairs than this (500 edited dialogs), an edited element is compared only with the base
# element at the same place, which bounds the time.
_MAX_COMPARISONS = 250_000
_ABSENT = object()


@dataclass(slots=True)
class Merged:
    """The merged vCon, whose base is `theirs`, and a note for each conflict, for the log."""

    vcon: Vcon
    notes: list[str] = field(default_factory=list)


class Reference(NamedTuple):
    """The target of an index: a list, and the name of an element in it."""

    member: str
    name: str


def merge(base: bytes, ours: Vcon, theirs: bytes) -> Merged:
    """Merge the changes of `ours` since `base` into the newer document `theirs`.

    Returns:
        `ours` itself if `theirs` equals `base`; `theirs` unchanged if `ours` has no changes.

    Raises:
        Rejected: `theirs` is not a vCon or has another uuid; or it was signed or encrypted
            meanwhile, and `ours` has changes, which cannot be added to an envelope.
    """
    if theirs == base:
        return Merged(ours)
    merged = Vcon.parse(theirs)
    if merged.names_uuid and merged.uuid != ours.uuid:
        raise Rejected(f"the newer document is another vCon's: {merged.uuid}")
    if not ours.changed:
        return Merged(merged)
    if merged.form != "unsigned":
        raise Rejected("it was signed or encrypted while a chain changed it: both cannot be kept")
    join = _Join(orjson.loads(base), ours.view, merged.data)
    join.write(merged.data)
    return Merged(merged, join.notes)


class _Side:
    """One version of the document. It has the elements by name, and names in place of indices."""

    def __init__(self, document: dict[str, Any], label: str, base: _Side | None = None) -> None:
        self.document = document
        self.names: dict[str, list[str]] = {}
        self.keys: dict[str, list[bytes]] = {}
        for member in LISTS:
            items = document.get(member) or []
            # Elements of this list and of later ones have no names yet, so that indices to them
            # become None here and do not influence the comparison.
            partly = [map_indices(item, member, self._name) for item in items]
            keys = self.keys[member] = [_bytes(item) for item in partly]
            origins = [None] * len(keys) if base is None else _origins(base.keys[member], keys)
            self.names[member] = [
                f"{label} {index}" if base is None or origin is None else base.names[member][origin]
                for index, origin in enumerate(origins)
            ]
        self.elements: dict[str, dict[str, Any]] = {
            member: {
                name: map_indices(item, member, self._name)
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
    """The merged lists, with names in place of indices until `write`."""

    def __init__(self, base: dict[str, Any], ours: dict[str, Any], theirs: dict[str, Any]) -> None:
        self.notes: list[str] = []
        self._base = _Side(base, "base")
        self._ours = _Side(ours, "ours", self._base)
        self._theirs = _Side(theirs, "theirs", self._base)
        # Our addition -> the element into which it was merged.
        self._into: dict[Reference, Reference] = {}
        # Elements that one side removed and the other left unchanged. They are restored if a
        # remaining element refers to them.
        self._removed: dict[Reference, Any] = {}
        self._lists: dict[str, dict[str, Any]] = {}
        for member in LISTS:
            self._lists[member] = self._join_theirs(member)
            self._append_ours(member)
        self._restore_referenced()

    def write(self, document: dict[str, Any]) -> None:
        """Change `document`, which is `theirs`, into the result."""
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
            items = [map_indices(element, member, place) for element in elements.values()]
            if items or document.get(member):
                document[member] = items
            if not items and member in self._base.document and member not in self._ours.document:
                document.pop(member, None)

    def _join_theirs(self, member: str) -> dict[str, Any]:
        """The elements of `theirs`, with our edits and without the elements that we removed."""
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
        """Append our additions, and the elements that we edited and `theirs` removed."""
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
            added = map_indices(element, member, self._follow)
            twin = next((other for other in new if _equal(new[other], added)), None)
            if twin is not None:
                del new[twin]  # It must not match a second, equal addition of ours.
            home = twin or (_join_tags(added, joined) if is_tags(added) else None)
            if home is None:
                joined[name] = added
            else:
                self._into[here] = Reference(member, home)

    def _restore_referenced(self) -> None:
        """Restore removed elements to which a remaining or restored element refers."""
        wanted: list[Reference] = []

        def note(value: Any, _target: str) -> Any:
            value = self._follow(value, _target)
            if isinstance(value, Reference):
                wanted.append(value)
            return value

        for member, elements in self._lists.items():
            for name, element in elements.items():
                elements[name] = map_indices(element, member, note)
        while wanted:
            here = wanted.pop()
            if here in self._removed:
                element = self._removed.pop(here)
                self._lists[here.member][here.name] = map_indices(element, here.member, note)
                self.notes.append(f"{here.member}: a removed one is still referred to, kept")
        for member, elements in self._lists.items():
            # Restored elements get their place in `theirs` back.
            names = dict.fromkeys([*self._theirs.names[member], *elements])
            self._lists[member] = {name: elements[name] for name in names if name in elements}

    def _follow(self, value: Any, _target: str) -> Any:
        return self._into.get(value, value) if isinstance(value, Reference) else value


def _origins(base_keys: Sequence[bytes], keys: Sequence[bytes]) -> list[int | None]:
    """For each element of a later version, the index of the same element in the base, or None."""
    origins: list[int | None] = [None] * len(keys)
    matcher = SequenceMatcher(None, base_keys, keys, autojunk=False)
    for old, new, length in matcher.get_matching_blocks():
        origins[new : new + length] = range(old, old + length)
    gone = sorted(set(range(len(base_keys))).difference(origins))
    unknown = [new for new, origin in enumerate(origins) if origin is None]
    # An equal pair (gone, unknown) is an element that moved; a similar pair was edited.
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
    """The share of equal members, 0 to 1; exactly 0 or 1 if an identifying member decides."""
    if any(name in one and name in other and one[name] != other[name] for name in _DIFFERENCES):
        return 0.0
    if any(name in one and name in other for name in _IDENTITIES):
        return 1.0
    return len(one.items() & other.items()) / max(len(one), len(other), 1)


def _join_values(base: Any, ours: Any, theirs: Any, path: str, notes: list[str]) -> Any:
    """Merge one value. Each version may be _ABSENT, and so may the result."""
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
    """Merge two lists of texts (tags), or two lists that only grew; None for other lists."""
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
    """Add the tags of an added attachment to the last tags attachment of `joined`.

    Returns:
        The name of the last tags attachment; None if there is none, or if the added attachment has
        members besides the tags, which would get lost.
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
    """The value itself if it is a list, or the list in a string of JSON; None for other values."""
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return None
    return value if isinstance(value, list) else None


def _equal(one: Any, other: Any) -> bool:
    """Whether two values are equal as JSON. In Python 1, 1.0 and True are equal as well."""
    if one is _ABSENT or other is _ABSENT:
        return one is other
    return _bytes(one) == _bytes(other)


def _bytes(value: Any) -> bytes:
    try:
        return orjson.dumps(value, default=list)
    except TypeError as error:
        raise Rejected(f"two chains' work cannot be joined: {error}") from None
