'use strict';
// An agent with two handlers: GREET, as an example, and CONFORMANCE, by which the conformance kit tests it.
//
//   node agent.js --server=127.0.0.1:50051 --agent=node-1 --journal=node-1.journal

const fs = require('node:fs');
const { setTimeout: sleep } = require('node:timers/promises');
const { parseArgs } = require('node:util');
const { Agent, Failure } = require('./runtime');

const ALPHABET = 'abcdefghijklmnopqrstuvwxyz';

async function greet(params, command) {
  if (typeof params.name !== 'string') throw new Failure('invalid_params', 'params.name must be text');
  await command.output(`thinking of something nice to say to ${params.name}\n`);
  return { greeting: `Hello ${params.name}!` };
}

async function conformance(params, command) {
  if (params.mark) fs.appendFileSync(params.mark, `${command.id}\n`);
  const length = params.output ?? 0;
  await command.output(ALPHABET.repeat(Math.ceil(length / ALPHABET.length)).slice(0, length));
  const signal = params.stubborn ? undefined : command.signal;
  if (params.seconds) await sleep(params.seconds * 1000, null, { signal });
  if (params.fail) throw new Failure('conformance_failure', 'as asked', params.fail === 'transient');
  return params.echo;
}

async function main() {
  const { values } = parseArgs({
    options: {
      server: { type: 'string', default: '127.0.0.1:50051' },
      agent: { type: 'string', default: 'node-agent' },
      capacity: { type: 'string', default: '4' },
      journal: { type: 'string', default: 'node-agent.journal' },
      'orphan-after': { type: 'string', default: '0' },
    },
  });
  const agent = new Agent({
    id: values.agent,
    server: values.server,
    capacity: Number(values.capacity),
    journal: values.journal,
    orphanAfter: Number(values['orphan-after']),
    handlers: { GREET: greet, CONFORMANCE: conformance },
  });
  let signals = 0;
  for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => agent.leave((signals += 1) > 1));
  await agent.run();
  process.exit(0);
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
