import { expect, test } from "bun:test";
import type { Result } from "../src/results.ts";
import { outcomeOf } from "../src/runner-connection.ts";
import { readStatus } from "../src/varlink-interface.ts";

const ID = "0b7b4a3e-7c9e-4f6a-9a44-1f0c2d3e4f50";

/** A result whose message quotes what a package says of itself, at this length. */
const quoting = (length: number): Result => ({
  schema_version: "1.0",
  execution_plan_id: ID,
  plan_id: "11111111-2222-4333-8444-555555555555",
  tool: "apt",
  argv: ["apt-get", "install", "-y", `hello=${"1".repeat(length)}`],
  actor: "ops".repeat(length),
  state: "failed",
  exit_status: 100,
  code: "hook_refused",
  message: "x".repeat(length),
  turn_at: null,
  started_at: "2026-01-02T03:10:00.000Z",
  ended_at: "2026-01-02T03:10:05.000Z",
  submitted_by_uid: 0,
  not_as_planned: [],
  changed_besides: [],
  inverse: [],
});

test("one outcome with a long message doesn't keep clients from the others", () => {
  const outcome = outcomeOf(quoting(300_000));
  const recent = [outcome, outcomeOf(quoting(3))];
  const status = readStatus({
    parameters: { running: null, queued: [], recent },
    continues: false,
    error: null,
  });
  expect(status.recent.map(({ message }) => message?.length)).toEqual([8192, 3]);
});
