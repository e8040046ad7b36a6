"""aiokafka: its calls in the shape of `checks`. One loop, which runs while a call does: heartbeats too."""

import asyncio
import time

import aiokafka
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from checks import Rec, main

loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
run = loop.run_until_complete


def rec(r):
    return Rec(r.value, r.key, r.partition, r.timestamp, tuple(r.headers))


class Member:
    def __init__(self, consumer):
        self.consumer = consumer

    def poll(self, count):
        found = run(self.consumer.getmany(timeout_ms=200, max_records=count))
        return [rec(r) for rs in found.values() for r in rs]

    def assigned(self):
        return {(p.topic, p.partition) for p in self.consumer.assignment()}

    def commit(self, _):
        run(self.consumer.commit())

    def close(self):
        run(self.consumer.stop())


class Client:
    by_consumer_protocol = None
    version = aiokafka.__version__

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap

        async def admin():
            admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
            await admin.start()
            return admin

        self.admin = run(admin())

    def create(self, topic, partitions):
        said = run(self.admin.create_topics([NewTopic(topic, partitions, 1)]))
        for _, code, message in said.topic_errors:
            if code:
                raise AssertionError(f"{code} {message}")

    def topics(self):
        return set(run(self.admin.list_topics()))

    def partitions(self, topic):
        return len(run(self.admin.describe_topics([topic]))[0]["partitions"])

    def delete(self, topic):
        for _, code in run(self.admin.delete_topics([topic])).topic_error_codes:
            if code:
                raise AssertionError(code)

    async def producer(self, **more):
        producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, max_request_size=2_000_000, **more)
        await producer.start()
        return producer

    async def send(self, producer, topic, records):
        sent = [
            await producer.send(topic, r.value, r.key, r.partition, r.timestamp_ms, list(r.headers)) for r in records
        ]
        await asyncio.wait_for(asyncio.gather(*sent), 30)

    def produce(self, topic, records, codec="none", idempotent=False):
        async def go():
            codec_or_none = None if codec == "none" else codec
            producer = await self.producer(compression_type=codec_or_none, enable_idempotence=idempotent, acks="all")
            try:
                await self.send(producer, topic, records)
            finally:
                await producer.stop()

        run(go())

    async def consumer(self, *topics, group=None, committed=False):
        consumer = AIOKafkaConsumer(
            *topics,
            bootstrap_servers=self.bootstrap,
            group_id=group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            heartbeat_interval_ms=500,
            isolation_level="read_committed" if committed else "read_uncommitted",
        )
        await consumer.start()
        return consumer

    def read(self, topic, done, committed=False):
        async def go():
            consumer = await self.consumer(committed=committed)
            consumer.assign([TopicPartition(topic, p) for p in partitions])
            found, end = [], time.monotonic() + 60
            while not done(found):
                if time.monotonic() > end:
                    raise AssertionError(f"only {len(found)} records came")
                found += [rec(r) for rs in (await consumer.getmany(timeout_ms=200)).values() for r in rs]
            await consumer.stop()
            return found

        partitions = range(self.partitions(topic))
        return run(go())

    def transact(self, topic, name, rounds, offsets=None):
        async def go():
            producer = await self.producer(transactional_id=name)
            for records, commit in rounds:
                await producer.begin_transaction()
                await self.send(producer, topic, records)
                if offsets:
                    source, group, offset = offsets
                    await producer.send_offsets_to_transaction({TopicPartition(source, 0): offset}, group)
                await (producer.commit_transaction() if commit else producer.abort_transaction())
            await producer.stop()

        run(go())

    def committed(self, group, topic, partition):
        async def go():
            consumer = await self.consumer(group=group)
            consumer.assign([TopicPartition(topic, partition)])
            found = await consumer.committed(TopicPartition(topic, partition))
            await consumer.stop()
            return found

        return run(go())

    def member(self, group, topic):
        # Its start waits for the group, and so for the other members: who are in this loop, and join meanwhile.
        return Member(run(self.consumer(topic, group=group)))

    def offset_at(self, topic, partition, ms):
        async def go():
            where = TopicPartition(topic, partition)
            consumer = await self.consumer()
            found = (await consumer.offsets_for_times({where: ms}))[where]
            await consumer.stop()
            return found and found.offset

        return run(go())

    def ends(self, topic, partition):
        async def go():
            where = TopicPartition(topic, partition)
            consumer = await self.consumer()
            found = (await consumer.beginning_offsets([where]))[where], (await consumer.end_offsets([where]))[where]
            await consumer.stop()
            return found

        return run(go())

    def groups(self):
        return {name for name, _ in run(self.admin.list_consumer_groups())}

    def group_state(self, group):
        _, name, state, _, _, members = run(self.admin.describe_consumer_groups([group]))[0].groups[0][:6]
        if name != group:
            raise AssertionError(f"asked for {group}, got {name}")
        return state.lower(), len(members)

    # It has no call for it.
    delete_group = None


main(Client)
