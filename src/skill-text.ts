import type { CommandName, Effect } from "./cmd-table.ts";
import type { Control, Decision } from "./doc.ts";
import type { OperationPlan } from "./doc-plan.ts";
import type { EcosystemName } from "./eco-names.ts";
import type { EXIT } from "./errors.ts";

/*
 * The texts of the agents' rules, keyed by names in the code: a name without a text does not compile, or fails a test.
 */

/** An example command line per command. A test parses them with the real parser. */
export const TYPED: Readonly<Record<CommandName, string>> = {
  plan: "aegis plan apt install nginx --json",
  "plan show": "aegis plan show <plan_id> --json",
  "plan diff": "aegis plan diff <plan_id> latest --json",
  "plan list": "aegis plan list --json",
  review: "aegis review <plan_id> --json",
  policy: "aegis policy <plan_id> --review <plan_id> --json",
  "policy rules": "aegis policy rules --json",
  "policy check": "aegis policy check <file> --json",
  "policy report":
    "aegis policy report --execution-plan <file> --execution-public-key-hex <hex> --approval-public-key-hex <hex> --skip-model --out <report_file>",
  sign: "aegis sign --plan <plan_file> --policy <policy_file> --approval <approval_file>",
  "sign keygen": "aegis sign keygen --role execution --name <name>",
  "sign trust": "aegis sign trust",
  "sign inbox": "aegis sign inbox --json",
  "sign show": "aegis sign show <number> --json",
  "sign approve": "aegis sign approve <number>",
  "sign reject": "aegis sign reject <number> --reason <why>",
  "sign withdraw": "aegis sign withdraw <number> --json",
  "sign verify": "aegis sign verify <execution_plan_file> --json",
  apply: "aegis apply <execution_plan_file> --json",
  "apply list": "aegis apply list --json",
  daemon: "aegis daemon --executor",
  "daemon install": "aegis daemon install",
  "daemon uninstall": "aegis daemon uninstall",
  "daemon status": "aegis daemon status --json",
  "audit path": "aegis audit path --system",
  "audit show": "aegis audit show --system --json",
  "audit installed": "aegis audit installed --json",
  "audit report": "aegis audit report --system --json",
  "audit verify": "aegis audit verify --system --json",
  "audit acknowledge": "aegis audit acknowledge <execution> --reason <why>",
  "audit checkpoint": "aegis audit checkpoint --system",
  "audit prove": "aegis audit prove --system --sequence <n>",
  doctor: "aegis doctor --json",
  help: "aegis help",
  completion: "aegis completion bash",
};

export const EFFECTS: Readonly<Record<Effect, { title: string; rule: string }>> = {
  "read-only": { title: "Read-only", rule: "They change nothing. Run them whenever you need to." },
  "writes-document": {
    title: "Write a document",
    rule: "They write into your own data directory (or where `--out` says) and into your own audit log, nothing else. Run them for the task that you were given.",
  },
  "asks-people": {
    title: "Ask people",
    rule: "Yours to use for the task that you were given: `aegis apply --request <plan_id> --reason <why> --wait --json` asks for an approval and applies exactly what a person approved; the other ends your own request when it is no longer wanted. Ask once for one change. Give the true reason in one plain sentence: a person reads it.",
  },
  secret: {
    title: "Need a secret key: a human's",
    rule: "Leave them to people. An approval key is never yours to hold, read or use, and nobody approves what they sign. Sign only if this account was given an execution key on purpose, the person told you to sign this plan, the decision is not deny, and every required control is there. A secret never goes onto a command line.",
  },
  "changes-host": {
    title: "Change the host: a human decides",
    rule: "Submit only what a person approved on your request (`--request`), or the one signed plan that a person handed to you and told you to submit. It needs membership of the group aegis-admin, not root.",
  },
  service: {
    title: "Run or set up services: root",
    rule: "For the administrator in a root shell, one where `id -u` prints 0. You never type them, with or without sudo.",
  },
};

/** The fields of a plan to read first. */
export const INSPECT = {
  nothing_to_do: "true: the host is already as asked for; report it and stop",
  transaction: "every package that would change, with versions, source and hash",
  packages_removed:
    "a blocker, unless each was asked for by name, is what a rollback undoes, or the policy allows it",
  packages_downgraded: "a blocker, unless a rollback restores them or the policy allows it",
  repository_evidence: "trust and problems of each source",
  provenance_evidence: "`verified: false` is a gap",
  vulnerability_evidence: "`applies_to: new` is what would come in; no data means unknown, not none",
  scripts: "code that the package manager would run",
  rollback_plan: "the inverse, and what could not be had again",
  risk_signals: "a summary in words; the decision does not rest on them",
  warnings: "read each one",
} as const satisfies Partial<Record<keyof OperationPlan, string>>;

export const CONTROL_ADVICE: Readonly<Record<Control, string>> = {
  "human approval":
    "ask for it (step 7) and wait; the approver reads your reason, and plans again on this host",
  "system snapshot":
    "ask the person to make one now, after the plan, and to tell you its name for `--snapshot-id <provider>:<id>`; never invent or reuse one",
};

export const DECISION_ADVICE: Readonly<Record<Decision, string>> = {
  deny: "Nothing can be signed. Report the rules and reasons, and stop. Never look for another way to the same change.",
  require_human:
    "A second person must approve. Ask with `aegis apply --request <plan_id> --reason <why>`, say why, wait.",
  allow_with_snapshot:
    "A snapshot must be named when the plan is signed. One of btrfs, snapper, lvm or zfs is looked up by the executor and must be younger than the plan. A bare id is only declared: it counts if an approver accepts this very id (with `--accept-snapshot <id>` when approving), or if the policy sets `[snapshot] accept_declared`.",
  allow: "No control is needed, but the plan must still be signed and submitted.",
};

export const EXIT_ADVICE: Readonly<Record<keyof typeof EXIT, { means: string; next: string }>> = {
  ok: { means: "done, or allowed", next: "Go on with the next step of the workflow." },
  internal: {
    means: "a fault of Aegis, or a part that is not built yet",
    next: "Stop. Tell the person the command and the message; don't reach the same end by another way.",
  },
  usage: {
    means: "the command line, a name, a document or the configuration is wrong, or there is nothing to do",
    next: "Nothing has run. Do what the hint says, once; then ask.",
  },
  denied: {
    means: "denied by policy; after `plan` the plan is written, `denial` says why nothing else can follow",
    next: "Stop. Report the rules and their reasons; a person may ask for something else.",
  },
  approval: {
    means: "a human approval is needed",
    next: "Ask for it with `aegis apply --request <plan_id> --reason <why>`, and wait. If that waited: nobody has decided yet, or the request has ended; `error.message` says which.",
  },
  snapshot: {
    means: "a snapshot is needed",
    next: "Ask the person to make one and name it.",
  },
  verification: {
    means: "a check of signature, hash, lifetime, host or log failed",
    next: "Stop, and never submit that document again. After `expired` or `replay` offer to plan anew. Report everything else at once, with its message: it may be a setting, and it may be tampering.",
  },
  packageManager: {
    means: "the package manager failed, or the run was interrupted",
    next: "The host may be changed halfway. Don't retry, and repair nothing by hand; read the audit log and report. `aegis plan apt repair` and `aegis plan rollback <execution>` show what could be done about it; a person decides.",
  },
  unavailable: {
    means: "a tool, service, model or network is not there, or busy",
    next: "Run doctor, report what it names. `busy` may be tried again later; an `apply` that was cut off goes on, so watch it instead. Without a usable review go on without one, unless the policy requires it.",
  },
  drift: {
    means: "the host is not as the plan says, before or after the run",
    next: "Before the run nothing has changed: start again with a new plan. After it something has: tell the person at once.",
  },
  notRun: {
    means:
      "a wrapper of Aegis stands in for this package manager on this host, and did not let the call through",
    next: "Nothing has run. Plan the change instead; don't look for the program behind the wrapper.",
  },
  stopped: {
    means: "someone stopped the waiting (Ctrl-C); what was submitted goes on",
    next: "The message says whether anything was submitted. If so, watch it; don't submit it again.",
  },
};

/** Other commands that change packages outside Aegis, by ecosystem, besides those that Aegis itself runs. */
export const ALSO_FORBIDDEN: Readonly<Record<EcosystemName, readonly string[]>> = {
  apt: [
    "apt install",
    "apt remove",
    "apt-get purge",
    "apt-get autoremove",
    "apt-get dist-upgrade",
    "apt-mark",
    "dpkg -i",
  ],
  npm: ["npm ci", "npm update", "npx", "npm run"],
  pip: ["pip install", "pip3 install", "pipx install"],
  docker: ["docker run", "docker load"],
  podman: ["podman run", "podman load"],
  container: ["nerdctl pull"],
  nuget: ["dotnet add package", "dotnet tool install"],
  vscode: ["codium --install-extension"],
  go: ["go get", "go run"],
  cargo: ["cargo binstall"],
  services: [
    "systemctl stop",
    "systemctl start",
    "systemctl reload",
    "service <name> restart",
    "needrestart",
  ],
};
