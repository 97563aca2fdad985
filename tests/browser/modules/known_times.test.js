import { dataTime, currentOutages } from "/js/availability.js";
import { localTime } from "/js/format.js";
import { runTimeText, took } from "/js/run_time.js";
import { same } from "./check.js";

const NOW = 1_761_000_100_000;
const START = NOW - 10_000;
const LOST = NOW - 4_000;

const assigned = (more = {}) => ({ state: "assigned", receipts: { queued: START - 500, started: START }, ...more });
const ended = { state: "completed", receipts: { queued: START - 500, started: START, finished: START + 1_500 } };

const up = (since = 1) => ({ available: true, since, message: "" });
const down = (since, message = "no answer") => ({ available: false, since, message });
const live = { connected: true, heardAt: NOW, problem: "" };
const lost = { connected: false, heardAt: LOST, problem: "the bridge went away" };

export const tests = {
  "a command runs as long as it is known to run"() {
    same([took(assigned(), NOW, NOW), runTimeText(assigned(), NOW, NOW)], ["10 s", "running for 10 s"]);
    same([took(assigned(), NOW, LOST), runTimeText(assigned(), NOW, LOST)], [
      "6 s?",
      `had run for 6 s at ${localTime(LOST, NOW)}`,
    ]);
    const orphan = assigned({ agentAwaySince: LOST });
    const shown = [took(orphan, NOW, NOW), runTimeText(orphan, NOW, NOW)];
    same(shown, ["6 s?", `had run for 6 s at ${localTime(LOST, NOW)}`]);
    same(took(orphan, NOW + 60_000, NOW + 60_000), "6 s?");
  },
  "one that ended took what it took, whatever is away"() {
    same([took(ended, NOW, LOST), took({ ...ended, agentAwaySince: LOST }, NOW, NOW)], ["1.50 s", "1.50 s"]);
  },
  "one that has not started waits"() {
    const queued = { state: "queued", receipts: { queued: START } };
    same([took(queued, NOW, NOW), runTimeText(queued, NOW, NOW)], ["–", "waiting for 10 s"]);
    same(runTimeText(queued, NOW, LOST), `had waited for 6 s at ${localTime(LOST, NOW)}`);
  },
  "nothing is away where everything answers"() {
    same(currentOutages(live, { server: up(), valkey: up() }, null), []);
    same(currentOutages(live, null, null), []);
  },
  "a part that is away is named, with its time"() {
    const outages = currentOutages(live, { server: down(5), valkey: up() }, null);
    same(outages, [{ part: "server", since: 5, why: "no answer" }]);
    same(
      currentOutages(live, { server: down(5), valkey: down(7) }, null).map(({ part, since }) => [part, since]),
      [
        ["valkey", 7],
        ["server", 5],
      ],
    );
  },
  "what was said before the bridge went away is not said any more"() {
    const [only, ...more] = currentOutages(lost, { server: down(5), valkey: up() }, null);
    same([only, more], [{ part: "bridge", since: LOST, why: "the bridge went away" }, []]);
  },
  "a bridge that answers without taking dashboards says what is away"() {
    const readiness = { valkey: "connection refused", server: "ok" };
    same(currentOutages(lost, { server: up(), valkey: up() }, readiness), [
      { part: "valkey", since: LOST, why: "connection refused" },
    ]);
    same(currentOutages(lost, { server: up(), valkey: down(9) }, readiness)[0].since, 9);
    same(currentOutages({ ...lost, heardAt: 0 }, null, readiness)[0].since, 0);
  },
  "what is shown is known up to when the first part went away"() {
    same(dataTime([], NOW), NOW);
    same(dataTime([{ since: LOST }, { since: LOST + 1 }], NOW), LOST);
    same(dataTime([{ since: 0 }], NOW), NOW);
  },
};
