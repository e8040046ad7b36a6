// KafkaJS on a broker: the checks of ../python/checks.py, by its calls. Prints `check NAME ok`, `check NAME absent WHY`
// or `check NAME FAILED WHY` for each, and exits with 1 where one failed. Packages are found by NODE_PATH.

const { randomUUID } = require('node:crypto');
const assert = require('node:assert/strict');
const { Kafka, CompressionTypes, CompressionCodecs, logLevel } = require('kafkajs');
const snappy = require('kafkajs-snappy');
const lz4 = require('lz4js');
const { ZstdCodec } = require('zstd-codec');
const { version } = require('kafkajs/package.json');

// KafkaJS brings gzip; the others are given to it, as its documentation says.
CompressionCodecs[CompressionTypes.Snappy] = snappy;
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async (encoder) => Buffer.from(lz4.compress(encoder.buffer)),
  decompress: async (buffer) => Buffer.from(lz4.decompress(buffer)),
});
const zstd = new Promise((found) => ZstdCodec.run((codec) => found(new codec.Simple())));
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async (encoder) => Buffer.from((await zstd).compress(encoder.buffer)),
  decompress: async (buffer) => Buffer.from((await zstd).decompress(buffer)),
});

const WAIT_MS = 60_000;
// Of the records whose times are given. Not long ago: retention goes by them, and takes what is older than a week at any moment.
const START_MS = Date.now() - 3_600_000;
const kafka = new Kafka({ brokers: [process.argv[2]], logLevel: logLevel.NOTHING });
const admin = kafka.admin();
const fresh = (what) => `${what}-${randomUUID().slice(0, 8)}`;
const range = (count) => Array.from({ length: count }, (_, i) => i);
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function until(condition, what) {
  const end = Date.now() + WAIT_MS;
  for (;;) {
    const found = await condition();
    if (found) return found;
    if (Date.now() > end) throw new Error(`${what} did not happen within ${WAIT_MS} ms`);
    await pause(20);
  }
}

async function create(topic, partitions) {
  await admin.createTopics({ topics: [{ topic, numPartitions: partitions, replicationFactor: 1 }] });
}

async function produce(topic, messages, { compression = CompressionTypes.None, ...options } = {}) {
  const producer = kafka.producer(options);
  await producer.connect();
  await producer.send({ topic, messages, compression, acks: -1 });
  await producer.disconnect();
}

// A member of a group that keeps what it read, what it is assigned, and how far it is.
class Member {
  constructor(groupId, options = {}) {
    this.consumer = kafka.consumer({ groupId, heartbeatInterval: 300, sessionTimeout: 10_000, maxWaitTimeInMs: 200, ...options });
    this.records = [];
    this.assigned = [];
    this.consumer.on(this.consumer.events.GROUP_JOIN, ({ payload }) => {
      this.assigned = Object.values(payload.memberAssignment).flat();
    });
  }

  // `most`: after so many records it takes no more, and commits exactly those.
  async start(topic, most = Infinity) {
    await this.consumer.connect();
    await this.consumer.subscribe({ topics: [topic], fromBeginning: true });
    await this.consumer.run({
      autoCommit: false,
      eachMessage: async ({ partition, message }) => {
        if (this.records.length >= most) return;
        this.records.push({ partition, ...message });
        const offset = String(Number(message.offset) + 1);
        await this.consumer.commitOffsets([{ topic, partition, offset }]);
      },
    });
    return this;
  }

  async stop() {
    await this.consumer.disconnect();
  }
}

async function read(topic, done, options = {}) {
  const member = await new Member(fresh('reader'), options).start(topic);
  await until(() => done(member.records), `${topic} read to its end`);
  await member.stop();
  return member.records;
}

const text = (buffer) => buffer && buffer.toString();

const absent = (why) => Object.assign(new Error(why), { absent: true });

const checks = {
  async create() {
    const topic = fresh('create');
    await create(topic, 4);
    assert((await admin.listTopics()).includes(topic));
    const { topics } = await admin.fetchTopicMetadata({ topics: [topic] });
    assert.equal(topics[0].partitions.length, 4);
  },

  async codecs() {
    const topic = fresh('codecs');
    await create(topic, 3);
    const sent = [];
    for (const codec of ['None', 'GZIP', 'Snappy', 'LZ4', 'ZSTD']) {
      const messages = range(100).map((i) => ({ key: `${i % 7}`, value: `${codec} ${i} ${'pad '.repeat(40)}` }));
      await produce(topic, messages, { compression: CompressionTypes[codec] });
      sent.push(...messages.map(({ key, value }) => `${key} ${value}`));
    }
    const found = await read(topic, (records) => records.length >= sent.length);
    assert.deepEqual(found.map(({ key, value }) => `${key} ${value}`).sort(), sent.sort());
  },

  async records() {
    const topic = fresh('records');
    await create(topic, 1);
    const bytes = Buffer.from(range(256));
    const sent = [
      { key: 'key', value: 'plain' },
      { key: 'tombstone', value: null },
      { key: null, value: 'no key' },
      { key: '', value: '' },
      { key: 'h', value: 'headers', headers: { a: ['1', '2'], empty: '', bytes } },
      { key: 'ü', value: '€', headers: { naïve: 'é' } },
      { key: 'large', value: 'x'.repeat(500_000) },
    ].map((message, i) => ({ ...message, timestamp: String(START_MS + i) }));
    await produce(topic, sent);
    const found = await read(topic, (records) => records.length >= sent.length);
    const plain = (message) => [text(message.key), text(message.value), message.timestamp];
    assert.deepEqual(found.map(plain), sent.map(plain));
    assert.deepEqual(found[4].headers.a.map(text), ['1', '2']);
    assert.deepEqual([text(found[4].headers.empty), found[4].headers.bytes], ['', bytes]);
    assert.equal(text(found[5].headers.naïve), 'é');
  },

  async idempotent() {
    const topic = fresh('idempotent');
    await create(topic, 1);
    const sent = range(1000).map((i) => ({ value: `${i}` }));
    const producer = kafka.producer({ idempotent: true });
    await producer.connect();
    for (const part of range(10)) {
      await producer.send({ topic, messages: sent.slice(part * 100, part * 100 + 100), acks: -1 });
    }
    await producer.disconnect();
    const found = await read(topic, (records) => records.length >= sent.length);
    assert.deepEqual(found.map(({ value }) => text(value)), sent.map(({ value }) => value));
  },

  async transactions() {
    const topic = fresh('transactions');
    await create(topic, 1);
    const producer = kafka.producer({ transactionalId: fresh('txn'), maxInFlightRequests: 1, idempotent: true });
    await producer.connect();
    for (const [name, commit] of [['a', true], ['b', false], ['c', true]]) {
      const transaction = await producer.transaction();
      await transaction.send({ topic, messages: range(10).map((i) => ({ value: `${name} ${i}` })) });
      await (commit ? transaction.commit() : transaction.abort());
    }
    await producer.disconnect();
    await produce(topic, [{ value: 'end' }]);
    const ended = (records) => records.length > 0 && text(records.at(-1).value) === 'end';
    const named = (...names) => [...names.flatMap((name) => range(10).map((i) => `${name} ${i}`)), 'end'];
    const values = (records) => records.map(({ value }) => text(value));
    assert.deepEqual(values(await read(topic, ended)), named('a', 'c'));
    assert.deepEqual(values(await read(topic, ended, { readUncommitted: true })), named('a', 'b', 'c'));
  },

  async transactional_offsets() {
    const [source, target, group] = [fresh('txn-source'), fresh('txn-target'), fresh('txn-group')];
    await create(source, 1);
    await create(target, 1);
    const producer = kafka.producer({ transactionalId: fresh('txn'), maxInFlightRequests: 1, idempotent: true });
    await producer.connect();
    const committed = async () => (await admin.fetchOffsets({ groupId: group, topics: [source] }))[0].partitions[0].offset;
    for (const [offset, commit, after] of [['9', false, '-1'], ['4', true, '4']]) {
      const transaction = await producer.transaction();
      await transaction.send({ topic: target, messages: [{ value: offset }] });
      await transaction.sendOffsets({ consumerGroupId: group, topics: [{ topic: source, partitions: [{ partition: 0, offset }] }] });
      await (commit ? transaction.commit() : transaction.abort());
      assert.equal(await committed(), after);
    }
    await producer.disconnect();
  },

  async group() {
    const [topic, name] = [fresh('group'), fresh('g')];
    await create(topic, 3);
    await produce(topic, range(90).map((i) => ({ value: `${i}`, partition: i % 3 })));
    const first = await new Member(name).start(topic, 30);
    await until(() => first.records.length >= 30, 'the first 30 records');
    await first.stop();
    const second = await new Member(name).start(topic);
    await until(() => second.records.length >= 60, 'the other records');
    await pause(500);
    await second.stop();
    const both = [...first.records, ...second.records].map(({ value }) => Number(text(value)));
    assert.deepEqual(both.sort((a, b) => a - b), range(90));
    const [{ partitions }] = await admin.fetchOffsets({ groupId: name, topics: [topic] });
    assert.deepEqual(partitions.map(({ offset }) => offset), ['30', '30', '30']);
  },

  async rebalance() {
    const [topic, name] = [fresh('rebalance'), fresh('g')];
    await create(topic, 4);
    const one = await new Member(name).start(topic);
    await until(() => one.assigned.length === 4, 'all partitions for one member');
    const two = await new Member(name).start(topic);
    const all = () => [...one.assigned, ...two.assigned].sort();
    await until(
      () => one.assigned.length === 2 && two.assigned.length === 2 && all().join() === '0,1,2,3',
      'two partitions for each of two members',
    );
    await produce(topic, range(40).map((i) => ({ value: `${i}`, partition: i % 4 })));
    await until(() => one.records.length + two.records.length >= 40, '40 records');
    assert.deepEqual([one.records.length, two.records.length], [20, 20]);
    await two.stop();
    await until(() => one.assigned.length === 4, 'all partitions for the member that stayed');
    await one.stop();
  },

  async consumer_protocol() {
    throw absent('it speaks the classic protocol only');
  },

  async timestamps() {
    const topic = fresh('timestamps');
    await create(topic, 1);
    await produce(topic, range(100).map((i) => ({ value: `${i}`, timestamp: String(START_MS + 1000 * i) })));
    const at = async (ms) => Number((await admin.fetchTopicOffsetsByTimestamp(topic, ms))[0].offset);
    assert.deepEqual([await at(START_MS), await at(START_MS + 41_999), await at(START_MS + 99_000)], [0, 42, 99]);
    // After the last one KafkaJS says where the next record will be.
    assert.equal(await at(START_MS + 99_001), 100);
    const [{ low, high }] = await admin.fetchTopicOffsets(topic);
    assert.deepEqual([low, high], ['0', '100']);
  },

  async describe() {
    const [topic, name] = [fresh('describe'), fresh('g')];
    await create(topic, 2);
    const member = await new Member(name).start(topic);
    await until(() => member.assigned.length === 2, 'all partitions for one member');
    assert((await admin.listGroups()).groups.some(({ groupId }) => groupId === name));
    const state = async () => {
      const [found] = (await admin.describeGroups([name])).groups;
      return `${found.state} ${found.members.length}`;
    };
    await until(async () => (await state()) === 'Stable 1', 'a group with one member');
    assert.equal((await admin.describeCluster()).brokers.length, 1);
    await member.stop();
    assert.equal(await state(), 'Empty 0');
  },

  async delete_group() {
    const [topic, name] = [fresh('delete-group'), fresh('g')];
    await create(topic, 1);
    await admin.setOffsets({ groupId: name, topic, partitions: [{ partition: 0, offset: '0' }] });
    assert((await admin.listGroups()).groups.some(({ groupId }) => groupId === name));
    await admin.deleteGroups([name]);
    assert(!(await admin.listGroups()).groups.some(({ groupId }) => groupId === name));
  },

  async delete() {
    const topic = fresh('delete');
    await create(topic, 1);
    await admin.deleteTopics({ topics: [topic] });
    assert(!(await admin.listTopics()).includes(topic));
  },
};

async function main() {
  console.log(`version ${version}`);
  await admin.connect();
  let failed = false;
  for (const [name, check] of Object.entries(checks)) {
    let said = 'ok';
    try {
      await check();
    } catch (error) {
      if (error.absent) {
        console.log(`check ${name} absent ${error.message}`);
        continue;
      }
      console.error(error);
      failed = true;
      said = `FAILED ${error}`.replaceAll('\n', ' ').slice(0, 500);
    }
    console.log(`check ${name} ${said}`);
  }
  process.exit(failed ? 1 : 0);
}

main();
