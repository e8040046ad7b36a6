"""The console tools of Apache Kafka, and so its Java client: the checks of `checks` by their command lines.

The jars' classpath is `KAFKA_CLASSPATH`.
"""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time

import checks
from checks import expect, fresh, until

BOOTSTRAP = sys.argv[1]
# The tools live for seconds: what makes a long run fast only makes their start slow.
JAVA = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m", "-cp", os.environ["KAFKA_CLASSPATH"]]
TOOLS = "org.apache.kafka.tools."
GROUPS = "consumer.group.ConsumerGroupCommand"


def command(tool, *arguments):
    return [*JAVA, TOOLS + tool, "--bootstrap-server", BOOTSTRAP, *map(str, arguments)]


def java(tool, *arguments, stdin=""):
    done = subprocess.run(command(tool, *arguments), input=stdin, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise AssertionError(f"{tool} {arguments}: {done.returncode} {done.stdout[-300:]} {done.stderr[-600:]}")
    return done.stdout


def create(what, partitions):
    name = fresh(what)
    java("TopicCommand", "--create", "--topic", name, "--partitions", partitions, "--replication-factor", 1)
    return name


def produce(topic, lines, *more):
    java("ConsoleProducer", "--topic", topic, *more, stdin="".join(line + "\n" for line in lines))


def read(topic, count, *more):
    """What the console consumer prints until `count` records came; it ends by itself only then or after 20 s without one."""
    options = ("--from-beginning", "--max-messages", count, "--timeout-ms", 20_000)
    return java("consumer.ConsoleConsumer", "--topic", topic, *options, *more).splitlines()


def offsets(topic, at):
    """{partition: offset}; no entry for a partition that has none."""
    found = {}
    for line in java("GetOffsetShell", "--topic", topic, "--time", at).splitlines():
        name, partition, offset = line.rsplit(":", 2)
        if name == topic and offset:
            found[int(partition)] = int(offset)
    return found


class Member:
    """A VerifiableConsumer: it says as JSON what it is assigned and reads, and commits what it read."""

    def __init__(self, group, topic, protocol="classic", *more):
        options = ("--topic", topic, "--group-id", group, "--group-protocol", protocol, "--verbose", *more)
        self.process = subprocess.Popen(
            command("VerifiableConsumer", *options), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.assigned, self.records, self.committed = set(), [], {}
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        for line in self.process.stdout:
            said = json.loads(line)
            partitions = {p["partition"] for p in said.get("partitions", ()) if "partition" in p}
            match said["name"]:
                case "partitions_assigned":
                    self.assigned = self.assigned | partitions
                case "partitions_revoked":
                    self.assigned = self.assigned - partitions
                case "record_data":
                    self.records.append((said["partition"], said["offset"], said["value"]))
                case "offsets_committed" if said["success"]:
                    self.committed |= {p["partition"]: p["offset"] for p in said["offsets"]}

    def close(self):
        self.process.terminate()
        self.process.wait(60)


def create_topic():
    topic = create("create", 4)
    expect(topic in java("TopicCommand", "--list").splitlines(), True, "the topic is in the list")
    described = java("TopicCommand", "--describe", "--topic", topic)
    expect("PartitionCount: 4" in described, True, f"4 partitions in {described}")


def codecs():
    topic, sent = create("codecs", 3), []
    for codec in checks.CODECS:
        lines = [f"{codec} {i} {'pad ' * 40}" for i in range(100)]
        produce(topic, lines, "--compression-codec", codec)
        sent += lines
    expect(sorted(read(topic, len(sent))), sorted(sent), "records of all codecs")


def records():
    topic = create("records", 1)
    properties = ("parse.key=true", "parse.headers=true", "null.marker=NULL", "ignore.error=false")
    options = [word for setting in properties for word in ("--reader-property", setting)]
    lines = ["a:1,a:2,b:ü\tkey\tvalue", "NULL\ttombstone\tNULL", "NULL\tNULL\tno key", "NULL\t\t", "NULL\tlarge\t" + "x" * 500_000]
    produce(topic, lines, *options, "--command-property", "max.request.size=2000000")
    properties = ("print.key=true", "print.headers=true", "print.offset=true", "null.literal=NULL")
    options = [word for setting in properties for word in ("--formatter-property", setting)]
    found = read(topic, len(lines), *options)
    # It writes no headers as NO_HEADERS.
    wanted = [f"Offset:{i}\t" + line.replace("NULL\t", "NO_HEADERS\t", 1) for i, line in enumerate(lines)]
    wanted[0] = "Offset:0\ta:1,a:2,b:ü\tkey\tvalue"
    expect(found, wanted, "records")


def perf(topic, count, *more, throughput=-1):
    options = ("--topic", topic, "--num-records", count, "--record-size", 100, "--throughput", throughput)
    return command("ProducerPerformance", *options, *more)


def idempotent():
    topic = create("idempotent", 1)
    done = subprocess.run(
        perf(topic, 20_000, "--command-property", "enable.idempotence=true", "acks=all"),
        capture_output=True,
        text=True,
        timeout=120,
    )
    expect("20000 records sent" in done.stdout, True, f"the producer's summary in {done.stdout[-300:]} {done.stderr[-300:]}")
    expect(offsets(topic, "latest"), {0: 20_000}, "records")


def transactions():
    topic, committed, left = create("transactions", 1), fresh("txn"), fresh("txn")
    options = ("--transactional-id", committed, "--transaction-duration-ms", 50)
    done = subprocess.run(perf(topic, 1_000, *options), capture_output=True, text=True, timeout=120)
    expect("1000 records sent" in done.stdout, True, f"the producer's summary in {done.stderr[-300:]}")
    # One that is killed in the middle of a transaction, and then ended by force.
    options = ("--transactional-id", left, "--transaction-duration-ms", 600_000)
    open_one = subprocess.Popen(
        perf(topic, 1_000_000, *options, throughput=200), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    grown = lambda: (end := offsets(topic, "latest")[0]) > 1_300 and end
    until(grown, "records of the open transaction")
    open_one.kill()
    open_one.wait()
    listed = java("TransactionsCommand", "list")
    state = lambda text, name: next(line.split()[-1] for line in text.splitlines() if line.startswith(name))
    expect((state(listed, committed), state(listed, left)), ("CompleteCommit", "Ongoing"), f"states in {listed}")
    described = java("TransactionsCommand", "describe", "--transactional-id", left)
    expect(f"{topic}-0" in described, True, f"the partition in {described}")
    producers = java("TransactionsCommand", "describe-producers", "--topic", topic, "--partition", 0)
    expect(len(producers.splitlines()), 3, f"lines of head and two producers in {producers}")
    java("TransactionsCommand", "forceTerminateTransaction", "--transactionalId", left)
    until(lambda: state(java("TransactionsCommand", "list"), left) != "Ongoing", "the end of the transaction")
    everything = offsets(topic, "latest")[0]
    produce(topic, ["end"])
    found = read(topic, 1_001, "--isolation-level", "read_committed")
    expect((len(found), found[-1]), (1_001, "end"), "committed records")
    # Markers take offsets as well: one of the abort, one of each commit, at least one.
    uncommitted = len(read(topic, 1_250, "--isolation-level", "read_uncommitted"))
    expect(uncommitted, 1_250, f"records that are read uncommitted, of {everything} offsets")


def transactional_offsets():
    source, target, group, name = create("txn-source", 1), create("txn-target", 1), fresh("txn-group"), fresh("txn")
    values = [str(i) for i in range(500)]
    produce(source, values)
    # It copies record by record with the offsets in the transaction, and aborts some of them at random and does them again.
    copier = "TransactionalMessageCopier"
    options = ["--broker-list", BOOTSTRAP, "--input-topic", source, "--input-partition", "0", "--output-topic", target]
    options += ["--consumer-group", group, "--transactional-id", name, "--max-messages", "500", "--transaction-size", "25"]
    done = subprocess.run(
        [*JAVA, TOOLS + copier, *options, "--enable-random-aborts"], capture_output=True, text=True, timeout=120
    )
    expect(done.returncode, 0, f"the copier's end ({done.stdout[-300:]} {done.stderr[-600:]})")
    expect(read(target, 500, "--isolation-level", "read_committed"), values, "each record once, in order")
    described = java(GROUPS, "--describe", "--group", group, "--offsets")
    expect(lags(described), {0: 0}, f"lag in {described}")


def lags(described):
    """{partition: lag} of what ConsumerGroupCommand prints."""
    head, *lines = [line.split() for line in described.splitlines() if line.strip() and "has no active" not in line]
    return {int(line[head.index("PARTITION")]): int(line[head.index("LAG")]) for line in lines}


def group():
    in_group("classic")


def in_group(protocol):
    topic, name = create("group", 3), fresh("g")
    produce(topic, [f"{i}" for i in range(90)], "--command-property", "batch.size=16", "linger.ms=0")
    first = Member(name, topic, protocol, "--max-messages", 30)
    first.process.wait(90)
    second = Member(name, topic, protocol)
    until(lambda: len(first.records) + len(second.records) >= 90, "the other records")
    until(lambda: sum((first.committed | second.committed).values()) == 90, "the commits")
    second.close()
    expect(len(first.records), 30, "records of the first member")
    found = sorted(int(value) for _, _, value in first.records + second.records)
    expect(found, list(range(90)), "records of both members, each once")
    described = java(GROUPS, "--describe", "--group", name, "--offsets")
    expect(set(lags(described).values()), {0}, f"lags in {described}")


def rebalance():
    in_rebalance("classic")


def in_rebalance(protocol):
    topic, name = create("rebalance", 4), fresh("g")
    one = Member(name, topic, protocol)
    until(lambda: len(one.assigned) == 4, "all partitions for one member")
    two = Member(name, topic, protocol)
    shared = lambda: len(one.assigned) == 2 and len(two.assigned) == 2 and not one.assigned & two.assigned
    until(shared, "two partitions for each of two members")
    described = java(GROUPS, "--describe", "--group", name, "--members")
    members = [line.split() for line in described.splitlines() if line.startswith(name)]
    expect(len(members), 2, f"members in {described}")
    # Longer than a batch each, so that they go to all partitions.
    produce(topic, [f"{i} {'x' * 200}" for i in range(400)], "--command-property", "batch.size=256", "linger.ms=0")
    until(lambda: len(one.records) + len(two.records) >= 400, "400 records")
    expect(len({value for _, _, value in one.records + two.records}), 400, "records, each once")
    expect({p for p, _, _ in one.records} | {p for p, _, _ in two.records}, {0, 1, 2, 3}, "partitions that were read")
    two.close()
    until(lambda: len(one.assigned) == 4, "all partitions for the member that stayed")
    one.close()


def consumer_protocol():
    in_group("consumer")
    in_rebalance("consumer")


def timestamps():
    topic, times = create("timestamps", 1), []
    for i in range(2):
        produce(topic, [f"{i}"])
    printed = read(topic, 2, "--formatter-property", "print.timestamp=true")
    times = [int(line.split("\t")[0].removeprefix("CreateTime:")) for line in printed]
    expect(times[0] < times[1], True, f"times {times} in order")
    expect([offsets(topic, at) for at in (times[0], times[0] + 1, times[1] + 1)], [{0: 0}, {0: 1}, {}], "by time")
    found = [offsets(topic, at) for at in ("earliest", "latest", "max-timestamp")]
    expect(found, [{0: 0}, {0: 2}, {0: 1}], "first offset, end, and the latest time")


def describe():
    topic, name = create("describe", 2), fresh("g")
    described = java("TopicCommand", "--describe", "--topic", topic)
    expect(described.count("Leader: 1"), 2, f"partitions with a leader in {described}")
    member = Member(name, topic)
    until(lambda: len(member.assigned) == 2, "all partitions for one member")
    state = lambda: java(GROUPS, "--describe", "--group", name, "--state").splitlines()[-1].split()
    expect((state()[-2], state()[-1]), ("Stable", "1"), "state and members")
    expect(name in java(GROUPS, "--list").splitlines(), True, "the group is in the list")
    member.close()
    until(lambda: (state()[-2], state()[-1]) == ("Empty", "0"), "a group that its member left")


def delete_group():
    topic, name = create("delete-group", 1), fresh("g")
    produce(topic, ["1", "2"])
    expect(read(topic, 2, "--group", name), ["1", "2"], "records")
    reset = java(GROUPS, "--reset-offsets", "--to-offset", 1, "--topic", topic, "--group", name, "--execute")
    expect(topic in reset, True, f"the topic in {reset}")
    expect(lags(java(GROUPS, "--describe", "--group", name, "--offsets")), {0: 1}, "lag after the reset")
    java(GROUPS, "--delete-offsets", "--group", name, "--topic", topic)
    java(GROUPS, "--delete", "--group", name)
    expect(name in java(GROUPS, "--list").splitlines(), False, "the deleted group is in the list")


def delete():
    topic = create("delete", 1)
    produce(topic, [str(i) for i in range(10)])
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"partitions": [{"topic": topic, "partition": 0, "offset": 4}], "version": 1}, file)
        file.flush()
        java("DeleteRecordsCommand", "--offset-json-file", file.name)
    expect(offsets(topic, "earliest"), {0: 4}, "first offset after the records before it were deleted")
    java("TopicCommand", "--delete", "--topic", topic)
    until(lambda: topic not in java("TopicCommand", "--list").splitlines(), "a deleted topic leaves the list")


def main():
    version = java("BrokerApiVersionsCommand", "--version").split()[0]
    order = {c.__name__: globals()[c.__name__] for c in checks.CHECKS} | {"create": create_topic}
    checks.run(version, list(order.items()))


main()
