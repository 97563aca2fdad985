// The caller of BullMQ: reads turns of work from stdin, prints the times of each; the counterpart of
// bench/peers/caller.py.
'use strict';

const { createInterface } = require('node:readline');
const { setTimeout: pause } = require('node:timers/promises');
const { Queue, QueueEvents } = require('bullmq');
const { QUEUE, connection } = require('./connection.cjs');
const { Results } = require('./results.cjs');

const PARAMS = { path: '/var/log/syslog', lines: 100, follow: false };
// Four events for each of 4,000 unfinished commands must fit, or results would be trimmed before they are read.
const EVENTS_KEPT = 100_000;

const results = new Results();
const queue = new Queue(QUEUE, { connection, streams: { events: { maxLen: EVENTS_KEPT } } });
// From the start of the stream, so that no result is too early to be seen.
const events = new QueueEvents(QUEUE, { connection, lastEventId: '0' });
events.on('completed', ({ jobId }) => results.add(jobId));
events.on('failed', ({ jobId, failedReason }) => fail(new Error(`command ${jobId} failed: ${failedReason}`)));

function fail(error) {
  console.error(error);
  process.exit(1);
}

async function enqueue(count) {
  if (count === 1) return [(await queue.add('READ', PARAMS)).id];
  const jobs = await queue.addBulk(Array.from({ length: count }, () => ({ name: 'READ', data: PARAMS })));
  return jobs.map((job) => job.id);
}

async function latencyMs(work) {
  const begun = performance.now();
  const [id] = await enqueue(1);
  const latency = (await results.of(id)) - begun;
  await pause(work.pause_seconds * 1000);
  return latency;
}

async function queueAll(work) {
  const calls = Math.floor(work.commands / work.batch);
  let begun = 0;
  let asked = 0;
  const caller = async () => {
    while (begun < calls) {
      begun += 1;
      asked += work.batch;
      await results.countReaches(asked - work.outstanding);
      await enqueue(work.batch);
    }
  };
  await Promise.all(Array.from({ length: work.calls }, caller));
  await results.countReaches(asked);
}

async function takeTurn(work) {
  results.clear();
  const begun = performance.now();
  if (work.shape !== 'one at a time') {
    await queueAll(work);
    return { seconds: (performance.now() - begun) / 1000, latencies_ms: [] };
  }
  const latencies = [];
  for (let number = 0; number < work.commands; number += 1) latencies.push(await latencyMs(work));
  return { seconds: latencies.reduce((sum, latency) => sum + latency, 0) / 1000, latencies_ms: latencies };
}

async function main() {
  await Promise.all([queue.waitUntilReady(), events.waitUntilReady()]);
  console.log('ready');
  for await (const line of createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(await takeTurn(JSON.parse(line))));
  }
  process.exit(0);
}

main().catch(fail);
