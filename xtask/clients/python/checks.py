"""What every Python client is put through. An adapter gives the client's own calls one shape; the rules are here.

Prints a line a check, `check NAME ok`, `check NAME absent WHY` or `check NAME FAILED WHY`, and exits with 1 where one failed.
What a client may lack is for its runner to know.
"""

import sys
import time
import traceback
import uuid
from dataclasses import dataclass, field

WAIT_S = 60
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
# Of the records whose times are given. Not long ago: retention goes by them, and takes what is older than a week at any moment.
START_MS = int(time.time() * 1000) - 3_600_000


@dataclass(frozen=True)
class Rec:
    """A record, as it is sent and as it came back."""

    value: bytes | None
    key: bytes | None = None
    partition: int | None = None
    timestamp_ms: int | None = None
    headers: tuple = field(default=())


class Absent(Exception):
    """The client has no such thing; why is the message."""


def expect(found, wanted, what):
    if found != wanted:
        raise AssertionError(f"{what}: found {found!r}, wanted {wanted!r}")


def until(condition, what):
    """Waits for what takes its time; what it found last is in the error."""
    end = time.monotonic() + WAIT_S
    while not (found := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not happen within {WAIT_S} s (last: {found!r})")
    return found


def fresh(what):
    return f"{what}-{uuid.uuid4().hex[:8]}"


def create(c):
    topic = fresh("create")
    c.create(topic, 4)
    until(lambda: topic in c.topics(), "a new topic in the list")
    expect(c.partitions(topic), 4, "partitions")


def codecs(c):
    topic = fresh("codecs")
    c.create(topic, 3)
    sent = []
    for codec in CODECS:
        records = [Rec(f"{codec} {i} {'pad ' * 40}".encode(), key=f"{i % 7}".encode()) for i in range(100)]
        c.produce(topic, records, codec=codec)
        sent += [(r.key, r.value) for r in records]
    read = c.read(topic, lambda records: len(records) >= len(sent))
    expect(sorted((r.key, r.value) for r in read), sorted(sent), "records of all codecs")


def records(c):
    topic = fresh("records")
    c.create(topic, 1)
    sent = [
        Rec(b"plain", b"key", 0, START_MS, ()),
        Rec(None, b"tombstone", 0, START_MS + 1, ()),
        Rec(b"no key", None, 0, START_MS + 2, ()),
        Rec(b"", b"", 0, START_MS + 3, ()),
        Rec(b"headers", b"h", 0, START_MS + 4, (("a", b"1"), ("a", b"2"), ("empty", b""), ("bytes", bytes(range(256))))),
        Rec("ünïcode €".encode(), b"\x00\xff", 0, START_MS + 5, (("naïve", "é".encode()),)),
        Rec(b"x" * 500_000, b"large", 0, START_MS + 6, ()),
    ]
    c.produce(topic, sent)
    expect(c.read(topic, lambda records: len(records) >= len(sent)), sent, "records")


def idempotent(c):
    topic = fresh("idempotent")
    c.create(topic, 1)
    sent = [Rec(f"{i}".encode(), b"k", 0) for i in range(1_000)]
    c.produce(topic, sent, idempotent=True)
    read = c.read(topic, lambda records: len(records) >= len(sent))
    expect([r.value for r in read], [r.value for r in sent], "records in order, each once")


def transactions(c):
    topic = fresh("transactions")
    c.create(topic, 1)
    values = lambda name: [Rec(f"{name} {i}".encode(), b"k", 0) for i in range(10)]
    c.transact(topic, fresh("txn"), [(values("a"), True), (values("b"), False), (values("c"), True)])
    # Beside them one that no transaction holds: who reads it has seen all that lies before it.
    c.produce(topic, [Rec(b"end", b"k", 0)])
    ended = lambda records: records and records[-1].value == b"end"
    named = lambda *names: [f"{n} {i}".encode() for n in names for i in range(10)] + [b"end"]
    committed = [r.value for r in c.read(topic, ended, committed=True)]
    expect(committed, named("a", "c"), "read_committed")
    everything = [r.value for r in c.read(topic, ended)]
    expect(everything, named("a", "b", "c"), "read_uncommitted")


def transactional_offsets(c):
    source, target, group = fresh("txn-source"), fresh("txn-target"), fresh("txn-group")
    c.create(source, 1)
    c.create(target, 1)
    c.produce(source, [Rec(f"{i}".encode(), b"k", 0) for i in range(10)])
    c.transact(target, fresh("txn"), [([Rec(b"no", b"k", 0)], False)], offsets=(source, group, 9))
    expect(c.committed(group, source, 0), None, "offsets of an aborted transaction")
    c.transact(target, fresh("txn"), [([Rec(b"yes", b"k", 0)], True)], offsets=(source, group, 4))
    expect(c.committed(group, source, 0), 4, "offsets of a committed transaction")


def group(c):
    topic, name = fresh("group"), fresh("g")
    c.create(topic, 3)
    c.produce(topic, [Rec(f"{i}".encode(), f"{i}".encode(), i % 3) for i in range(90)])
    first, seen = c.member(name, topic), []
    # Reads some, commits exactly that, and goes away.
    until(lambda: seen.extend(first.poll(20)) or len(seen) >= 30, "the first 30 records")
    first.commit(seen)
    first.close()
    second, rest = c.member(name, topic), []
    until(lambda: rest.extend(second.poll(20)) or len(seen) + len(rest) >= 90, "the other records")
    expect(rest_of(second), [], "records beyond the last one")
    second.commit(rest)
    second.close()
    both = sorted(int(r.value) for r in seen + rest)
    expect(both, list(range(90)), "records of both members, each once")
    for partition in range(3):
        expect(c.committed(name, topic, partition), 30, f"offset of partition {partition}")


def rest_of(member):
    found = []
    for _ in range(5):
        found += member.poll(50)
    return found


def rebalance(c):
    topic, name = fresh("rebalance"), fresh("g")
    c.create(topic, 4)
    one = c.member(name, topic)
    alone = lambda m: m.poll(10) is not None and len(m.assigned()) == 4
    until(lambda: alone(one), "all partitions for one member")
    two = c.member(name, topic)

    def shared():
        one.poll(10), two.poll(10)
        return len(one.assigned()) == 2 and len(two.assigned()) == 2 and not one.assigned() & two.assigned()

    until(shared, "two partitions for each of two members")
    c.produce(topic, [Rec(f"{i}".encode(), b"k", i % 4) for i in range(40)])
    got = ([], [])
    until(lambda: got[0].extend(one.poll(50)) or got[1].extend(two.poll(50)) or sum(map(len, got)) >= 40, "40 records")
    expect(sorted(int(r.value) for r in got[0] + got[1]), list(range(40)), "records of both members")
    expect((len(got[0]), len(got[1])), (20, 20), "how many each one got")
    two.close()
    until(lambda: alone(one), "all partitions for the member that stayed")
    one.close()


def consumer_protocol(c):
    """The same two by the protocol in which the broker assigns (KIP-848)."""
    if not c.by_consumer_protocol:
        raise Absent("it speaks the classic protocol only")
    other = c.by_consumer_protocol()
    group(other)
    rebalance(other)


def timestamps(c):
    topic = fresh("timestamps")
    c.create(topic, 1)
    c.produce(topic, [Rec(f"{i}".encode(), b"k", 0, START_MS + 1_000 * i) for i in range(100)])
    at = lambda ms: c.offset_at(topic, 0, ms)
    expect(at(START_MS), 0, "offset of the first time")
    expect(at(START_MS + 41_999), 42, "offset of a time between two records")
    expect(at(START_MS + 99_000), 99, "offset of the last time")
    expect(at(START_MS + 99_001), None, "offset of a time after the last")
    expect(c.ends(topic, 0), (0, 100), "first offset and end")


def describe(c):
    topic, name = fresh("describe"), fresh("g")
    c.create(topic, 2)
    until(lambda: topic in c.topics(), "a new topic in the list")
    expect(c.partitions(topic), 2, "partitions")
    member = c.member(name, topic)
    until(lambda: member.poll(10) is not None and len(member.assigned()) == 2, "all partitions for one member")
    expect(name in c.groups(), True, "the group is in the list")
    expect(c.group_state(name), ("stable", 1), "a group with one member")
    member.close()
    until(lambda: c.group_state(name) == ("empty", 0), "a group that its member left")


def delete_group(c):
    if not c.delete_group:
        raise Absent("it has no call for it")
    topic, name = fresh("delete-group"), fresh("g")
    c.create(topic, 1)
    c.produce(topic, [Rec(b"1", b"k", 0)])
    member = c.member(name, topic)
    seen = until(lambda: member.poll(10), "the record")
    member.commit(seen)
    member.close()
    until(lambda: c.group_state(name) == ("empty", 0), "a group that its member left")
    c.delete_group(name)
    expect(name in c.groups(), False, "the deleted group is in the list")
    expect(c.committed(name, topic, 0), None, "its offset")


def delete(c):
    topic = fresh("delete")
    c.create(topic, 1)
    until(lambda: topic in c.topics(), "a new topic in the list")
    c.delete(topic)
    until(lambda: topic not in c.topics(), "a deleted topic leaves the list")


CHECKS = (
    create,
    codecs,
    records,
    idempotent,
    transactions,
    transactional_offsets,
    group,
    rebalance,
    consumer_protocol,
    timestamps,
    describe,
    delete_group,
    delete,
)


def run(version, checks):
    """Runs (name, function) pairs and exits."""
    print(f"version {version}", flush=True)
    failed = False
    for name, check in checks:
        try:
            check()
            said = "ok"
        except Absent as absent:
            said = f"absent {absent}"
        except Exception as error:
            traceback.print_exc()
            failed = True
            said = f"FAILED {type(error).__name__}: {error}".replace("\n", " ")[:500]
        print(f"check {name} {said}", flush=True)
    sys.exit(failed)


def main(client_of):
    client = client_of(sys.argv[1])
    run(client.version, [(check.__name__, lambda check=check: check(client)) for check in CHECKS])
