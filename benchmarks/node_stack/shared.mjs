// What the API and the worker of this stack share: where Redis is, and the names of queue and channels.
import { Redis } from 'ioredis';

export const QUEUE = 'answers';
export const JOBS = { removeOnComplete: { age: 86_400 }, removeOnFail: { age: 86_400 }, attempts: 3, backoff: { type: 'exponential', delay: 1_000 } };

const path = new URL(process.env.BENCH_REDIS_URL).pathname;

export const connection = { path, maxRetriesPerRequest: null };
export const redis = () => new Redis(connection);
export const channel = (id) => `answer:${id}`;
