// HTTP in, Kafka out, as a good engineer writes it with Fastify and KafkaJS: the JSON is checked, the producer is
// idempotent with acks=all, requests that come together share a batch, and 202 is answered after the acknowledgement.
//
// usage: node server.mjs BOOTSTRAP TOPIC; prints its port.
import Fastify from 'fastify';
import { CompressionTypes, Kafka, logLevel } from 'kafkajs';
import { randomUUID } from 'node:crypto';

const [bootstrap, topic] = process.argv.slice(2);
const kafka = new Kafka({ clientId: 'baseline', brokers: [bootstrap], logLevel: logLevel.ERROR });
const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1, allowAutoTopicCreation: false });
await producer.connect();

// What comes while a batch is under way is the next batch.
const BATCH_MAX = 1000;
let waiting = [];
let sending = false;
async function send() {
  sending = true;
  while (waiting.length > 0) {
    const batch = waiting.splice(0, BATCH_MAX);
    try {
      const messages = batch.map((entry) => entry.message);
      await producer.send({ topic, acks: -1, compression: CompressionTypes.None, messages });
      batch.forEach((entry) => entry.resolve());
    } catch (error) {
      batch.forEach((entry) => entry.reject(error));
    }
  }
  sending = false;
}
function produce(message) {
  return new Promise((resolve, reject) => {
    waiting.push({ message, resolve, reject });
    if (!sending) {
      sending = true;
      setImmediate(send);
    }
  });
}

const app = Fastify({ logger: false, bodyLimit: 1 << 20 });
app.removeAllContentTypeParsers();
app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, body, done) => {
  try {
    JSON.parse(body.toString());
    done(null, body);
  } catch (error) {
    error.statusCode = 400;
    done(error);
  }
});
app.post('/ingest/:topic', async (request, reply) => {
  const id = request.headers['x-event-id'] ?? randomUUID();
  await produce({
    key: request.headers['x-entity-key'],
    value: request.body,
    headers: { 'x-event-id': id, 'content-type': 'application/json' },
  });
  reply.code(202);
  return { status: 'accepted', event_id: id };
});
await app.listen({ host: '127.0.0.1', port: 0 });
process.stdout.write(`${app.server.address().port}\n`);
