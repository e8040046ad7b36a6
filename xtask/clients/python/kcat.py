"""kcat: its command line in the shape of `checks`. It makes and deletes no topics, so kafka-python does that here, and asks for
what kcat can't be asked."""

import json
import queue
import subprocess
import sys
import threading
import time

import checks
from checks import Absent, Rec, expect, fresh, until
from kafka import KafkaAdminClient
from kafka.admin import NewTopic

# Every byte that the records of these checks don't have, as the ends of fields and of records.
FIELD, END = "\x1f", "\x1e"
FORMAT = FIELD.join(("%p", "%o", "%T", "%K", "%k", "%S", "%s", "%h")) + END
BOOTSTRAP = sys.argv[1]


def kcat(*arguments, stdin=""):
    done = subprocess.run(
        ["kcat", "-b", BOOTSTRAP, "-q", *map(str, arguments)], input=stdin.encode(), capture_output=True, timeout=60
    )
    if done.returncode:
        raise AssertionError(f"kcat {arguments}: {done.stderr.decode()}")
    return done.stdout.decode()


def parse(text):
    """(partition, offset, timestamp, key, value, headers) of each record; a length of -1 is null."""
    found = []
    for one in text.split(END)[:-1]:
        partition, offset, at, key_len, key, value_len, value, headers = one.split(FIELD)
        null = lambda length, text: None if int(length) < 0 else text
        found.append((int(partition), int(offset), int(at), null(key_len, key), null(value_len, value), headers))
    return found


def read(topic, *more):
    return parse(kcat("-C", "-t", topic, "-o", "beginning", "-e", "-f", FORMAT, *more))


class Member:
    """`kcat -G`, whose records and assignments are read while it runs."""

    def __init__(self, group, topic, *more):
        # Without -q: it says on standard error what it is assigned.
        settings = ("session.timeout.ms=6000", "heartbeat.interval.ms=500", "auto.offset.reset=earliest", *more)
        options = [word for setting in settings for word in ("-X", setting)]
        self.process = subprocess.Popen(
            ["kcat", "-b", BOOTSTRAP, *options, "-u", "-f", FORMAT, "-G", group, topic],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.out, self.assigned = queue.Queue(), set()
        threading.Thread(target=self.read_out, daemon=True).start()
        threading.Thread(target=self.read_err, daemon=True).start()

    def read_out(self):
        rest = b""
        while chunk := self.process.stdout.read1():
            *whole, rest = (rest + chunk).split(END.encode())
            for one in whole:
                self.out.put(parse(one.decode() + END)[0])

    def read_err(self):
        # % Group g rebalanced (memberid ...): assigned: t [0], t [1]
        for line in self.process.stderr:
            line = line.decode()
            if "assigned:" in line:
                names = line.split("assigned:")[1].split(",")
                self.assigned = {int(name.split("[")[1].split("]")[0]) for name in names if "[" in name}
            elif "revoked:" in line:
                self.assigned = set()

    def records(self):
        found = []
        while not self.out.empty():
            found.append(self.out.get())
        return found

    def close(self):
        # SIGINT makes it leave the group, after it committed what it printed.
        self.process.send_signal(2)
        self.process.wait(30)


class Checks:
    def __init__(self):
        self.admin = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)

    def topic(self, what, partitions):
        name = fresh(what)
        self.admin.create_topics([NewTopic(name, partitions, 1)])
        until(lambda: f'topic "{name}" with {partitions} partitions' in kcat("-L"), "a new topic in the list")
        return name

    def create(self):
        raise Absent("it makes no topics")

    def codecs(self):
        topic, sent = self.topic("codecs", 3), []
        for codec in checks.CODECS:
            values = [(f"{i % 7}", f"{codec} {i} {'pad ' * 40}") for i in range(100)]
            kcat("-P", "-t", topic, "-K", ":", "-z", codec, stdin="\n".join(":".join(v) for v in values))
            sent += values
        expect(sorted((r[3], r[4]) for r in read(topic)), sorted(sent), "records of all codecs")

    def records(self):
        topic = self.topic("records", 1)
        to = ("-P", "-t", topic, "-p", 0)
        kcat(*to, "-K", ":", "-H", "a=1", "-H", "a=2", "-H", "b=ü", stdin="key:value")
        kcat(*to, "-K", ":", "-Z", stdin="tombstone:")
        kcat(*to, "-Z", stdin="no key")
        kcat(*to, stdin="x" * 500_000)
        wanted = [("key", "value", "a=1,a=2,b=ü"), ("tombstone", None, ""), (None, "no key", ""), (None, "x" * 500_000, "")]
        # kcat prints a key that is null as an empty one, but its length as -1.
        expect([r[3:6] for r in read(topic)], wanted, "records")

    def idempotent(self):
        topic = self.topic("idempotent", 1)
        values = [f"{i}" for i in range(1_000)]
        kcat("-P", "-t", topic, "-X", "enable.idempotence=true", stdin="\n".join(values))
        expect([r[4] for r in read(topic)], values, "records in order, each once")

    def transactions(self):
        raise Absent("it has no transactions")

    transactional_offsets = transactions

    def group(self):
        topic, name = self.topic("group", 3), fresh("g")
        send = lambda values, partition: kcat("-P", "-t", topic, "-p", partition, stdin="\n".join(map(str, values)))
        for partition in range(3):
            send(range(partition, 45, 3), partition)
        first, seen = Member(name, topic), []
        until(lambda: seen.extend(first.records()) or len(seen) >= 45, "the first 45 records")
        first.close()
        for partition in range(3):
            send(range(45 + partition, 90, 3), partition)
        second = Member(name, topic)
        until(lambda: seen.extend(second.records()) or len(seen) >= 90, "the other records")
        time.sleep(0.5)
        seen += second.records()
        second.close()
        expect(sorted(int(r[4]) for r in seen), list(range(90)), "records of both members, each once")

    def rebalance(self):
        topic, name = self.topic("rebalance", 4), fresh("g")
        one = Member(name, topic)
        until(lambda: len(one.assigned) == 4, "all partitions for one member")
        two = Member(name, topic)
        shared = lambda: len(one.assigned) == 2 and len(two.assigned) == 2 and not one.assigned & two.assigned
        until(shared, "two partitions for each of two members")
        for partition in range(4):
            kcat("-P", "-t", topic, "-p", partition, stdin="\n".join(f"{partition}{i}" for i in range(10)))
        got = ([], [])
        all_in = lambda: got[0].extend(one.records()) or got[1].extend(two.records()) or sum(map(len, got)) >= 40
        until(all_in, "40 records")
        expect((len(got[0]), len(got[1]), len({r[4] for r in got[0] + got[1]})), (20, 20, 40), "what each one got")
        two.close()
        until(lambda: len(one.assigned) == 4, "all partitions for the member that stayed")
        one.close()

    def consumer_protocol(self):
        raise Absent("it speaks the classic protocol only")

    def timestamps(self):
        topic = self.topic("timestamps", 1)
        before = int(time.time() * 1000)
        # One a request: each has a later time than the one before it.
        for i in range(3):
            kcat("-P", "-t", topic, stdin=f"{i}")
            time.sleep(0.01)
        times = [r[2] for r in read(topic)]
        expect(before <= times[0] < times[1] < times[2], True, f"times {times} are in order and after {before}")
        at = lambda ms: int(kcat("-Q", "-t", f"{topic}:0:{ms}").split("offset ")[1])
        expect([at(times[0]), at(times[1]), at(times[1] + 1), at(times[2])], [0, 1, 2, 2], "offsets by time")
        expect((at(-2), at(-1)), (0, 3), "first offset and end")

    def describe(self):
        topic = self.topic("describe", 2)
        found = json.loads(kcat("-L", "-J", "-t", topic))
        expect((found["topics"][0]["topic"], len(found["topics"][0]["partitions"])), (topic, 2), "the topic")
        expect(len(found["brokers"]), 1, "brokers")

    def delete_group(self):
        raise Absent("it deletes no groups")

    def delete(self):
        topic = self.topic("delete", 1)
        self.admin.delete_topics([topic])
        until(lambda: f'"{topic}"' not in kcat("-L"), "a deleted topic leaves the list")


# `kcat -V` writes a line that ends with the version of librdkafka.
said = subprocess.run(["kcat", "-V"], capture_output=True, text=True).stdout
version = said.split("Version ")[1].split()[0]
librdkafka = said.split("librdkafka ")[1].split()[0]
tool = Checks()
checks.run(f"{version} (librdkafka {librdkafka})", [(c.__name__, getattr(tool, c.__name__)) for c in checks.CHECKS])
