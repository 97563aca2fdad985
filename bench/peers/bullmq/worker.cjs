// The worker of BullMQ: prints "ready"; ends by SIGTERM.
'use strict';

const { Worker } = require('bullmq');
const { QUEUE, connection } = require('./connection.cjs');

const CONCURRENCY = 100;

const execute = async () => ({ status: 'completed', exitCode: 0 });

const worker = new Worker(QUEUE, execute, { connection, concurrency: CONCURRENCY });
worker.on('error', (error) => console.error(error));
worker.waitUntilReady().then(() => console.log('ready'));
