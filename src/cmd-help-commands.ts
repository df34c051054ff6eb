import { SIGN_HELP } from "./cmd-help-sign.ts";
import type { HelpSection } from "./cmd-help-text.ts";
import type { CommandHelp, Topic } from "./cmd-help-topics.ts";
import type { CommandName } from "./cmd-table.ts";
import { EXIT } from "./errors.ts";
import { SYSTEM } from "./paths.ts";
import { EXIT_ADVICE } from "./skill-text.ts";

/*
 * What the long help of each command says beside its usage and flags, which come from the command itself.
 */

const PLANNED = "What is planned, and nothing else, can later be approved, signed and applied.";
const DOCUMENT_HELP: readonly Topic[] = ["documents", "files"];

const HELP: Readonly<Record<CommandName, CommandHelp>> = {
  plan: {
    about: [
      `Runs only commands that read (apt-get -s, apt-cache, npm view and the like; no shell), in an empty directory and with a minimal environment. ${PLANNED} \`aegis plan rollback <execution>\` is short for \`aegis plan <ecosystem> rollback <execution>\`. Where nothing has to be done the plan says so, and there is nothing to sign.`,
    ],
    examples: [
      "$ aegis plan apt install hello",
      "Plan: apt install hello",
      "",
      "Host       vm (debian 12, amd64)",
      "Command    apt-get install -y hello=2.10-3",
      "",
      "from http://deb.debian.org/debian bookworm (distribution), calls itself",
      '│ "Debian oldstable"',
      "   package  from  to      size",
      "+  hello    –     2.10-3  53.1 kB",
    ],
    exits: ["denied", "unavailable"],
    topics: ["documents", "rollback", "limits", "environment"],
  },
  "plan show": {
    about: [
      "Shows host, command, packages, evidence, warnings and the plan's hash. apt's packages are grouped by what matters: removed, downgraded, doubtful, kernel and boot, security updates, sensitive ones, new ones, the rest. On a terminal, three or more of one source package with the same versions share a row; in a pipe each has a line of its own. `src` says by a letter where a package comes from.",
      "`--changelog` asks the archive, by GET over https, for the changelogs of the new versions and shows the entries that are newer than what is installed, with the CVEs and bugs that they name, and what couldn't be had. Where they are is as apt finds it: apt.conf's `Acquire::Changelogs::URI`, the verified Release file's `Changelogs`, Debian's and Ubuntu's own places. A changelog isn't signed: it says what its archive's server says.",
      "`Policy` says what was decided, or, as long as nothing is, what the policy in force would say without a review; that is no decision.",
    ],
    examples: ["$ aegis plan show latest", "$ aegis plan show latest --changelog openssl"],
    topics: DOCUMENT_HELP,
  },
  "plan diff": {
    about: [
      "What two plans have in common is left out: only packages, vulnerabilities, services, reasons, warnings and evidence that one of them has. The decisions are what the policy in force says about each now, without a review. `same` in the JSON document: nothing but ids, times and raw output differs.",
    ],
    examples: ["$ aegis plan diff 07aab947 latest"],
    topics: DOCUMENT_HELP,
  },
  "plan list": {
    about: [
      "Of the plans in your store, with the decision of the policy result beside each. `stale`: policy must decide again.",
    ],
    examples: ["$ aegis plan list --last 5"],
    topics: DOCUMENT_HELP,
  },
  review: {
    about: [
      "The review is bound to this plan and can only make the decision stricter. Give it to `aegis policy --review`.",
    ],
    examples: ["$ aegis review latest", "$ aegis policy latest --review latest"],
    exits: ["unavailable"],
    topics: ["reviewer", "environment"],
  },
  policy: {
    about: [
      "The decision is a pure function of plan, policy and review: the same input gives the same result. The exit status is the decision.",
    ],
    examples: [
      "$ aegis policy latest",
      "● require_human  a person must approve: apt install hello",
      "$ echo $?",
      "4",
    ],
    exits: ["denied", "approval", "snapshot"],
    topics: ["policy-file", "documents", "exit-status"],
  },
  "policy rules": {
    about: ["With `--json` also the configuration in force and where it was read."],
    topics: ["policy-file"],
  },
  "policy check": {
    about: [
      "Reads nothing but the file. A mistake is shown as line:column, all of them at once; a file with any decides nothing. The executor's own file must also be writable by root alone.",
    ],
    examples: [
      "$ aegis policy check policy.toml",
      "✘ policy.toml: 1 mistake",
      "  2:1: apt.instal: unknown key; known keys: allow_removals, …",
    ],
    topics: ["policy-file"],
  },
  "policy report": {
    about: [
      "Changes, approves and signs nothing. A plan whose signature doesn't verify with the keys given is an error.",
    ],
    exits: ["verification"],
    topics: ["policy-file", "reviewer"],
  },
  ...SIGN_HELP,
  apply: {
    about: [
      "With `--request` it asks a person: it submits plan, decision and review with the reason, and prints the request's number (status 4). With `--wait` it waits for the decision, signs the approved plan with this account's execution key, and applies it; a rejection is status 3, with its reason. Stopped or killed, it goes on with `--request <number> --wait`. Policy is asked first: what it denies is never submitted.",
      "The executor verifies the plan, plans again as root, compares, and runs exactly what was signed. Ctrl-C stops the waiting only: what was submitted goes on, and `--watch <execution>` shows it again. Needs membership of aegis-admin, not root.",
    ],
    examples: [
      'agent$ aegis apply --request nginx.plan --reason "web server" --wait',
      "alice$ aegis apply execution.json",
      "✓ done  execution 0b6ffbe2-db1a-40f3-8640-af35314f02dd",
      "alice$ aegis apply execution.json",
      "error [replay] the executor says: this execution plan was used at",
      "  2026-11-22T01:52:37.377Z",
      "  its advice: A signed plan runs once. Plan, decide and sign again.",
    ],
    exits: ["denied", "approval", "verification", "packageManager", "unavailable", "drift", "stopped"],
    topics: ["guarantees", "exit-status", "units", "rollback"],
  },
  "apply list": {
    about: [
      "The executor names its latest executions, whoever signed them; your own signed plans are listed with theirs, whether they ran or not. `aegis apply --watch <execution>` follows one, `aegis plan rollback <execution>` undoes one.",
    ],
    examples: ["$ aegis apply list --last 5"],
    topics: ["rollback", "exit-status"],
  },
  daemon: {
    about: ["systemd starts these on a host that `aegis daemon install` has set up."],
    exits: ["unavailable"],
    topics: ["units", "environment", "files"],
  },
  "daemon install": {
    about: [
      "Needs root and systemd 249 or later. Writes accounts, directories, configuration to be filled in, units, the manual page and completion for bash, zsh and fish; run again it only does what is missing. Without a trusted key the executor is not started. No approval key is ever made.",
    ],
    examples: [
      "$ sudo ./aegis daemon install --dry-run   # every step, nothing changed",
      "$ sudo ./aegis daemon install",
    ],
    exits: ["verification", "unavailable"],
    topics: ["units", "keys", "files", "wrappers"],
  },
  "daemon uninstall": {
    about: ["Refused while a run is under way or waits."],
    examples: ["$ sudo aegis daemon uninstall --dry-run"],
    exits: ["unavailable"],
    topics: ["units", "files"],
  },
  "daemon status": {
    about: [
      "Also names units of an older installation (/usr/bin/aegis, /usr/libexec/aegis), permissions and keys that are wrong, a policy or key file that the executor can't read, what the monitor found, and for each what to type.",
    ],
    exits: ["unavailable"],
    topics: ["units", "monitor"],
  },
  "audit path": { about: [], topics: ["files"] },
  "audit show": {
    about: [
      "One line for each event, so that grep finds them: who asked, who approved, what, with the packages named.",
    ],
    examples: ["root# aegis audit show --system --last 50"],
    exits: ["verification"],
    topics: ["monitor", "files"],
  },
  "audit installed": {
    about: [
      `Lists the packages of the managed directories below ${SYSTEM.state} (npm, pip, go, cargo, nuget, vscode, podman): which execution brought each, who signed and approved it, and known vulnerabilities, by the host's own data (\`aegis daemon install --feeds\`), AEGIS_OSV_DIR or AEGIS_OSV_URL; without any they are unknown.`,
      `Every file is compared with what executions left, by the digests in the production log. What isn't as signed is named, with exit status ${EXIT.verification}: install that package again by a signed plan, or have root remove what nobody signed.`,
    ],
    examples: ["$ aegis audit installed npm"],
    exits: ["verification", "unavailable"],
    topics: ["monitor", "exit-status"],
  },
  "audit report": {
    about: [
      "Of the newest 200,000 events of the period. `--html` writes one page that loads nothing and runs nothing: executions over time, refusals, who approved, packages changed, what went around Aegis, and whether the chain is intact. Exit status 6 if it isn't: the page says so too, unless a line that it needs was itself changed.",
    ],
    examples: ["$ aegis audit report --system --days 30 --html report.html"],
    exits: ["verification"],
    topics: ["documents", "files"],
  },
  "audit verify": {
    about: [
      "Prints the log's head, `<number>:<hash>`. Kept elsewhere and given next time as `--expect-head`, it shows a log that was cut off or rewritten by root.",
    ],
    exits: ["verification"],
    topics: ["guarantees", "limits"],
  },
  "audit acknowledge": {
    about: [
      "Changes nothing but the log: the use is no longer shown by `doctor` and `daemon status`, and the log has who looked at it.",
    ],
    examples: ['root# aegis audit acknowledge 0b6ffbe2 --reason "outage, as planned"'],
    topics: ["break-glass"],
  },
  "audit checkpoint": { about: [], topics: ["limits"] },
  "audit prove": { about: [], topics: ["limits"] },
  doctor: {
    about: [
      "Warnings leave the status at 0. `--skill` prints the rules for a coding agent, under the policy in force.",
      "`--schema <document>` prints the JSON Schema (draft 2020-12) of a document, `--schema all` every one by name. They are made from the schemas that Aegis itself checks with; what JSON Schema can't say is named in `$comment`.",
    ],
    examples: ["agent$ aegis doctor --skill > SKILL.md"],
    exits: ["unavailable"],
    topics: ["agents", "monitor", "exit-status"],
  },
  help: {
    about: [
      "Without a word it lists commands and topics. The whole reference is also in aegis(1), which `aegis daemon install` installs.",
    ],
    examples: ["$ aegis help snapshots", "$ aegis help sign keygen", "$ aegis help --man | man -l -"],
    topics: [],
  },
  completion: {
    about: [
      "`aegis daemon install` installs these scripts for everybody. For one user, without it:",
      {
        terms: [
          ["bash", "`aegis completion bash >~/.local/share/bash-completion/completions/aegis`"],
          ["zsh", "`aegis completion zsh >~/.zfunc/_aegis`, with ~/.zfunc in `$fpath`"],
          ["fish", "`aegis completion fish >~/.config/fish/completions/aegis.fish`"],
        ],
      },
    ],
    topics: ["files"],
  },
};

/** The sections of a command's long help. */
export function commandSections(name: CommandName): HelpSection[] {
  const { about, examples = [], exits = [], topics } = HELP[name];
  const statuses = exits.map((exit): [string, string] => [`\`${EXIT[exit]}\``, EXIT_ADVICE[exit].means]);
  return [
    ...(about.length === 0 ? [] : [{ title: "Description", blocks: about }]),
    ...(examples.length === 0 ? [] : [{ title: "Example", blocks: [{ lines: examples }] }]),
    ...(statuses.length === 0 ? [] : [{ title: "Exit status", blocks: [{ terms: statuses }] }]),
    ...(topics.length === 0
      ? []
      : [{ title: "See also", blocks: [topics.map((topic) => `\`aegis help ${topic}\``).join(", ")] }]),
  ];
}
