'use strict';
// The messages, loaded from the .proto files, with their JSON values and error details as plain JavaScript.

const path = require('node:path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');
const protobuf = require('protobufjs');

const PROTO = process.env.DISTRIBUTOR_PROTO || path.join(__dirname, '..', '..', 'proto');
const FORM = { keepCase: true, longs: Number, enums: String, defaults: true, oneofs: true, includeDirs: [PROTO] };
const Gateway = grpc.loadPackageDefinition(loader.loadSync('distributor/v1/agent_gateway.proto', FORM)).distributor.v1
  .AgentGatewayService;

// google.protobuf.Value and Duration

function fromValue(value) {
  switch (value.kind) {
    case 'structValue':
      return fromStruct(value.structValue);
    case 'listValue':
      return value.listValue.values.map(fromValue);
    case 'nullValue':
      return null;
    default:
      return value[value.kind];
  }
}

function fromStruct(struct) {
  return Object.fromEntries(Object.entries(struct?.fields ?? {}).map(([name, value]) => [name, fromValue(value)]));
}

function toValue(json) {
  if (json === null || json === undefined) return { nullValue: 'NULL_VALUE' };
  if (Array.isArray(json)) return { listValue: { values: json.map(toValue) } };
  if (typeof json === 'boolean') return { boolValue: json };
  if (typeof json === 'number') return { numberValue: json };
  if (typeof json === 'string') return { stringValue: json };
  const fields = Object.fromEntries(Object.entries(json).map(([name, one]) => [name, toValue(one)]));
  return { structValue: { fields } };
}

const toSeconds = (duration) => (duration ? duration.seconds + duration.nanos / 1e9 : 0);
const toDuration = (seconds) => ({ seconds: Math.floor(seconds), nanos: Math.round((seconds % 1) * 1e9) });

// Errors: the reason of a status, and after how many seconds to retry, if the server says so.

const details = protobuf.parse(`syntax = "proto3";
  message Any { string type_url = 1; bytes value = 2; }
  message Status { repeated Any details = 3; }
  message ErrorInfo { string reason = 1; }
  message Duration { int64 seconds = 1; int32 nanos = 2; }
  message RetryInfo { Duration retry_delay = 1; }`).root;

function errorDetails(metadata) {
  const found = { reason: '', retryAfter: Infinity };
  const [packed] = metadata?.get('grpc-status-details-bin') ?? [];
  for (const { typeUrl: type, value } of packed ? details.lookupType('Status').decode(packed).details : []) {
    if (type.endsWith('ErrorInfo')) found.reason = details.lookupType('ErrorInfo').decode(value).reason;
    if (type.endsWith('RetryInfo')) {
      const { retryDelay: delay } = details.lookupType('RetryInfo').decode(value);
      found.retryAfter = Number(delay.seconds) + delay.nanos / 1e9;
    }
  }
  return found;
}

module.exports = { Gateway, errorDetails, fromStruct, toDuration, toSeconds, toValue };
