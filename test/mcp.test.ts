import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { spawn } from "node:child_process";
import { createServer } from "node:net";
import { join } from "node:path";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { InMemoryTransport } from "@modelcontextprotocol/server";
import fc from "fast-check";
import { ALL } from "../src/cmd.ts";
import { parseArgs } from "../src/cmd-args.ts";
import { COMMANDS } from "../src/cmd-table.ts";
import { makeServer } from "../src/mcp.ts";
import { type CommandAnswer, commandRunner, type RunCommand } from "../src/mcp-self.ts";
import type { AgentTool } from "../src/mcp-tool.ts";
import { AGENT_TOOLS } from "../src/mcp-tools.ts";
import { planSummary } from "../src/plan-summary.ts";
import { buildWhereNeeded, PROGRAMS } from "./kit.ts";
import { entry, upgrade } from "./policy-plans.ts";
import { temporaryDirectory } from "./varlink-kit.ts";

/*
 * The tools of an agent: what they can't do, what they answer, and the protocol by the reference SDK's own client.
 */

const { path: home, remove } = temporaryDirectory();
const ENV = { HOME: home, XDG_DATA_HOME: join(home, "data"), PATH: "/usr/bin:/bin" };
beforeAll(buildWhereNeeded);
afterAll(remove);

const ID = "847c86b8-55c5-477e-b3de-03a7e7e3de40";
const EVERY = Object.entries(AGENT_TOOLS) as [string, AgentTool][];

describe("what the tools can't do", () => {
  test("none runs a command that approves, rejects, signs, changes keys, or sets a service up", () => {
    const commands = EVERY.map(([, { command }]) => command);
    const effects = new Set(commands.filter((name) => name !== "apply").map((name) => COMMANDS[name].effect));
    expect([...effects].sort()).toEqual(["asks-people", "read-only", "writes-document"]);
    // `apply` is there for requests alone: see below.
    for (const name of ["sign", "sign approve", "sign reject", "sign keygen", "daemon"])
      expect(commands.map(String)).not.toContain(name);
  });

  test("whatever an agent types stays an argument: no flag, no other command", async () => {
    const word = fc.oneof(
      fc.string({ minLength: 1, maxLength: 40 }),
      fc.constantFrom("--out=/etc/x", "-h", "--", "--key=/k"),
    );
    const command = await ALL.load("plan");
    fc.assert(
      fc.property(word, fc.array(word, { maxLength: 4 }), (operation, targets) => {
        const { words } = AGENT_TOOLS.plan.call({
          ecosystem: "apt",
          operation: operation.slice(0, 32),
          targets,
        });
        const { values } = parseArgs("plan", command.args, words);
        return (
          values["ecosystem"] === "apt" &&
          values["operation"] === operation.slice(0, 32) &&
          JSON.stringify(values["targets"]) === JSON.stringify(targets) &&
          values["out"] === undefined
        );
      }),
    );
    expect(AGENT_TOOLS.request.call({ plan_id: ID, reason: "--key=/etc/shadow" }).words).toEqual([
      ...["--request", ID, "--reason=--key=/etc/shadow"],
    ]);
  });

  const REFUSED: [tool: keyof typeof AGENT_TOOLS, given: object][] = [
    ["plan", { ecosystem: "sudo", operation: "install" }],
    ["plan", { ecosystem: "apt", operation: "" }],
    ["plan", { ecosystem: "apt", operation: "install", out: "/etc/passwd" }],
    ["plan", { ecosystem: "apt", operation: "install", targets: "nginx" }],
    ["plan", { ecosystem: "apt", operation: "install", targets: Array(257).fill("x") }],
    ["policy", { plan_id: "latest" }],
    ["policy", { plan_id: "../../etc/passwd" }],
    ["request", { plan_id: ID }],
    ["request", { plan_id: ID, reason: "  " }],
    ["request", { plan_id: ID, reason: "x".repeat(501) }],
    ["request", { plan_id: ID, reason: "x", key: "/home/alice/approval-key" }],
    ["request_status", { number: 0 }],
    ["request_status", { number: "1" }],
    ["withdraw", { number: 1.5 }],
    ["audit", { last: 1000 }],
    ["audit", { path: "/etc" }],
    ["doctor", { skill: true }],
  ];
  for (const [name, given] of REFUSED)
    test(`${name} refuses ${JSON.stringify(given).slice(0, 80)}`, () => {
      expect(() => AGENT_TOOLS[name].call(given as Record<string, unknown>)).toThrow();
    });
});

/** A client of the SDK, connected in memory to a server whose commands answer `answer`. */
async function connected(answer: Partial<CommandAnswer>, stopping = new AbortController().signal) {
  const ran: string[][] = [];
  const run: RunCommand = async (words) => {
    ran.push([...words]);
    return { outcome: "ok", exit_status: 0, error: null, document: null, ...answer };
  };
  const server = makeServer(run, stopping);
  const [theirs, ours] = InMemoryTransport.createLinkedPair();
  const client = new Client({ name: "test", version: "1" });
  await Promise.all([server.connect(ours), client.connect(theirs)]);
  return { client, ran };
}

const plan = (n: number) => {
  const document = upgrade({
    transaction: Array.from({ length: n }, (_, i) => entry(`library-number-${i}`)),
  });
  const hash = "0".repeat(64);
  return { summary: planSummary(document, hash, null), path: "/home/you/.local/share/aegis/plans/x.json" };
};

describe("what the tools answer", () => {
  const OUTCOMES: [outcome: CommandAnswer["outcome"], status: number, isError: boolean][] = [
    ["internal_fault", 1, true],
    ["usage_error", 2, true],
    ["unavailable", 8, true],
    ["denied", 3, false],
    ["approval_needed", 4, false],
    ["snapshot_needed", 5, false],
    ["verification_failed", 6, false],
    ["package_manager_failed", 7, false],
    ["drifted", 9, false],
  ];
  for (const [outcome, exit_status, isError] of OUTCOMES)
    test(`${outcome}: ${isError ? "an error of the tool" : "an answer about the change"}`, async () => {
      const error = { code: "x", message: "why", hint: "what next" };
      const { client } = await connected({ outcome, exit_status, error });
      const answer = await client.callTool({ name: "policy", arguments: { plan_id: ID } });
      expect(answer.isError ?? false).toBe(isError);
      expect(answer.structuredContent).toEqual({ outcome, exit_status, error, result: null });
    });

  test("a denied plan comes with its summary", async () => {
    const { client, ran } = await connected({ outcome: "denied", exit_status: 3, document: plan(1) });
    const answer = await client.callTool({
      name: "plan",
      arguments: { ecosystem: "apt", operation: "upgrade" },
    });
    expect(answer.isError ?? false).toBe(false);
    expect(answer.structuredContent).toMatchObject({
      outcome: "denied",
      result: { resource: expect.stringMatching(/^aegis:\/\/plan\//) },
    });
    expect(ran).toEqual([["plan", "--summary", "--", "apt", "upgrade"]]);
  });

  test("an upgrade of 124 packages, or of 5,000, is answered in at most 16 kB", async () => {
    for (const n of [124, 5000]) {
      const { client } = await connected({ document: plan(n) });
      const answer = await client.callTool({
        name: "plan",
        arguments: { ecosystem: "apt", operation: "upgrade" },
      });
      expect(JSON.stringify(answer).length).toBeLessThan(16_000);
      expect(answer.structuredContent).toMatchObject({ result: { summary: { counts: { upgrade: n } } } });
    }
  });

  test("a document of another form than expected is an error, not half an answer", async () => {
    const { client } = await connected({ document: { summary: {}, path: 1 } });
    const answer = await client.callTool({
      name: "plan",
      arguments: { ecosystem: "apt", operation: "update" },
    });
    expect(answer.isError).toBe(true);
  });

  test("a request waits only where it is told to, and then in the words of the command line", async () => {
    const { client, ran } = await connected({ outcome: "approval_needed", exit_status: 4 });
    const given = { plan_id: ID, reason: "web server" };
    await client.callTool({ name: "request", arguments: given });
    await client.callTool({ name: "request", arguments: { ...given, wait_minutes: 30 } });
    const first = ["apply", "--request", ID, "--reason=web server"];
    expect(ran).toEqual([first, [...first, "--wait", "--wait-minutes", "30"]]);
  });

  test("every command line that the tools make is one that the program takes", async () => {
    const GIVEN = {
      plan: { ecosystem: "apt", operation: "install", targets: ["nginx"] },
      policy: { plan_id: ID, review: true },
      review: { plan_id: ID },
      request: { plan_id: ID, reason: "web server", wait_minutes: 5 },
      request_status: { number: 3 },
      withdraw: { number: 3 },
      executions: { last: 3 },
      audit: { system: true, last: 3 },
      doctor: {},
      policy_rules: {},
    } as const satisfies Record<keyof typeof AGENT_TOOLS, object>;
    for (const [name, tool] of EVERY) {
      const command = await ALL.load(tool.command);
      const { words } = tool.call(GIVEN[name as keyof typeof AGENT_TOOLS]);
      expect(() => parseArgs(tool.command, command.args, words)).not.toThrow();
    }
  });
});

/** Starts the server as an agent does. */
function serverOf(program: readonly string[]) {
  const [command = "", ...args] = program;
  return { command, args: [...args, "daemon", "--mcp"], env: ENV };
}

/** The server's answers to lines, and how it ended once the input did, or by itself. */
function talk(program: readonly string[], lines: readonly string[], isEnded = true) {
  const { command, args, env } = serverOf(program);
  return new Promise<{ answers: unknown[]; stderr: string; status: number | null }>((resolve) => {
    const child = spawn(command, args, { env });
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (chunk: Buffer) => {
      stdout += chunk.toString();
      const answered = stdout.split("\n").length > lines.filter((line) => line.includes('"id"')).length;
      if (answered && isEnded) child.stdin.end();
    });
    child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
    child.stdin.on("error", () => {});
    child.on("close", (status) => {
      const answers = stdout.split("\n").filter((line) => line !== "");
      resolve({ answers: answers.map((line): unknown => JSON.parse(line)), stderr, status });
    });
    for (const line of lines) child.stdin.write(`${line}\n`);
  });
}

const initialize = (protocolVersion: string) =>
  JSON.stringify({
    ...{ jsonrpc: "2.0", id: 1, method: "initialize" },
    params: { protocolVersion, capabilities: {}, clientInfo: { name: "test", version: "1" } },
  });
const ping = (id: number, pad = "") =>
  JSON.stringify({ jsonrpc: "2.0", id, method: "ping", params: { pad } });

for (const [built, [program = "", ...words]] of Object.entries(PROGRAMS))
  test(`as many waits for people as a user may have requests keep nothing else waiting (${built})`, async () => {
    const silent = createServer().listen(join(home, `${built}.sock`));
    const stopping = new AbortController();
    const run = commandRunner(ENV, { program, words });
    const limits = { timeoutMs: 60_000, signal: stopping.signal };
    const socket = ["--socket", join(home, `${built}.sock`)];
    const waits = [1, 2, 3, 4, 5].map((n) =>
      run(["apply", "--request", `${n}`, "--wait", ...socket], limits),
    );
    try {
      expect(await run(["policy", "rules"], limits)).toMatchObject({ outcome: "ok" });
    } finally {
      stopping.abort();
      expect((await Promise.allSettled(waits)).map(({ status }) => status)).toEqual(
        Array(5).fill("rejected"),
      );
      silent.close();
    }
  });

for (const [built, program] of Object.entries(PROGRAMS))
  describe(`the protocol (${built})`, () => {
    for (const [version, answered] of [
      ["2024-11-05", "2024-11-05"],
      ["2025-06-18", "2025-06-18"],
      ["2025-11-25", "2025-11-25"],
      ["1999-01-01", "2025-11-25"],
    ])
      test(`a client of ${version} is answered with ${answered}`, async () => {
        const { answers, status } = await talk(program, [initialize(version ?? "")]);
        expect(answers).toMatchObject([{ id: 1, result: { protocolVersion: answered } }]);
        expect(status).toBe(0);
      });

    test("the SDK's client of 2026-07-28 lists, calls and reads", async () => {
      const client = new Client({ name: "test", version: "1" }, { versionNegotiation: { mode: "auto" } });
      await client.connect(new StdioClientTransport(serverOf(program)));
      try {
        expect(client.getNegotiatedProtocolVersion()).toBe("2026-07-28");
        const { tools } = await client.listTools();
        expect(tools.map(({ name }) => name).sort()).toEqual(Object.keys(AGENT_TOOLS).sort());
        const rules = await client.callTool({ name: "policy_rules", arguments: {} });
        expect(rules.structuredContent).toMatchObject({ outcome: "ok", result: { source: "built-in" } });
        const missing = await client.callTool({ name: "policy", arguments: { plan_id: ID } });
        expect(missing).toMatchObject({
          isError: true,
          structuredContent: { outcome: "usage_error", error: { code: "not_found" } },
        });
        const skill = await client.readResource({ uri: "aegis://skill" });
        expect(JSON.stringify(skill)).toContain("Aegis production operations");
        await expect(client.readResource({ uri: "aegis://plan/..%2f..%2fetc" })).rejects.toThrow();
      } finally {
        await client.close();
      }
    });

    test("lines that are not messages are told of and skipped", async () => {
      const lines = [
        "not json",
        "[]",
        "{}",
        "null",
        '{"jsonrpc":"1.0","method":"x"}',
        initialize("2025-06-18"),
        ping(2),
      ];
      const { answers, stderr, status } = await talk(program, lines);
      expect(answers).toMatchObject([{ id: 1 }, { id: 2, result: {} }]);
      expect(stderr).toStartWith("aegis: ");
      expect(status).toBe(0);
    });

    test("a message of more than 1 MiB ends the server", async () => {
      const { stderr, status } = await talk(
        program,
        [initialize("2025-06-18"), ping(2, "x".repeat(1_100_000))],
        false,
      );
      expect(stderr).toContain("1048576 bytes");
      expect(status).toBe(0);
    });
  });
