import { afterEach, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { canonicalJson } from "../src/canonical.ts";
import { PROGRAMS, start } from "./kit.ts";
import { execution } from "./signing-kit.ts";
import { REFUSED, startRunner, temporaryDirectory, until } from "./varlink-kit.ts";

const cleanups: (() => unknown)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0).reverse()) cleanup();
});

/** `aegis apply` against an executor that hangs up on the first `hangUps` connections, and refuses the others in turn. */
async function applyTo(hangUps: number, refusals: readonly string[]) {
  const directory = temporaryDirectory();
  cleanups.push(directory.remove);
  const socket = join(directory.path, "executor.sock");
  const plan = join(directory.path, "execution.json");
  writeFileSync(plan, canonicalJson(await execution()));
  const methods: unknown[] = [];
  let connections = 0;
  const server = createServer({ pauseOnConnect: true }, (connection) => {
    connection.on("error", () => {});
    if (connections++ < hangUps) {
      // What it sent stays unread, as with a service that has no room for it.
      setTimeout(() => connection.destroy(), 30);
      return;
    }
    connection.once("data", (bytes: Buffer) => {
      methods.push(JSON.parse(bytes.toString().slice(0, -1)).method);
      const code = refusals[methods.length - 1] ?? "denied";
      const parameters = { code, message: "why", hint: "", details: {} };
      connection.end(`${JSON.stringify({ error: REFUSED, parameters })}\0`);
    });
    connection.resume();
  });
  await new Promise<void>((resolve) => server.listen({ path: socket }, resolve));
  cleanups.push(() => server.close());
  const { status, stderr } = await start([...PROGRAMS.sources, "apply", plan, "--socket", socket], {
    env: { PATH: "/usr/bin:/bin", HOME: directory.path },
    cwd: directory.path,
  });
  return { status, stderr, methods };
}

test("Ctrl-C while the executor is busy: says that nothing was submitted", async () => {
  const directory = temporaryDirectory();
  cleanups.push(directory.remove);
  const socket = join(directory.path, "executor.sock");
  const plan = join(directory.path, "execution.json");
  writeFileSync(plan, canonicalJson(await execution()));
  const busy = { code: "busy", message: "why", hint: "", details: {} };
  const runner = await startRunner(socket, (_, reply) => reply({ error: REFUSED, parameters: busy }));
  cleanups.push(runner.close);
  const child = Bun.spawn([...PROGRAMS.sources, "apply", plan, "--socket", socket], {
    env: { PATH: "/usr/bin:/bin", HOME: directory.path },
    stdout: "ignore",
    stderr: "pipe",
  });
  await until(() => runner.calls.length === 2);
  // Half a second passes between two calls.
  await Bun.sleep(150);
  child.kill("SIGINT");
  expect(await child.exited).toBe(130);
  // By the signal, and not by a status: else a shell's loop would go on with the next plan.
  expect(child.signalCode).toBe("SIGINT");
  const said = await new Response(child.stderr).text();
  expect(said).toContain("[stopped]");
  expect(said).toContain("nothing was submitted");
});

test("Ctrl-C while watching: says that the execution goes on, in one JSON document", async () => {
  const directory = temporaryDirectory();
  cleanups.push(directory.remove);
  const socket = join(directory.path, "executor.sock");
  const runner = await startRunner(socket, () => {});
  cleanups.push(runner.close);
  const id = "1b7b4a3e-7c9e-4f6a-9a44-af0c2d3e4f50";
  const child = Bun.spawn([...PROGRAMS.sources, "apply", "--watch", id, "--json", "--socket", socket], {
    env: { PATH: "/usr/bin:/bin", HOME: directory.path },
    stdout: "pipe",
    stderr: "ignore",
  });
  await until(() => runner.calls.length === 1);
  await Bun.sleep(150);
  child.kill("SIGINT");
  expect(await child.exited).toBe(130);
  expect(JSON.parse(await new Response(child.stdout).text()).error).toMatchObject({
    code: "stopped",
    message: "you stopped watching; the execution goes on",
    hint: `Reattach: aegis apply --watch ${id}`,
  });
});

test("an executor that is lost and doesn't come back: how to follow the execution later", async () => {
  const directory = temporaryDirectory();
  cleanups.push(directory.remove);
  const [socket, plan] = [join(directory.path, "executor.sock"), join(directory.path, "execution.json")];
  const signed = await execution();
  const id = signed.execution_plan_id;
  writeFileSync(plan, canonicalJson(signed));
  const runner = await startRunner(socket, (_, reply) => {
    reply({ parameters: { event: { execution_id: id, kind: "started" } }, continues: true });
    setTimeout(runner.close, 50);
  });
  const { status, stderr } = await start([...PROGRAMS.sources, "apply", plan, "--socket", socket], {
    env: { PATH: "/usr/bin:/bin", HOME: directory.path },
    cwd: directory.path,
  });
  expect([status, stderr]).toEqual([8, expect.stringContaining(`Follow it: aegis apply --watch ${id}`)]);
}, 30_000);

const APPLY = "io.aegis.Executor.Apply";
const WATCH = "io.aegis.Executor.Watch";

test.each([
  { hangUps: 0, refusals: ["expired"], methods: [APPLY], code: "expired" },
  { hangUps: 0, refusals: ["replay"], methods: [APPLY], code: "replay" },
  { hangUps: 0, refusals: ["busy", "expired"], methods: [APPLY, APPLY], code: "expired" },
  { hangUps: 2, refusals: ["expired"], methods: [APPLY], code: "expired" },
  // The first time it was taken after all, and the answer was lost.
  { hangUps: 1, refusals: ["replay", "not_found"], methods: [APPLY, WATCH], code: "not_found" },
])(
  "hung up on $hangUps times, then told $refusals: asks $methods",
  async ({ hangUps, refusals, methods, code }) => {
    const applied = await applyTo(hangUps, refusals);
    expect(applied.methods).toEqual([...methods]);
    expect(applied.stderr).toContain(`[${code}]`);
  },
);

test.each([
  [["plan.json", "--reason", "x"], "--reason is for --request"],
  [["plan.json", "--wait"], "--wait is for --request"],
  [["plan.json", "--snapshot-id", "x"], "--snapshot-id is for --request"],
  [["plan.json", "--request", "x"], "name one execution plan"],
  [["--request", "x", "--wait-minutes", "0"], "--wait-minutes takes a whole number"],
  [["--request", "x", "--wait-minutes", "ten"], "--wait-minutes takes a whole number"],
  [["--request", "x"], "a request needs a reason"],
  [["--request", "latest", "--reason", "x"], "by its path or full id"],
  [["--request", "1", "--reason", "x"], "request 1 has its reason and review already"],
  [["--request", "1", "--review", "x"], "request 1 has its reason and review already"],
])("aegis apply %p: %s", async (words, says) => {
  const directory = temporaryDirectory();
  cleanups.push(directory.remove);
  const { status, stderr } = await start([...PROGRAMS.sources, "apply", ...words], {
    env: { PATH: "/usr/bin:/bin", HOME: directory.path },
    cwd: directory.path,
  });
  expect([status, stderr]).toEqual([2, expect.stringContaining(says)]);
});
