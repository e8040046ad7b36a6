"""kafka-python: its calls in the shape of `checks`."""

import time

import kafka
from checks import Rec, main
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.structs import OffsetAndMetadata


def rec(r):
    return Rec(r.value, r.key, r.partition, r.timestamp, tuple(r.headers))


class Member:
    def __init__(self, consumer):
        self.consumer = consumer

    def poll(self, count):
        return [rec(r) for rs in self.consumer.poll(timeout_ms=200, max_records=count).values() for r in rs]

    def assigned(self):
        return {(p.topic, p.partition) for p in self.consumer.assignment()}

    def commit(self, _):
        self.consumer.commit()

    def close(self):
        self.consumer.close(autocommit=False)


class Client:
    by_consumer_protocol = None
    version = kafka.__version__

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.admin = KafkaAdminClient(bootstrap_servers=bootstrap)

    def create(self, topic, partitions):
        self.admin.create_topics([NewTopic(topic, partitions, 1)])

    def topics(self):
        return set(self.admin.list_topics())

    def partitions(self, topic):
        return len(self.admin.describe_topics([topic])[0]["partitions"])

    def delete(self, topic):
        self.admin.delete_topics([topic])

    def producer(self, **more):
        return KafkaProducer(bootstrap_servers=self.bootstrap, acks="all", max_request_size=2_000_000, **more)

    def send(self, producer, topic, records):
        sent = [
            producer.send(topic, r.value, r.key, list(r.headers), r.partition, r.timestamp_ms) for r in records
        ]
        producer.flush(30)
        for one in sent:
            one.get(30)

    def produce(self, topic, records, codec="none", idempotent=False):
        codec = None if codec == "none" else codec
        producer = self.producer(compression_type=codec, enable_idempotence=idempotent)
        self.send(producer, topic, records)
        producer.close()

    def consumer(self, group=None, committed=False):
        return KafkaConsumer(
            bootstrap_servers=self.bootstrap,
            group_id=group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            heartbeat_interval_ms=500,
            isolation_level="read_committed" if committed else "read_uncommitted",
        )

    def read(self, topic, done, committed=False):
        consumer = self.consumer(committed=committed)
        consumer.assign([TopicPartition(topic, p) for p in range(self.partitions(topic))])
        found, end = [], time.monotonic() + 60
        while not done(found):
            if time.monotonic() > end:
                raise AssertionError(f"only {len(found)} records came")
            found += [rec(r) for rs in consumer.poll(timeout_ms=200).values() for r in rs]
        consumer.close()
        return found

    def transact(self, topic, name, rounds, offsets=None):
        producer = self.producer(transactional_id=name)
        producer.init_transactions()
        for records, commit in rounds:
            producer.begin_transaction()
            self.send(producer, topic, records)
            if offsets:
                source, group, offset = offsets
                metadata = self.consumer(group).group_metadata()
                where = {TopicPartition(source, 0): OffsetAndMetadata(offset, "", -1)}
                producer.send_offsets_to_transaction(where, metadata)
            producer.commit_transaction() if commit else producer.abort_transaction()
        producer.close()

    def committed(self, group, topic, partition):
        consumer = self.consumer(group)
        found = consumer.committed(TopicPartition(topic, partition))
        consumer.close()
        return found

    def member(self, group, topic):
        consumer = self.consumer(group)
        consumer.subscribe([topic])
        # Where a group starts without a delay, its first join can overtake the metadata. It joins once more then, and forgets
        # to finish that where a poll's time ends meanwhile (seen with 3.0.12, on Apache Kafka too): so metadata comes first.
        consumer.topics()
        return Member(consumer)

    def offset_at(self, topic, partition, ms):
        where = TopicPartition(topic, partition)
        consumer = self.consumer()
        found = consumer.offsets_for_times({where: ms})[where]
        consumer.close()
        return found and found.offset

    def ends(self, topic, partition):
        where = TopicPartition(topic, partition)
        consumer = self.consumer()
        found = consumer.beginning_offsets([where])[where], consumer.end_offsets([where])[where]
        consumer.close()
        return found

    def groups(self):
        return {g["group_id"] for g in self.admin.list_groups()}

    def group_state(self, group):
        found = self.admin.describe_groups([group])[group]
        return found["group_state"].lower(), len(found["members"])

    def delete_group(self, group):
        for error in self.admin.delete_groups([group]).values():
            if error != "OK":
                raise AssertionError(error)


main(Client)
