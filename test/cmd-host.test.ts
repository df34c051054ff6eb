import { afterEach, expect, test } from "bun:test";
import { join } from "node:path";
import { daemonStatus } from "../src/cmd-host.ts";
import type { Io } from "../src/command.ts";
import { outcomeForClients } from "../src/exec-connection.ts";
import { ID, startRunner, temporaryDirectory } from "./varlink-kit.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const RESULT = {
  schema_version: "1.0",
  execution_plan_id: ID,
  plan_id: ID,
  tool: "apt",
  argv: ["apt-get", "install", "-y", "nginx=1.22.1-9"],
  state: "failed",
  exit_status: 100,
  code: "execution_failed",
  message: "apt-get ended with status 100",
  actor: "ops@example (key ops)",
  turn_at: null,
  started_at: "2026-01-02T03:10:00.000Z",
  ended_at: null,
  submitted_by_uid: 0,
  not_as_planned: [],
  changed_besides: [],
  inverse: null,
} as const;
type Result = Parameters<typeof outcomeForClients>[0];

/** What `aegis daemon status --socket` prints of an executor that answers with these outcomes. */
async function status(...recent: object[]): Promise<string[]> {
  const directory = temporaryDirectory();
  cleanups.push(directory.remove);
  const socket = join(directory.path, "executor.sock");
  const server = await startRunner(socket, (_, reply) => reply({ parameters: { queued: [], recent } }));
  cleanups.push(server.close);
  let text = "";
  const io: Io = {
    env: {},
    json: false,
    terminal: { interactive: true, colour: false, width: 80 },
    readStdin: async () => "",
    result: (_, shown) => {
      text = shown;
    },
    note: () => {},
  };
  await daemonStatus.run({ socket }, io);
  return text.split("\n").slice(3);
}

const outcome = (change: Partial<Result> = {}) =>
  outcomeForClients({
    ...RESULT,
    argv: [...RESULT.argv],
    not_as_planned: [],
    changed_besides: [],
    ...change,
  });

test("an execution is shown with its command and signer", async () => {
  expect(await status(outcome())).toEqual([
    `2026-01-02T03:10:00  ${ID}  failed 100`,
    "  apt-get install -y nginx=1.22.1-9  signed by ops@example (key ops)",
    "  apt-get ended with status 100",
  ]);
});

test("a file of an older version doesn't say who signed; an older executor neither says what was run", async () => {
  expect((await status(outcome({ actor: null })))[1]).toBe("  apt-get install -y nginx=1.22.1-9");
  const { command: _, actor: __, ...older } = outcome({ message: null });
  expect(await status(older)).toEqual([`2026-01-02T03:10:00  ${ID}  failed 100`]);
});

test("a long or hostile command is truncated and escaped", async () => {
  const argv = [
    "apt-get",
    "install",
    ...Array.from({ length: 500 }, (_, n) => `package-${n}`),
    "\u001b[2J\u202e",
  ];
  const lines = await status(outcome({ argv, actor: `\u001b]0;x\u0007${"y".repeat(2000)}` }));
  expect(lines.join("")).not.toMatch(/[\u001b\u202e]/);
  expect(lines[1]).toStartWith("  apt-get install package-0 ");
  expect(lines.join("").length).toBeLessThan(1500);
});
