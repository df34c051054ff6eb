#!/usr/bin/env bun
import { basename } from "node:path";
import { rewriteOldSpelling } from "./aliases.ts";
import { nearest, parseArgs } from "./args.ts";
import type { Subcommand } from "./command.ts";
import { AegisError, EXIT, type ExitStatus, messageOf } from "./errors.ts";
import { printNote, printResult, processIo } from "./process-io.ts";
import { paint, safe, terminalOf } from "./terminal.ts";
import { VERSION } from "./version.ts";

interface Entry {
  summary: string;
  load: () => Promise<Subcommand>;
}

/** Every command there is. Two-word names win over one-word names. */
const COMMANDS = new Map<string, Entry>([
  [
    "plan",
    {
      summary: "find out, read-only, what a change would do",
      load: () => import("./plan.ts").then((m) => m.plan),
    },
  ],
  [
    "review",
    {
      summary: "ask the local model for a review",
      load: () => import("./review.ts").then((m) => m.review),
    },
  ],
  ["policy", { summary: "decide about a plan", load: () => import("./policy.ts").then((m) => m.policy) }],
  [
    "policy rules",
    {
      summary: "list the policy's rules",
      load: () => import("./policy.ts").then((m) => m.policyRules),
    },
  ],
  [
    "policy report",
    {
      summary: "advisory report over signed plans",
      load: () => import("./policy.ts").then((m) => m.policyReport),
    },
  ],
  [
    "sign",
    {
      summary: "build and sign an execution plan",
      load: () => import("./sign.ts").then((m) => m.sign),
    },
  ],
  [
    "sign keygen",
    { summary: "make an Ed25519 key", load: () => import("./sign.ts").then((m) => m.signKeygen) },
  ],
  [
    "sign approve",
    {
      summary: "approve a plan as a second person",
      load: () => import("./sign.ts").then((m) => m.signApprove),
    },
  ],
  [
    "sign verify",
    {
      summary: "verify an execution plan offline",
      load: () => import("./sign.ts").then((m) => m.signVerify),
    },
  ],
  [
    "apply",
    {
      summary: "submit an execution plan, show its progress",
      load: () => import("./apply.ts").then((m) => m.apply),
    },
  ],
  ["daemon", { summary: "run one of the services", load: () => import("./daemon.ts").then((m) => m.daemon) }],
  [
    "daemon install",
    { summary: "set this host up", load: () => import("./daemon.ts").then((m) => m.daemonInstall) },
  ],
  [
    "daemon uninstall",
    {
      summary: "take the services off this host",
      load: () => import("./daemon.ts").then((m) => m.daemonUninstall),
    },
  ],
  [
    "daemon status",
    {
      summary: "are the services well",
      load: () => import("./daemon.ts").then((m) => m.daemonStatus),
    },
  ],
  [
    "audit path",
    { summary: "where the audit log is", load: () => import("./audit.ts").then((m) => m.auditPath) },
  ],
  [
    "audit show",
    { summary: "show the newest events", load: () => import("./audit.ts").then((m) => m.auditShow) },
  ],
  [
    "audit verify",
    {
      summary: "check the log's hash chain",
      load: () => import("./audit.ts").then((m) => m.auditVerify),
    },
  ],
  [
    "audit checkpoint",
    {
      summary: "print a signed checkpoint",
      load: () => import("./audit.ts").then((m) => m.auditCheckpoint),
    },
  ],
  [
    "audit prove",
    {
      summary: "print an inclusion or consistency proof",
      load: () => import("./audit.ts").then((m) => m.auditProve),
    },
  ],
  [
    "doctor",
    { summary: "check this host, read-only", load: () => import("./doctor.ts").then((m) => m.doctor) },
  ],
]);

/** The command that the words begin with, and the words that are left. */
function lookUp(words: readonly string[]): { name: string; entry: Entry; rest: string[] } {
  const [first = "", second = ""] = words;
  for (const [name, n] of [
    [`${first} ${second}`, 2],
    [first, 1],
  ] as const) {
    const entry = COMMANDS.get(name);
    if (entry !== undefined && name.split(" ").length === n) return { name, entry, rest: words.slice(n) };
  }
  const group = [...COMMANDS.keys()].filter((name) => name.startsWith(`${first} `));
  if (group.length > 0) {
    const choices = group.map((name) => name.slice(first.length + 1)).join(" | ");
    throw new AegisError(
      "usage",
      second === "" || second.startsWith("-")
        ? `aegis ${first} needs one of ${choices}`
        : `unknown command: aegis ${first} ${safe(second)}`,
      `Type: aegis ${first} ${choices}`,
    );
  }
  const near = nearest(
    first,
    [...COMMANDS.keys()].map((name) => name.split(" ")[0] ?? ""),
  );
  throw new AegisError(
    "usage",
    `unknown command: ${safe(first)}`,
    near === null ? "Type: aegis --help" : `Did you mean: aegis ${near}?`,
  );
}

function overview(): string {
  const width = Math.max(...[...COMMANDS.keys()].map((name) => name.length));
  const lines = [...COMMANDS].map(([name, { summary }]) => `  aegis ${name.padEnd(width)}  ${summary}`);
  return [
    `aegis ${VERSION}: package changes that are planned, judged, signed and logged`,
    "",
    ...lines,
    "",
    "Start with:  aegis plan apt install <package>",
    "Every command takes --help and --json.",
  ].join("\n");
}

async function main(words: readonly string[], json: boolean): Promise<ExitStatus> {
  const io = processIo(json);
  const typed = rewriteOldSpelling(basename(process.argv0), words);
  const [first] = typed;
  if (first === undefined || first === "--json") {
    throw new AegisError("usage", "no command given", "Type: aegis --help");
  }
  if (first === "--help" || first === "-h" || first === "help" || first === "--version") {
    const extra = typed.slice(1).find((word) => word !== "--json");
    if (extra !== undefined) {
      throw new AegisError("usage", `unexpected word ${safe(extra)}`, "Type: aegis <command> --help");
    }
  }
  if (first === "--help" || first === "-h" || first === "help") {
    io.result(
      { commands: Object.fromEntries([...COMMANDS].map(([name, e]) => [name, e.summary])) },
      overview(),
    );
    return EXIT.ok;
  }
  if (first === "--version") {
    io.result({ version: VERSION }, `aegis ${VERSION}`);
    return EXIT.ok;
  }
  const { name, entry, rest } = lookUp(typed);
  const command = await entry.load();
  const { values, help } = parseArgs(name, command.args, rest);
  if (help) {
    const { usageOf } = await import("./usage.ts");
    io.result(
      { usage: await usageOf(name, command, { ...io.terminal, colour: false }) },
      await usageOf(name, command, io.terminal),
    );
    return EXIT.ok;
  }
  return command.run(values, io);
}

function fail(error: unknown, json: boolean): ExitStatus {
  const known =
    error instanceof AegisError
      ? error
      : new AegisError(
          "internal",
          `unexpected fault: ${messageOf(error)}`,
          "Please report this with the command that you typed.",
        );
  if (json) {
    const { code, message, hint, details } = known;
    const document = {
      error: { code, message, hint, ...(Object.keys(details).length > 0 ? { details } : {}) },
    };
    try {
      printResult(`${JSON.stringify(document)}\n`);
    } catch {
      // Standard output is what failed. The exit status still tells.
    }
    return known.exit;
  }
  const terminal = terminalOf(process.stderr, process.env);
  const hint = known.hint === "" ? "" : `  ${safe(known.hint)}\n`;
  printNote(
    `${paint(terminal, "red", "error")} ${paint(terminal, "dim", `[${known.code}]`)} ${safe(known.message)}\n${hint}`,
  );
  return known.exit;
}

const words = process.argv.slice(2);
const end = words.indexOf("--");
const json = (end < 0 ? words : words.slice(0, end)).includes("--json");
let status: ExitStatus;
try {
  status = await main(words, json);
} catch (error) {
  status = fail(error, json);
}
process.exit(status);
