// POST /v1/jobs puts a call into the queue, GET /v1/jobs/:id/events streams what the worker publishes of it. The paths
// and the events' names are onceq's, so that one load generator measures both. One subscribing connection serves all
// streams; what is published before a stream listens is lost, but for the end.
import { createHash, randomUUID } from 'node:crypto';
import { Queue } from 'bullmq';
import Fastify from 'fastify';
import { channel, connection, JOBS, QUEUE, redis } from './shared.mjs';

const queue = new Queue(QUEUE, { connection });
const heard = redis();
const readers = new Map();

heard.on('message', (name, message) => {
  for (const reader of readers.get(name) ?? []) reader(message);
});

async function listen(name, reader) {
  const known = readers.get(name);
  if (known) return known.add(reader);
  readers.set(name, new Set([reader]));
  await heard.subscribe(name);
}

function leave(name, reader) {
  const known = readers.get(name);
  if (!known?.delete(reader) || known.size) return;
  readers.delete(name);
  heard.unsubscribe(name);
}

const app = Fastify({ logger: false });

app.post('/v1/jobs', async (request, reply) => {
  const key = request.headers['idempotency-key'] ?? randomUUID();
  const id = createHash('sha256').update(key).digest('hex').slice(0, 32); // the same id is the same job
  await queue.add('answer', request.body, { ...JOBS, jobId: id });
  reply.code(202).header('location', `/v1/jobs/${id}`);
  return { id, status: 'queued' };
});

app.get('/v1/jobs/:id/events', async (request, reply) => {
  const { id } = request.params;
  const name = channel(id);
  reply.hijack();
  reply.raw.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
  const send = (message) => {
    reply.raw.write(message);
    if (message.startsWith('event: succeeded') || message.startsWith('event: failed')) {
      leave(name, send);
      reply.raw.end();
    }
  };
  request.raw.on('close', () => leave(name, send));
  await listen(name, send);
  const job = await queue.getJob(id); // it may have ended before anybody listened
  if (await job?.isCompleted()) send('event: succeeded\ndata: {}\n\n');
  else if (await job?.isFailed()) send('event: failed\ndata: {}\n\n');
});

console.log(JSON.stringify({ url: await app.listen({ host: '127.0.0.1', port: 0 }) }));
process.on('SIGTERM', () => process.exit(0));
