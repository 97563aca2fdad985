import { Api } from "/js/api.js";
import { same } from "./check.js";

/** What becomes of a call whose answer is read so. */
async function answered(response, abort = false) {
  const given = globalThis.fetch;
  const controller = new AbortController();
  globalThis.fetch = async () => {
    if (abort) controller.abort();
    return response;
  };
  try {
    return await new Api({ ready: async () => true }).agents(controller.signal);
  } catch (error) {
    return { status: error.status, code: error.code, thrown: error.message };
  } finally {
    globalThis.fetch = given;
  }
}

const breaksOff = { ok: true, status: 200, text: () => Promise.reject(new Error("broken off")) };

export const tests = {
  async "an answer is what it says"() {
    same(await answered(Response.json({ agents: [] })), { agents: [] });
  },
  async "an answer that breaks off is none"() {
    same(await answered(breaksOff), { status: 0, code: "UNAVAILABLE", thrown: "the bridge is unreachable" });
  },
  async "an answer that nobody waits for any more is none"() {
    same(await answered(breaksOff, true), { status: undefined, code: undefined, thrown: "broken off" });
  },
  async "a refusal is told in its words, or by its status"() {
    const error = { code: "NOT_FOUND", message: "there is none" };
    same((await answered(Response.json({ error }, { status: 404 }))).thrown, "there is none");
    same((await answered(new Response("<html>", { status: 502 }))).thrown, "the bridge answered 502");
  },
};
