/** Reads the readiness of the bridge's server and Valkey while it accepts no dashboard. */

/** @returns {Promise<import("./availability.js").Readiness | null>}  null if the bridge does not respond */
export async function readReadiness() {
  try {
    return (await (await fetch("/readyz")).json()).checks ?? null;
  } catch {
    return null;
  }
}
