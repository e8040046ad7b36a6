"""confluent-kafka (librdkafka): its calls in the shape of `checks`."""

import time

import confluent_kafka as ck
from checks import Rec, main
from confluent_kafka.admin import AdminClient, OffsetSpec


def rec(m):
    return Rec(m.value(), m.key(), m.partition(), m.timestamp()[1], tuple(m.headers() or ()))


def good(m):
    if m.error():
        raise ck.KafkaException(m.error())
    return rec(m)


class Member:
    def __init__(self, consumer):
        self.consumer = consumer

    def poll(self, count):
        return [good(m) for m in self.consumer.consume(count, 0.2)]

    def assigned(self):
        return {(p.topic, p.partition) for p in self.consumer.assignment()}

    def commit(self, _):
        self.consumer.commit(asynchronous=False)

    def close(self):
        self.consumer.close()


class Client:
    version = f"{ck.version()} (librdkafka {ck.libversion()[0]})"

    def __init__(self, bootstrap, **more):
        self.common = {"bootstrap.servers": bootstrap}
        self.grouping = more
        self.admin = AdminClient(self.common)

    def by_consumer_protocol(self):
        return Client(self.common["bootstrap.servers"], **{"group.protocol": "consumer"})

    def create(self, topic, partitions):
        self.admin.create_topics([ck.admin.NewTopic(topic, partitions, 1)])[topic].result(30)

    def topics(self):
        return set(self.admin.list_topics(timeout=30).topics)

    def partitions(self, topic):
        found = self.admin.describe_topics(ck.TopicCollection([topic]))[topic].result(30)
        return len(found.partitions)

    def delete(self, topic):
        self.admin.delete_topics([topic])[topic].result(30)

    def producer(self, **more):
        settings = {k.replace("_", "."): v for k, v in more.items()}
        return ck.Producer({**self.common, "linger.ms": 5, "message.max.bytes": 2_000_000, **settings})

    def send(self, producer, topic, records):
        errors = []
        for r in records:
            more = {} if r.timestamp_ms is None else {"timestamp": r.timestamp_ms}
            producer.produce(
                topic,
                r.value,
                r.key,
                -1 if r.partition is None else r.partition,
                lambda error, _: error and errors.append(error),
                headers=list(r.headers),
                **more,
            )
        if producer.flush(30) or errors:
            raise AssertionError(f"not delivered: {errors[:3]}")

    def produce(self, topic, records, codec="none", idempotent=False):
        self.send(self.producer(compression_type=codec, enable_idempotence=idempotent), topic, records)

    def consumer(self, group="none", committed=False):
        return ck.Consumer(
            {
                **self.common,
                **self.grouping,
                "group.id": group,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "isolation.level": "read_committed" if committed else "read_uncommitted",
            }
            # The server says how often with the consumer protocol.
            | ({} if self.grouping else {"heartbeat.interval.ms": 500})
        )

    def read(self, topic, done, committed=False):
        consumer = self.consumer(committed=committed)
        partitions = range(self.partitions(topic))
        consumer.assign([ck.TopicPartition(topic, p, ck.OFFSET_BEGINNING) for p in partitions])
        found, end = [], time.monotonic() + 60
        while not done(found):
            if time.monotonic() > end:
                raise AssertionError(f"only {len(found)} records came")
            found += [good(m) for m in consumer.consume(1, 0.2)]
        consumer.close()
        return found

    def transact(self, topic, name, rounds, offsets=None):
        producer = self.producer(transactional_id=name)
        producer.init_transactions(30)
        for records, commit in rounds:
            producer.begin_transaction()
            self.send(producer, topic, records)
            if offsets:
                source, group, offset = offsets
                metadata = self.consumer(group).consumer_group_metadata()
                producer.send_offsets_to_transaction([ck.TopicPartition(source, 0, offset)], metadata, 30)
            producer.commit_transaction(30) if commit else producer.abort_transaction(30)

    def committed(self, group, topic, partition):
        consumer = self.consumer(group)
        offset = consumer.committed([ck.TopicPartition(topic, partition)], 30)[0].offset
        consumer.close()
        return None if offset < 0 else offset

    def member(self, group, topic):
        consumer = self.consumer(group)
        consumer.subscribe([topic])
        return Member(consumer)

    def offset_at(self, topic, partition, ms):
        consumer = self.consumer()
        offset = consumer.offsets_for_times([ck.TopicPartition(topic, partition, ms)], 30)[0].offset
        consumer.close()
        return None if offset < 0 else offset

    def ends(self, topic, partition):
        where = ck.TopicPartition(topic, partition)
        offset = lambda spec: self.admin.list_offsets({where: spec})[where].result(30).offset
        return offset(OffsetSpec.earliest()), offset(OffsetSpec.latest())

    def groups(self):
        return {g.group_id for g in self.admin.list_consumer_groups().result(30).valid}

    def group_state(self, group):
        found = self.admin.describe_consumer_groups([group])[group].result(30)
        return found.state.name.lower(), len(found.members)

    def delete_group(self, group):
        self.admin.delete_consumer_groups([group])[group].result(30)


if __name__ == "__main__":
    main(Client)
