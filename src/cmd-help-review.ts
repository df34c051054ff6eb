import { join } from "node:path";
import type { Block } from "./cmd-help-text.ts";
import { SYSTEM } from "./paths.ts";

/** What a review is, and how the model is reached. */
export const REVIEWER_TEXT: readonly Block[] = [
  "`aegis review <plan>` shows a plan to a local model through an OpenAI-compatible API and writes a review bound to the plan's hash, the prompt's hash and the model. A review can only make the decision stricter, whatever it says; a reply from which no single valid verdict can be taken is an error (exit status 8), never a pass. The model sees structured evidence, never raw output: 24,000 characters at most, the gravest first, text from outside quoted and escaped, with what was left out said in words. Its whole answer is kept beside the review (`<plan id>.reply.json`).",
  "The model's address, name, key and time limits are the `AEGIS_AI_*` variables of `aegis help environment`. Another machine needs `AEGIS_AI_ALLOW_REMOTE=1`, because plans say what a server runs.",
  `\`aegis daemon --reviewer\` serves the same to local clients at ${SYSTEM.reviewerSocket} (varlink, \`io.aegis.Reviewer\`): one model call for each plan, shared by everyone who asks meanwhile, two at a time. It runs as an ordinary user and signs its reviews with its own key. \`aegis review\` uses the service where its socket is there; \`--direct\` asks the model from here. The group aegis-review may ask it.`,
  "With the reviewer's key in the policy's `[review] public_keys` and `required = true`, nothing gets by without such a review or a person. What it said of some evidence it says again for an hour, so that nobody can ask until the answer suits; and the executor refuses a required review of other evidence than it finds itself.",
];

/** What the monitor finds, and the services' logs. */
export const MONITOR_TEXT: readonly Block[] = [
  "Once an hour aegis-monitor.timer starts `aegis daemon --monitor` as root. What it finds goes into the production log:",
  {
    terms: [
      [
        "`unmanaged_change`",
        "a package change that no execution explains, once, with what apt's history says of it (command line, who asked; unattended-upgrades is named). dpkg's and apt's logs are read, rotated and gzipped ones too, and dpkg's package list is compared with the last one, so that a change without a log line shows as well. A change by hand while an execution runs is not taken for the execution's. The first look is the baseline and says so.",
      ],
      [
        "`unmanaged_change` with `managed_root`",
        `a managed directory (npm, pip, go, cargo, nuget, vscode) that is not what the newest execution left, by the digests in the log: files added, changed or removed, links, modes, owners, and what in ${join(SYSTEM.state, "bin")} is not ours. Once, again when it changes or when an execution keeps it, and with a count of 0 when it is gone. An execution that keeps a changed file doesn't make it right. \`aegis audit installed\` names every path and who signed what. A Python that root starts by hand there, not by a command in ${join(SYSTEM.state, "bin")}, leaves \`__pycache__\`: nobody signed that.`,
      ],
      ["`repository_drift`", "sources, keyrings and trust that are not as the last look saw them"],
      ["`monitor_findings`", "what `aegis doctor` finds, when it changes"],
    ],
  },
  `It also records on which day a source that is trusted first offered each package file, for \`[apt] minimum_age_days\`: ${join(SYSTEM.state, "first-seen")}, by a digest of its name, version and SHA-256, for everybody to read, at most 500,000 files. Package indexes are read only where they changed (1.7 s for Debian's main section), after they were checked against their signed Release files. Where a clock was set back, the day is that of the last look; a record that is lost starts again, and the monitor says so.`,
  "Each hour, and after each run of apt, aegis-processes.service looks which running units execute files that are no longer on disk, and whether a reboot is due: a kernel newer than the running one or in its place, microcode and firmware of a real machine, D-Bus on an old libc6 or of an old version, /run/reboot-required. What it saw is kept in /run/aegis/processes.json until the next boot, for root and aegis-admin; by that a plan of somebody who may not look into others' processes names the units that would run old code, with the time of that look. Whoever isn't in the group is told how many processes could not be looked into. `status` and `doctor` warn of each unit until it was started again, and of a reboot until it has happened; the monitor logs when each begins and ends.",
  "`aegis doctor` and `aegis daemon status` show the unmanaged changes of the last 30 days, and managed directories that deviate until they no longer do.",
  "Appending to the log looks at its end only, so that it costs the same however long the log is: a line that was changed further up doesn't stop the executor. The monitor verifies the whole log each hour (some 200 MB/s) and logs what it finds; from then on `aegis daemon status` fails until the log is well. `aegis audit verify --system` tells at once.",
  `The services log to standard error, which systemd keeps with its priorities (\`journalctl -u 'aegis*' -p warning\`): one event a line, text from outside escaped and bounded, no secrets, floods counted instead of repeated. \`AEGIS_LOG\` and \`AEGIS_LOG_FORMAT\` stand in ${SYSTEM.daemonEnv} and ${SYSTEM.reviewerEnv}.`,
];

/** For AI agents, and for whoever gives them an account. */
export const AGENTS: readonly Block[] = [
  "`aegis doctor --skill` prints the rules for a coding agent as a skill (Markdown with YAML front matter). It is made from the tables that the program works with, under the policy in force, so print it again after an update of either:",
  {
    lines: ["agent$ aegis doctor --skill >aegis-production-ops/SKILL.md   # among its skills"],
  },
  "`aegis daemon --mcp` offers the same as tools of the Model Context Protocol on standard input and output: plan, policy, review, request, request_status, withdraw, executions, audit, doctor, policy_rules, and as resources the rules (aegis://skill), the policy (aegis://policy) and each plan (aegis://plan/<id>). Each call is a command of this program, run as the agent's user; no tool approves, rejects or changes policy, and an answer about an upgrade of hundreds of packages has at most 16 kB. The settings that start it, for each agent's own file:",
  {
    lines: [
      "agent$ aegis doctor --mcp-config claude-code >.mcp.json     # or codex, gemini-cli, opencode",
      "agent$ aegis doctor --skill --mcp-config codex              # settings and rules, and where each belongs",
    ],
  },
  "An agent plans, asks for a review, has the policy decide, and asks a person with `aegis apply --request <plan> --reason <why> --wait`. Give it an account of its own:",
  {
    items: [
      "never root, no sudo, no approval key, not the account of anybody who approves;",
      "an execution key if it may sign what the policy allows without a person (by default `apt update`) and what a person has approved: then one command of the agent and one of a person are all. Without a key somebody else signs (`aegis sign --request <number>`);",
      "membership of aegis-admin if it may make requests, submit signed plans and read the production log; without it, files change hands (`aegis help documents`).",
    ],
  },
  "The exit status tells what comes next: 0 go on; 3 stop and report; 4 ask a person, or go on waiting; 5 ask for a snapshot; 6 stop, something does not verify; 7 and 9 tell a person at once; 130 watch the execution, don't submit it again; 8 run `aegis doctor`; 1 and 2 read the message. From `aegis policy`, 3, 4 and 5 are answers, not failures.",
];
