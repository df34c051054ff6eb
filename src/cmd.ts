import { nearest } from "./cmd-args.ts";
import { COMMANDS, type CommandName, type Commands, type FoundCommand } from "./cmd-table.ts";
import type { Subcommand } from "./command.ts";
import { AegisError } from "./errors.ts";
import { safe } from "./terminal.ts";

/** Every command. */
export const ALL: Commands = { find: findCommand, load: (name) => LOAD[name]() };

/** Each command's code, loaded on demand. */
const LOAD: Readonly<Record<CommandName, () => Promise<Subcommand>>> = {
  plan: () => import("./cmd-plan.ts").then((m) => m.plan),
  "plan show": () => import("./cmd-plan-show.ts").then((m) => m.planShow),
  "plan diff": () => import("./cmd-plan-diff.ts").then((m) => m.planDiff),
  "plan list": () => import("./cmd-lists.ts").then((m) => m.planList),
  review: () => import("./cmd-review.ts").then((m) => m.review),
  policy: () => import("./cmd-policy.ts").then((m) => m.policy),
  "policy rules": () => import("./cmd-policy.ts").then((m) => m.policyRules),
  "policy check": () => import("./cmd-policy-check.ts").then((m) => m.policyCheck),
  "policy report": () => import("./cmd-report.ts").then((m) => m.policyReport),
  sign: () => import("./cmd-sign.ts").then((m) => m.sign),
  "sign keygen": () => import("./cmd-keygen.ts").then((m) => m.signKeygen),
  "sign approve": () => import("./cmd-approve.ts").then((m) => m.signApprove),
  "sign trust": () => import("./cmd-trust.ts").then((m) => m.signTrust),
  "sign inbox": () => import("./cmd-inbox.ts").then((m) => m.signInbox),
  "sign show": () => import("./cmd-inbox.ts").then((m) => m.signShow),
  "sign reject": () => import("./cmd-inbox.ts").then((m) => m.signReject),
  "sign withdraw": () => import("./cmd-inbox.ts").then((m) => m.signWithdraw),
  "sign verify": () => import("./cmd-verify.ts").then((m) => m.signVerify),
  apply: () => import("./cmd-apply.ts").then((m) => m.apply),
  "apply list": () => import("./cmd-lists.ts").then((m) => m.applyList),
  daemon: () => import("./cmd-daemon.ts").then((m) => m.daemon),
  "daemon install": () => import("./cmd-host.ts").then((m) => m.daemonInstall(ALL)),
  "daemon uninstall": () => import("./cmd-host.ts").then((m) => m.daemonUninstall),
  "daemon status": () => import("./cmd-host.ts").then((m) => m.daemonStatus),
  "audit path": () => import("./cmd-audit.ts").then((m) => m.auditPath),
  "audit show": () => import("./cmd-audit.ts").then((m) => m.auditShow),
  "audit installed": () => import("./cmd-installed.ts").then((m) => m.auditInstalled),
  "audit report": () => import("./cmd-audit-report.ts").then((m) => m.auditReport),
  "audit verify": () => import("./cmd-audit.ts").then((m) => m.auditVerify),
  "audit acknowledge": () => import("./cmd-acknowledge.ts").then((m) => m.auditAcknowledge),
  "audit checkpoint": () => import("./cmd-audit.ts").then((m) => m.auditCheckpoint),
  "audit prove": () => import("./cmd-audit.ts").then((m) => m.auditProve),
  doctor: () => import("./cmd-doctor.ts").then((m) => m.doctor),
  help: () => import("./cmd-help.ts").then((m) => m.help(ALL)),
  completion: () => import("./cmd-completion.ts").then((m) => m.completion(ALL)),
};

const NAMES = Object.keys(COMMANDS);

function isCommand(name: string): name is CommandName {
  return Object.hasOwn(COMMANDS, name);
}

/** Takes no positional, so a word after it must be a mistyped subcommand. */
const WORDLESS: CommandName = "daemon";
/** Verbs that people try on a daemon but that systemctl handles. */
const SYSTEMD_VERBS = ["start", "stop", "restart", "reload", "enable", "disable"];

/**
 * Finds the command that the words begin with. Two-word names win over one-word names.
 * @throws AegisError `usage` for an unknown or incomplete command
 */
export function findCommand(words: readonly string[]): FoundCommand {
  const [first = "", second = ""] = words;
  for (const [name, n] of [
    [`${first} ${second}`, 2],
    [first, 1],
  ] as const) {
    const isMistyped = name === WORDLESS && second !== "" && !second.startsWith("-");
    if (isCommand(name) && name.split(" ").length === n && !isMistyped)
      return { name, load: LOAD[name], rest: words.slice(n) };
  }
  const group = NAMES.filter((name) => name.startsWith(`${first} `));
  if (group.length > 0) {
    const choices = group.map((name) => name.slice(first.length + 1));
    const isMissing = second === "" || second.startsWith("-");
    throw new AegisError(
      "usage",
      isMissing
        ? `aegis ${first} needs one of ${choices.join(" | ")}`
        : `unknown command: aegis ${first} ${safe(second)}`,
      isMissing ? `Type: aegis ${first} ${choices.join(" | ")}` : meant(first, second, choices),
    );
  }
  const near = nearest(
    first,
    NAMES.map((name) => name.split(" ")[0] ?? ""),
  );
  throw new AegisError(
    "usage",
    `unknown command: ${safe(first)}`,
    near === null ? elsewhere(first) : `Did you mean: aegis ${near}?`,
  );
}

/** The signed command of a managed rollback begins with `aegis rollback`, which is the executor's. */
function elsewhere(word: string): string {
  return `Type: aegis ${word === "rollback" ? "plan rollback <execution>" : "--help"}`;
}

function meant(first: string, second: string, choices: readonly string[]): string {
  if (first === WORDLESS && SYSTEMD_VERBS.includes(second)) return `Type: systemctl ${second} aegisd.service`;
  const near = nearest(second, choices);
  return near === null
    ? `Type: aegis ${first} ${choices.join(" | ")}`
    : `Did you mean: aegis ${first} ${near}?`;
}
