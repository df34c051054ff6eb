import type { Subcommand } from "./command.ts";

/*
 * Every command there is, as data: for the overview, and for the agents' rules. Nothing is imported here for its value, since every start
 * pays for it; the code behind each name is in cmd.ts.
 */

/** What a command does to the world outside. */
export type Effect =
  /** Changes nothing. */
  | "read-only"
  /** Writes a document and an audit event of the user's own, nothing else. */
  | "writes-document"
  /** Asks people for a decision, or takes that back. */
  | "asks-people"
  /** Makes or uses a secret key. */
  | "secret"
  /** Has the executor change this host. */
  | "changes-host"
  /** Runs a service, or sets one up. */
  | "service";

interface Row {
  summary: string;
  effect: Effect;
}

/** By name; two-word names win over one-word names. */
export const COMMANDS = {
  plan: { summary: "find out, read-only, what a change would do", effect: "writes-document" },
  "plan show": { summary: "show a plan as people read it", effect: "read-only" },
  "plan diff": { summary: "compare two plans", effect: "read-only" },
  "plan list": { summary: "list your plans and their decisions", effect: "read-only" },
  review: { summary: "ask the local model for a review", effect: "writes-document" },
  policy: { summary: "decide about a plan", effect: "writes-document" },
  "policy rules": { summary: "list the policy's rules", effect: "read-only" },
  "policy check": { summary: "check a policy file", effect: "read-only" },
  "policy report": { summary: "advisory report over signed plans", effect: "writes-document" },
  sign: { summary: "build and sign an execution plan", effect: "secret" },
  "sign keygen": { summary: "make an Ed25519 key", effect: "secret" },
  "sign trust": { summary: "list the trusted keys, or as root change them", effect: "service" },
  "sign inbox": { summary: "list requests that wait for a person", effect: "read-only" },
  "sign show": { summary: "show a request as its approver sees it", effect: "read-only" },
  "sign approve": { summary: "approve a request or a plan as a second person", effect: "secret" },
  "sign reject": { summary: "reject a request", effect: "secret" },
  "sign withdraw": { summary: "end a request of your own", effect: "asks-people" },
  "sign verify": { summary: "verify an execution plan offline", effect: "read-only" },
  apply: { summary: "submit an execution plan, show its progress", effect: "changes-host" },
  "apply list": { summary: "list executions and how they ended", effect: "read-only" },
  daemon: { summary: "run one of the services", effect: "service" },
  "daemon install": { summary: "set this host up", effect: "service" },
  "daemon uninstall": { summary: "take the services off this host", effect: "service" },
  "daemon status": { summary: "are the services well", effect: "read-only" },
  "audit path": { summary: "where the audit log is", effect: "read-only" },
  "audit show": { summary: "show the newest events", effect: "read-only" },
  "audit installed": { summary: "what managed directories hold, and by whom", effect: "read-only" },
  "audit report": { summary: "a period of the log in figures, or as a page", effect: "read-only" },
  "audit verify": { summary: "check the log's hash chain", effect: "read-only" },
  "audit acknowledge": { summary: "acknowledge a use of a break-glass key", effect: "service" },
  "audit checkpoint": { summary: "print a signed checkpoint", effect: "secret" },
  "audit prove": { summary: "print an inclusion or consistency proof", effect: "read-only" },
  doctor: { summary: "check this host, read-only", effect: "read-only" },
  help: { summary: "help about a command or a topic", effect: "read-only" },
  completion: { summary: "print a completion script for a shell", effect: "read-only" },
} as const satisfies Record<string, Row>;

/** The documents whose JSON Schemas `doctor --schema` prints, and what each is. */
export const SCHEMA_NAMES = {
  "operation-plan": "what an operation would change (aegis plan)",
  "plan-summary": "a plan in at most 10 kB (--json --summary)",
  "plan-page": "a page of what a plan changes (aegis plan show --json --page)",
  "ai-review": "a model's review of a plan (aegis review)",
  "policy-result": "what policy decided about a plan (aegis policy)",
  approval: "a person's approval of a plan (aegis sign approve)",
  "control-proof": "a snapshot in an execution plan",
  "execution-plan": "a signed plan (aegis sign)",
  "execution-result": "how an execution ended (aegis apply)",
  request: "a request for an approval, as lists show it",
  rejection: "a person's signed refusal of a request (aegis sign reject)",
  "audit-event": "a line of the audit log",
  "policy-file": "policy.toml, as the tree that it stands for",
  "trusted-keys": "trusted-keys.toml, as the tree that it stands for",
  "key-file": "a secret key (aegis sign keygen)",
  "encrypted-key-file": "a secret key with a passphrase (aegis sign keygen --encrypt)",
  "public-key-file": "the public part beside a secret key",
} as const;
export type SchemaName = keyof typeof SCHEMA_NAMES;

export type CommandName = keyof typeof COMMANDS;

/** The command that a command line begins with. */
export interface FoundCommand {
  name: CommandName;
  load: () => Promise<Subcommand>;
  /** The words after the name. */
  rest: string[];
}

/** Access to all commands, for those that describe them: cmd.ts, which has it, imports them. */
export interface Commands {
  find(words: readonly string[]): FoundCommand;
  load(name: CommandName): Promise<Subcommand>;
}
