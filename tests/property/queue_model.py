"""The queue as a model in Python: the same state and the same rules as the scripts, in plain words.

It is written from DESIGN.md's sentences, not from the Lua, and shares its state with the Promela
model in tests/model: every item in one place, registrations, the suspect that a host runs, and the
documents with their revisions. test_queue_machine.py runs model and scripts side by side.

What only Redis can know is told to the model afterwards, and checked for what must hold of it: the
revisions (they rise) and the order in which a hash gives up its fields (any).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from conserver.process.messages import Blame
from conserver.queue.calls import Move, Settlement, Write
from conserver.queue.operator_calls import Submission
from conserver.queue.record import split_job

VOID = -1
ENDS = frozenset({"completed", "filtered", "cancelled", "failed"})


@dataclass
class Item:
    """One push, wherever it is. `id` is the model's own: scripts know payloads and tokens."""

    id: int
    payload: bytes
    token: str = ""
    deaths: int = 0
    suspect: bool = False
    state: bytes = b""
    epoch: int = 0
    begun: bool = False
    write: int = 0
    revision: int = 0
    job: str = ""  # known from the first claim on; before, it is a part of the payload

    def ends_holding(self) -> Item:
        """What belongs to the epoch goes with it."""
        self.begun, self.write = False, 0
        return self


@dataclass
class Places:
    """All places of one list's items but those in flight."""

    waiting: list[Item] = field(default_factory=list)
    returned: list[Item] = field(default_factory=list)
    suspects: list[Item] = field(default_factory=list)
    parked: list[Item] = field(default_factory=list)
    dead: list[Item] = field(default_factory=list)
    reasons: dict[str, Item] = field(default_factory=dict)  # by token; an item's twin in `dead`

    def everywhere(self) -> list[Item]:
        """Every item of the list that nobody holds."""
        return self.waiting + self.returned + self.suspects + self.parked + self.dead


@dataclass
class Document:
    """What is at vcon:<uuid>. ours: it is still what we left there. replaced: the revision by which
    somebody put it there in the place of another one; replaces: this one did, under a revision that
    is not known yet.
    """

    body: bytes | None = None
    revision: int = 0
    ours: bool = False
    replaced: int = 0
    replaces: bool = False


@dataclass
class Host:
    """A supervisor's hash. registrations: consumer -> number of its last claim, or VOID."""

    beat: str = ""
    registrations: dict[str, int] = field(default_factory=dict)
    suspect: tuple[str, str] | None = None  # the consumer that runs one, and its token


class QueueModel:
    """One method per script, with the arguments of its call; each gives the answer to expect."""

    def __init__(self, lists: Sequence[str], parked_cap: int) -> None:
        self.places = {name: Places() for name in lists}
        self.tokens: set[str] = set()  # all that were ever given
        self.held: dict[str, dict[str, tuple[str, Item]]] = {}  # consumer -> token -> list, item
        self.hosts: dict[str, Host] = {}
        self.known_hosts: set[str] = set()
        self.gone: set[str] = set()  # consumers that have died and been forgotten
        self.paused: set[str] = set()
        self.documents: dict[str, Document] = {}
        self.jobs: dict[str, str] = {}  # job -> its status; those that are known
        self.callbacks: dict[str, set[str]] = {}  # known job -> the ends that are to be told
        self.counted: set[str] = set()  # known jobs whose token may have so many at once only
        self.open: set[str] = set()  # those that have not ended, or were lost before they had
        self.notified: list[tuple[str, str]] = []  # job and end, in the order of the ends
        self.egress: list[bytes] = []
        self.settled: set[int] = set()
        self.pushed = 0
        self.parked_cap = parked_cap

    # ---- the world ----

    def push(self, name: str, payload: bytes) -> None:
        """A producer's RPUSH."""
        self.pushed += 1
        self.places[name].waiting.append(Item(self.pushed, payload))

    def ring(self, name: str) -> None:
        """A bell's BLMOVE."""
        there = self.places[name]
        if there.waiting:
            there.returned.append(there.waiting.pop(0))

    def tool_replays(self, name: str) -> None:
        """Another tool moves the oldest dead letter back to its list, as a bare payload."""
        there = self.places[name]
        if there.dead:
            item = there.dead.pop(0)
            there.waiting.append(Item(item.id, item.payload))

    def set_document(self, uuid: str, body: bytes | None) -> None:
        """A producer's SET, or its DEL."""
        document = self.documents.setdefault(uuid, Document())
        document.body, document.ours = body, False

    # ---- jobs ----

    def submit(self, entry: Submission) -> bytes:
        """A document, its job and its push in one step; a job that is known is left as it is."""
        if entry.job in self.jobs:
            return b"exists"
        self.jobs[entry.job] = "queued"
        if entry.most_jobs:
            self.counted.add(entry.job)
            self.open.add(entry.job)
        told = dict(entry.fields).get("callback_on")
        if told is not None:
            self.callbacks[entry.job] = set(str(told).split())
        self.set_document(entry.uuid, entry.body)
        self.push(entry.list, f"{entry.uuid}#{entry.job}".encode())
        return b"queued"

    def cancel(self, name: str, payload: bytes) -> int:
        """Take the first waiting item with this payload out."""
        waiting = self.places[name].waiting
        found = next((item for item in waiting if item.payload == payload), None)
        if found is None:
            return 0
        waiting.remove(found)
        self.settled.add(found.id)
        self._mark(split_job(payload)[1], "cancelled")
        return 1

    def _mark(self, job: str, status: str) -> None:
        """A job changes with its item, unless it has ended, or is not known (any more). An end that
        is to be told leaves one notification.
        """
        if job in self.jobs and self.jobs[job] not in ENDS:
            self.jobs[job] = status
            if status in ENDS and job in self.counted:
                self.open.discard(job)
            if status in ENDS and status in self.callbacks.get(job, ()):
                self.notified.append((job, status))

    def expire_job(self, job: str) -> None:
        """Its hash is gone, and its callback with it."""
        del self.jobs[job]
        self.counted.discard(job)
        self.callbacks.pop(job, None)

    # ---- registrations ----

    def register(self, host: str, consumer: str) -> None:
        """A registration that exists is left as it is, and who has been forgotten gets none."""
        if consumer in self.gone:
            return
        self.known_hosts.add(host)
        self.hosts.setdefault(host, Host()).registrations.setdefault(consumer, 0)

    def beat(self, host: str, value: str) -> dict[str, int]:
        """Say that a host lives."""
        self.known_hosts.add(host)
        self.hosts.setdefault(host, Host()).beat = value
        return dict(self.hosts[host].registrations)

    def reap(self, host: str, seen_beat: str) -> set[str] | None:
        """Declare a host dead unless it has beaten; forget it when no registration is left."""
        there = self.hosts.get(host, Host())
        if there.beat != seen_beat:
            return None
        for consumer in there.registrations:
            there.registrations[consumer] = VOID
        if not there.registrations:
            self.hosts.pop(host, None)
            self.known_hosts.discard(host)
        return set(there.registrations)

    # ---- claiming ----

    def claim(
        self,
        host: str,
        consumer: str,
        number: int,
        empty: bool,
        demands: Sequence[tuple[str, int]],
        tokens: Sequence[str],
    ) -> tuple[str, int, int, list[Item]]:
        """("void" | "late" | "ok", more, suspects, items). Redis says which `tokens` it has given;
        those of new items must be new.
        """
        registration = self.hosts.get(host, Host()).registrations.get(consumer, VOID)
        if registration == VOID:
            return "void", 0, 0, []
        if number < registration:
            return "late", 0, 0, []
        holds = self.held.setdefault(consumer, {})
        if number == registration:
            return "ok", 0, 0, [item for _, item in holds.values() if item.epoch == number]
        there = self.hosts[host]
        there.registrations[consumer] = number
        running = self._running(there)
        if running == consumer:
            return "ok", 0, 0, []
        taken: list[Item] = []

        def take(name: str, item: Item) -> None:
            if not item.token:
                self._begin_life(item, tokens[len(taken)])
            item.ends_holding().epoch = number
            self._mark(item.job, "processing")
            self.held[consumer][item.token] = (name, item)
            taken.append(item)

        open_demands = [(name, most) for name, most in demands if name not in self.paused]
        alone = empty and running is None and not holds
        suspects = self._claim_suspect(open_demands, alone, take)
        if taken:
            there.suspect = (consumer, taken[0].token)
            return "ok", 0, suspects, taken
        more = 0
        for name, most in open_demands:
            places = self.places[name]
            full = len(places.parked) >= self.parked_cap
            left = most
            for source in [places.returned] if full else [places.returned, places.waiting]:
                while left and source:
                    take(name, source.pop(0))
                    left -= 1
                more += len(source)
        return "ok", more, suspects, taken

    def _begin_life(self, item: Item, token: str) -> None:
        """The first claim of a pushed payload gives it its token, and makes its job known."""
        assert token not in self.tokens
        self.tokens.add(token)
        item.token = token
        item.payload, item.job = split_job(item.payload)
        if item.job:
            self.jobs.setdefault(item.job, "queued")

    def _claim_suspect(
        self, demands: Sequence[tuple[str, int]], alone: bool, take: Callable[[str, Item], None]
    ) -> int:
        waiting = 0
        for name, _ in demands:
            suspects = self.places[name].suspects
            found = alone and bool(suspects)
            if found:
                take(name, suspects.pop(0))
            waiting += len(suspects)
            if found:
                break
        return waiting

    def _running(self, host: Host) -> str | None:
        """Whoever runs a suspect there; a field whose item is no longer held says nothing."""
        if host.suspect is None:
            return None
        consumer, token = host.suspect
        return consumer if token in self.held.get(consumer, {}) else None

    # ---- while held ----

    def _fenced(self, consumer: str, token: str, epoch: int) -> tuple[str, Item] | None:
        found = self.held.get(consumer, {}).get(token)
        return found if found is not None and found[1].epoch == epoch else None

    def begin(self, consumer: str, token: str, epoch: int) -> int:
        """Mark a suspect as begun."""
        found = self._fenced(consumer, token, epoch)
        if found is None:
            return 0
        found[1].begun = True
        return 1

    def write(self, consumer: str, number: int, entry: Write) -> str:
        """What a write answers; the machine then tells which revision it made."""
        found = self._fenced(consumer, entry.token, entry.epoch)
        if found is None:
            return "lost"
        item = found[1]
        if item.write >= number:
            return "written" if item.write == number else "late"
        if entry.uuid and self._conflicts(entry.uuid, entry.base):
            return "conflict"
        item.write, item.state, item.revision = number, entry.state, entry.base
        if entry.uuid:
            self._put(entry.uuid, entry.body, entry.base)
            item.payload, item.revision = entry.uuid.encode(), 0
        return "written"

    def _put(self, uuid: str, body: bytes, base: int) -> None:
        before = self.documents.get(uuid, Document())
        replaces = base == 0 and before.body is not None
        self.documents[uuid] = Document(body, 0, True, before.replaced, replaces)

    def _conflicts(self, uuid: str, base: int) -> bool:
        document = self.documents.setdefault(uuid, Document())
        if document.body is None:  # what has gone may have been newer than what was read
            return base > 0 and document.revision != base
        return base != 0 and not (document.ours and document.revision == base)

    # ---- the end of a holding ----

    def _let_go(self, consumer: str, token: str) -> tuple[str, Item]:
        name, item = self.held[consumer].pop(token)
        return name, item.ends_holding()

    def settle(self, consumer: str, entry: Settlement) -> str:
        """What a settle answers."""
        if self._fenced(consumer, entry.token, entry.epoch) is None:
            return "lost"
        if entry.body:
            if self._conflicts(entry.uuid, entry.base):
                return "conflict"
            self._put(entry.uuid, entry.body, entry.base)
        _, item = self._let_go(consumer, entry.token)
        assert item.id not in self.settled, "an item has ended twice"
        self.settled.add(item.id)
        self._mark(item.job, entry.status)
        self.egress += [uuid.encode() for _, uuid in entry.pushes]
        return "settled"

    def move(self, kind: str, consumer: str, move: Move) -> bytes:
        """What a release, park or dead-letter answers."""
        if self._fenced(consumer, move.token, move.epoch) is None:
            return b"lost"
        name, item = self._let_go(consumer, move.token)
        if move.state != b"=":
            item.state, item.revision = move.state, move.revision
        there = self.places[name]
        if kind == "dead":
            self._dead_letter(name, item)
            return b"moved"
        self._mark(item.job, "waiting" if kind == "park" else "queued")
        if kind == "park":
            there.parked.append(item)
        elif item.suspect:
            there.suspects.insert(0, item)
        elif item.state or item.deaths:
            there.returned.insert(0, item)
        else:
            there.waiting.insert(0, self._bare(item))
        return b"moved"

    def _bare(self, item: Item) -> Item:
        job = f"#{item.job}".encode() if item.job else b""
        return Item(item.id, item.payload + job)

    def _dead_letter(self, name: str, item: Item) -> None:
        self.places[name].dead.append(item)
        self.places[name].reasons[item.token] = replace(item)
        self._mark(item.job, "failed")

    def _send_back(self, name: str, item: Item) -> None:
        there = self.places[name]
        (there.suspects if item.suspect else there.returned).append(item)
        self._mark(item.job, "queued")

    # ---- the household ----

    def return_items(
        self, host: str, consumer: str, blame: Blame, order: Sequence[str]
    ) -> tuple[int, int, int, int]:
        """`order`: the tokens that went back, in the order in which Redis named them."""
        holds = self.held.get(consumer, {})
        if not holds:
            there = self.hosts.get(host)
            if there and there.registrations.pop(consumer, None) is not None:
                self.gone.add(consumer)
            self._drop_empty(host)
            return 0, 0, 0, 0
        self.known_hosts.add(host)
        self.hosts.setdefault(host, Host()).registrations[consumer] = VOID
        suspects = deaths = 0
        for token in order:
            item = holds[token][1]
            named = [one for one in blame.items if one[:2] == (token, item.epoch)]
            counts = any(one.counts for one in named)
            if blame.kind != "nobody" and ((item.suspect and item.begun) or counts):
                item.deaths += 1
                deaths += 1
            if blame.kind == "everything" or (blame.kind == "items" and named):
                item.suspect = True
            suspects += item.suspect
            self._send_back(*self._let_go(consumer, token))
        return len(order), len(holds), suspects, deaths

    def _drop_empty(self, host: str) -> None:
        """A hash without fields is no key."""
        there = self.hosts.get(host)
        if there and not there.registrations and not there.beat and there.suspect is None:
            del self.hosts[host]

    def stray(self, consumer: str, answered: int, known: Sequence[str]) -> list[str]:
        """The tokens that must go back, in any order."""
        holds = self.held.get(consumer, {})
        return [t for t, (_, i) in holds.items() if t not in known and i.epoch <= answered]

    def strays_went(self, consumer: str, order: Sequence[str]) -> None:
        """They went back in this order."""
        for token in order:
            self._send_back(*self._let_go(consumer, token))

    def promote(self, name: str, order: Sequence[str]) -> None:
        """Parked items went back in this order: by their time, which only Redis knows."""
        there = self.places[name]
        for token in order:
            [item] = [item for item in there.parked if item.token == token]
            there.parked.remove(item)
            self._send_back(name, item)

    def hurry(self, name: str, token: str) -> None:
        """A parked item is due: it stays there until it is promoted, as it could be before."""
        [item] = [item for item in self.places[name].parked if item.token == token]
        self._mark(item.job, "waiting")

    # ---- dead letters ----

    def replay(self, name: str, record: Item, state: bytes) -> str:
        """Replay the dead letter that has this very record. The element found by its payload may be
        an equal one: it takes the record's token, and the other record is left to be swept.
        """
        there = self.places[name]
        if there.reasons.get(record.token) != record:
            return "gone"
        del there.reasons[record.token]
        found = self._dead_with(name, record.payload)
        if found is None:
            return "swept"
        there.dead.remove(found)
        again = Item(found.id, found.payload, record.token, state=state, job=record.job)
        again.revision = record.revision
        there.returned.append(again)
        if self.jobs.get(record.job) == "failed":
            self.jobs[record.job] = "queued"
        return "returned"

    def replay_bare(self, name: str, payload: bytes) -> str:
        """Replay a dead letter that has no record."""
        found = self._dead_with(name, payload)
        if found is None:
            return "gone"
        self.places[name].dead.remove(found)
        self.places[name].waiting.append(Item(found.id, found.payload))
        return "queued"

    def sweep(self, name: str, tokens: Sequence[str]) -> None:
        """Reasons have gone; their payloads stay."""
        for token in tokens:
            del self.places[name].reasons[token]

    def _dead_with(self, name: str, payload: bytes) -> Item | None:
        return next((item for item in self.places[name].dead if item.payload == payload), None)

    # ---- the invariant ----

    def check(self) -> None:
        """Every item is in exactly one place, and the rules about suspects hold."""
        found = [item.id for there in self.places.values() for item in there.everywhere()]
        found += [item.id for holds in self.held.values() for _, item in holds.values()]
        found += self.settled
        assert sorted(found) == list(range(1, self.pushed + 1))
        registered = {c for host in self.hosts.values() for c in host.registrations}
        for consumer, holds in self.held.items():
            assert not holds or consumer in registered, "held by somebody nobody knows"
            if any(item.suspect for _, item in holds.values()):
                assert len(holds) == 1, "a suspect has company"
        for host in self.hosts.values():
            there = [
                item
                for consumer in host.registrations
                for _, item in self.held.get(consumer, {}).values()
                if item.suspect
            ]
            assert len(there) <= 1, "two suspects on one host"
