'use strict';
// An agent with two handlers: GREET, as an example, and CONFORMANCE, by which the conformance kit tests it.
//
//   node agent.js --server=127.0.0.1:50051 --agent=node-1 --journal=node-1.journal

const fs = require('node:fs');
const { setTimeout: sleep } = require('node:timers/promises');
const { parseArgs } = require('node:util');
const grpc = require('@grpc/grpc-js');
const { Journal } = require('./journal');
const { Agent, Failure } = require('./runtime');

async function greet(params, command) {
  if (typeof params.name !== 'string') throw new Failure('invalid_params', 'params.name must be text');
  await command.output(`thinking of something nice to say to ${params.name}\n`);
  return { greeting: `Hello ${params.name}!` };
}

async function conformance(params, command) {
  if (params.mark) fs.appendFileSync(params.mark, `${command.id}\n`);
  await command.output('abcdefghijklmnopqrstuvwxyz'.repeat(params.output / 26 + 1 || 0).slice(0, params.output));
  const signal = params.stubborn ? undefined : command.signal;
  if (params.seconds) await sleep(params.seconds * 1000, null, { signal });
  if (params.fail) throw new Failure('conformance_failure', 'as asked', params.fail === 'transient');
  return params.echo;
}

const text = (value) => ({ type: 'string', default: value });

// The files are read anew for each connection, so that renewed ones count.
function credentials({ ca, cert, key, 'token-file': token }) {
  const file = (path) => (path ? fs.readFileSync(path) : null);
  if (!ca) return grpc.credentials.createInsecure(); // a token is never sent in plain text
  const channel = grpc.credentials.createSsl(file(ca), file(key), file(cert));
  if (!token) return channel;
  const metadata = new grpc.Metadata();
  metadata.set('authorization', `Bearer ${file(token).toString().trim()}`);
  const call = grpc.credentials.createFromMetadataGenerator((_, callback) => callback(null, metadata));
  return grpc.credentials.combineChannelCredentials(channel, call);
}

async function main() {
  const { values: options } = parseArgs({
    options: {
      server: text('127.0.0.1:50051'),
      agent: text('node-agent'),
      capacity: text('4'),
      journal: text('node-agent.journal'),
      'orphan-after': text('0'),
      ca: text(''), // PEM files: turns TLS on
      cert: text(''),
      key: text(''),
      'token-file': text(''),
    },
  });
  const agent = new Agent({
    id: options.agent,
    server: options.server,
    credentials: () => credentials(options),
    capacity: Number(options.capacity),
    journal: await Journal.open(options.journal),
    orphanAfter: Number(options['orphan-after']),
    handlers: { GREET: greet, CONFORMANCE: conformance },
  });
  for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, () => agent.leave()); // A second one ends it.
  await agent.run();
  process.exit(0);
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
