/** Reads what the bridge says of its server and its Valkey while it takes no dashboard. */

/** @returns {Promise<import("./availability.js").Readiness | null>}  null where the bridge does not answer */
export async function readReadiness() {
  try {
    return (await (await fetch("/readyz")).json()).checks ?? null;
  } catch {
    return null;
  }
}
