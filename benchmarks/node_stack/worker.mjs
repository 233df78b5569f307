// Takes jobs, asks the provider through its official SDK, publishes each token as it comes, keeps the whole text.
import { Worker } from 'bullmq';
import OpenAI from 'openai';
import { channel, connection, QUEUE, redis } from './shared.mjs';

const provider = new OpenAI({ baseURL: process.env.BENCH_PROVIDER_URL, apiKey: 'simulated' });
const told = redis();

const event = (name, data) => `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`;

async function answer(job) {
  const { model, messages } = job.data;
  const stream = await provider.chat.completions.create({
    model: model.replace('openai/', ''), messages, stream: true, stream_options: { include_usage: true },
  });
  let text = '';
  let usage;
  for await (const chunk of stream) {
    usage = chunk.usage ?? usage;
    const token = chunk.choices[0]?.delta?.content;
    if (!token) continue;
    text += token;
    told.publish(channel(job.id), event('delta', { text: token }));
  }
  return { text, usage };
}

const worker = new Worker(QUEUE, answer, { connection, concurrency: Number(process.env.BENCH_CONCURRENCY) });
worker.on('completed', (job) => told.publish(channel(job.id), event('succeeded', {})));
worker.on('failed', (job, error) => {
  if (job && job.attemptsMade >= job.opts.attempts) told.publish(channel(job.id), event('failed', { error: error.message }));
});
process.on('SIGTERM', () => process.exit(0));
