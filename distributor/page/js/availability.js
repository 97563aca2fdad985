/**
 * Detects outages of the bridge, its server or Valkey, and the time up to which data is known. Pure.
 *
 * @typedef {{available: boolean, since: number, message: string | null}} Backend  `since` in ms by the bridge's clock
 * @typedef {{server: Backend, valkey: Backend}} Backends
 * @typedef {{server: string, valkey: string}} Readiness  the checks of `/readyz`: `ok` or an error
 * @typedef {"bridge" | "server" | "valkey"} Part
 * @typedef {{part: Part, since: number, why: string}} Outage  `since` is 0 if unknown
 */

/** @param {Record<string, any>} message  `bridge:status` @returns {Backends} */
export function backendsOf({ server, valkey }) {
  const backend = (/** @type {any} */ { available, since, message }) => ({
    available,
    since: Date.parse(since),
    message,
  });
  return { server: backend(server), valkey: backend(valkey) };
}

/**
 * Current outages, the one that hides most first.
 * @param {{connected: boolean, heardAt: number, problem: string}} bridge  `heardAt` by the store's clock
 * @param {Backends | null} backends  from the last `bridge:status`
 * @param {Readiness | null} readiness  of a bridge that accepts no dashboard
 * @returns {Outage[]}
 */
export function currentOutages(bridge, backends, readiness) {
  /** @type {Outage[]} */
  const away = [];
  for (const part of /** @type {const} */ (["valkey", "server"])) {
    const last = backends?.[part];
    const why = bridge.connected ? !last?.available && last?.message : readiness?.[part] !== "ok" && readiness?.[part];
    if (why) away.push({ part, since: last && !last.available ? last.since : bridge.heardAt, why });
  }
  if (!bridge.connected && !away.length) away.push({ part: "bridge", since: bridge.heardAt, why: bridge.problem });
  return away;
}

/**
 * The time up to which the data shown is known, in ms.
 * @param {Outage[]} away @param {number} now
 */
export function dataTime(away, now) {
  return Math.min(now, ...away.map(({ since }) => since || now));
}
