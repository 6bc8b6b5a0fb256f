// The service on PostgreSQL, as its own driver `pg` runs it: its four statements every few
// milliseconds on some keys, until standard input ends. Then it prints what it did as JSON.

import { randomUUID } from "node:crypto";
import pg from "pg";

const KEYS = 50;
const client = new pg.Client({ connectionString: process.argv[2] });
await client.connect();

const stored = new Map(); // the value of each key whose write was acknowledged
const milliseconds = [];
let over = false;
process.stdin.on("end", () => { over = true; }).resume();

const NAMED = "agent_id = $1 AND type = 'context' AND key = $2";

async function remember(agent, key) {
  const value = randomUUID();
  await client.query(
    `INSERT INTO agent_memory (id, agent_id, type, key, value, metadata, importance, expires_at)
     VALUES ($1, $2, 'context', $3, $4, NULL, 5, NULL)
     ON CONFLICT (agent_id, type, key) DO UPDATE SET id = excluded.id, value = excluded.value,
       metadata = excluded.metadata, importance = excluded.importance, access_count = 0,
       last_accessed = now(), created_at = now(), expires_at = excluded.expires_at`,
    [randomUUID(), agent, key, value],
  );
  stored.set(key, value);
}

async function recall(agent, key) {
  const { rows } = await client.query(`SELECT * FROM agent_memory WHERE ${NAMED}`, [agent, key]);
  if (stored.has(key) !== (rows.length === 1)) throw new Error(`${key} is not as it was written`);
  for (const row of rows) {
    await client.query(
      `UPDATE agent_memory SET access_count = access_count + 1, last_accessed = now()
       WHERE agent_id = $1 AND id = $2`,
      [agent, row.id],
    );
  }
}

async function list(agent) {
  await client.query(
    `SELECT * FROM agent_memory WHERE agent_id = $1
     ORDER BY importance DESC, access_count DESC LIMIT 20`,
    [agent],
  );
}

async function forget(agent, key) {
  await client.query(`DELETE FROM agent_memory WHERE ${NAMED}`, [agent, key]);
  stored.delete(key);
}

console.log("begun");
const calls = [remember, remember, remember, recall, recall, recall, list, forget];
while (!over) {
  const begun = performance.now();
  const call = calls[Math.floor(Math.random() * calls.length)];
  await call("service", `key-${Math.floor(Math.random() * KEYS)}`);
  milliseconds.push(performance.now() - begun);
  await new Promise((resume) => setTimeout(resume, 2 + 3 * Math.random()));
}

const { rows } = await client.query(
  "SELECT key, value FROM agent_memory WHERE agent_id = 'service'",
);
await client.end();
console.log(JSON.stringify({
  calls: milliseconds.length,
  slowest: Math.max(...milliseconds),
  stored: Object.fromEntries(stored),
  found: Object.fromEntries(rows.map((row) => [row.key, row.value])),
}));
