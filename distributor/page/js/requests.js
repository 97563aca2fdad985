/**
 * Requested commands that are not answered yet. They are requested again after a reconnect; the idempotency key keeps
 * them from being queued twice.
 *
 * @typedef {import("./protocol.js").Message} Message
 * @typedef {{accepted: (message: Message) => void, refused: (message: Message) => void}} Answer
 */

export class Requests {
  /** @param {import("./connection.js").Connection} connection */
  constructor(connection) {
    this.connection = connection;
    /** @type {Map<string, {fields: Record<string, any>, answer: Answer}>} */
    this.open = new Map();
  }

  /**
   * Requests a command. The same command with the same key is queued once, however often it is requested.
   * @param {Record<string, any>} fields @param {string} idempotencyKey @param {Answer} answer
   */
  ask(fields, idempotencyKey, answer) {
    const requestId = randomId();
    const request = { fields: { ...fields, requestId, idempotencyKey }, answer };
    this.open.set(requestId, request);
    this.connection.send("command:request", request.fields);
  }

  /** The connection is back. */
  again() {
    for (const { fields } of this.open.values()) this.connection.send("command:request", fields);
  }

  /** @param {Message} message @returns {boolean} whether it answered a request of ours */
  settle(message) {
    const request = this.open.get(message.requestId);
    if (!request) return false;
    this.open.delete(message.requestId);
    if (message.type === "error") request.answer.refused(message);
    else request.answer.accepted(message);
    return true;
  }
}

/** What to say where a command was refused. @param {string} agentId @param {Message} refusal */
export function refusalText(agentId, { code, message }) {
  // The server may have queued it all the same: its answer did not come, or Valkey's did not.
  if (code === "UNAVAILABLE") return `It is not known whether the command for ${agentId} was sent: ${message}`;
  return `Not sent to ${agentId}: ${message}`;
}

/** Unlike `randomUUID`, also where the page does not come by TLS. */
export function randomId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
