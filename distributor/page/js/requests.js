/**
 * Pending command requests. Resent after a reconnect; the idempotency key prevents queueing a command twice.
 *
 * @typedef {import("./protocol.js").Message} Message
 * @typedef {"command:request" | "command:retry"} RequestType
 * @typedef {{accepted: (message: Message) => void, refused: (message: Message) => void}} Answer
 */

export class Requests {
  /** @param {import("./connection.js").Connection} connection */
  constructor(connection) {
    this.connection = connection;
    /** @type {Map<string, {type: RequestType, fields: Record<string, any>, answer: Answer}>} */
    this.open = new Map();
  }

  /**
   * Requests a command, new or as a retry. Repeated requests with the same key queue it once.
   * @param {RequestType} type @param {Record<string, any>} fields @param {string} idempotencyKey @param {Answer} answer
   */
  request(type, fields, idempotencyKey, answer) {
    const requestId = randomId();
    const request = { type, fields: { ...fields, requestId, idempotencyKey }, answer };
    this.open.set(requestId, request);
    this.connection.send(type, request.fields);
  }

  /** Resends pending requests after a reconnect. */
  resend() {
    for (const { type, fields } of this.open.values()) this.connection.send(type, fields);
  }

  /** @param {Message} message @returns {boolean} whether it answers a pending request */
  settle(message) {
    const request = this.open.get(message.requestId);
    if (!request) return false;
    this.open.delete(message.requestId);
    if (message.type === "error") request.answer.refused(message);
    else request.answer.accepted(message);
    return true;
  }
}

/** Error text for a rejected command. @param {string} agentId @param {Message} refusal */
export function refusalText(agentId, { code, message }) {
  // The server may have queued it: only the reply is missing.
  if (code === "UNAVAILABLE") return `Unknown whether the command for ${agentId} was sent: ${message}`;
  return `Not sent to ${agentId}: ${message}`;
}

/** A random id. Unlike `randomUUID`, also works without TLS. */
export function randomId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
