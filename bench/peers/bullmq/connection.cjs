// The queue and the Valkey that the worker and the caller of BullMQ share.
'use strict';

exports.QUEUE = 'commands';

exports.connection = { path: process.env.PEER_VALKEY_SOCKET, password: process.env.PEER_VALKEY_PASSWORD };
