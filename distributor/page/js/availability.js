/**
 * What is away: the bridge, its server, or its Valkey, and up to when what the page shows is known. Pure.
 *
 * @typedef {{available: boolean, since: number, message: string | null}} Backend  `since` in ms by the bridge's clock
 * @typedef {{server: Backend, valkey: Backend}} Backends
 * @typedef {{server: string, valkey: string}} Readiness  what `/readyz` says of each: `ok`, or what is wrong
 * @typedef {"bridge" | "server" | "valkey"} Part
 * @typedef {{part: Part, since: number, why: string}} Away  `since` is 0 where that is not known
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
 * What is away, that without which least is known first.
 * @param {{connected: boolean, heardAt: number, problem: string}} bridge  `heardAt` by the store's clock
 * @param {Backends | null} backends  the latest that the bridge said
 * @param {Readiness | null} readiness  what it says meanwhile, where it takes no dashboard
 * @returns {Away[]}
 */
export function whatIsAway(bridge, backends, readiness) {
  /** @type {Away[]} */
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
 * The time for which what is shown is known.
 * @param {Away[]} away @param {number} now
 */
export function knownAt(away, now) {
  return Math.min(now, ...away.map(({ since }) => since || now));
}
