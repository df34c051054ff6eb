import type { CommandHelp } from "./cmd-help-topics.ts";
import type { CommandName } from "./cmd-table.ts";

/* The long help of `sign` and its subcommands: keys, requests, approvals. */

export const SIGN_HELP: Readonly<Record<Extract<CommandName, `sign${string}`>, CommandHelp>> = {
  sign: {
    about: [
      "Signs what the policy result allows, once every control that it requires is there: approvals by other people (`--approval`), a snapshot (`--snapshot-id`). The signed plan runs once, on this host, within its lifetime.",
    ],
    examples: [
      "ops$ aegis sign --plan hello.plan --policy hello.policy \\",
      "       --approval hello.approval --out ~/hello.execution",
    ],
    exits: ["denied", "approval", "snapshot", "verification"],
    topics: ["keys", "snapshots", "guarantees", "documents"],
  },
  "sign keygen": {
    about: [
      "With `--role` the key goes to its place, where `sign` and `sign approve` find it without flags. With neither `--role` nor `--out` it is printed, and kept nowhere.",
    ],
    examples: [
      "ops$   aegis sign keygen --role execution --name ops@example",
      "alice$ aegis sign keygen --role approval --name alice@example --encrypt",
    ],
    topics: ["keys"],
  },
  "sign trust": {
    about: [
      "Anyone may list. As root `add` takes the `.pub` file that `keygen` writes, or an entry; `rotate` adds the new key and lets the old one end after 7 days, or with `--until`; `revoke` ends a key at once and for good; `expire` sets its end. The answer names the requests, signed plans and approvals that end with the key, as far as this host knows them.",
      `A change holds at once. It is refused with nothing written if the file could not be edited without touching anything else, or if the keys would contradict each other.`,
    ],
    examples: [
      "root# aegis sign trust add /home/alice/.config/aegis/approval-key.pub",
      "root# aegis sign trust rotate b291cf324ffa7e84 new.pub --until 2027-01-31",
      'root# aegis sign trust revoke b291cf324ffa7e84 --reason "laptop lost"',
    ],
    topics: ["keys"],
  },
  "sign inbox": {
    about: [
      "Members of aegis-admin see every request: its number, who asks (as the kernel says), what for and why, policy's decision, approvals so far. With `--wait` it returns at once if a request lacks an approval, and otherwise when one does.",
    ],
    examples: ["alice$ aegis sign inbox"],
    exits: ["unavailable"],
    topics: ["keys", "guarantees"],
  },
  "sign show": {
    about: [
      "With `--again` the plan is made again on the request's host, read-only, and what has changed since it was asked for stands above the hash.",
    ],
    examples: ["alice$ aegis sign show 3"],
    exits: ["unavailable"],
    topics: ["guarantees", "documents"],
  },
  "sign approve": {
    about: [
      "Shows host, rules and packages, through a pager where that is long; then command, risk, and the names of all that changes, and asks for the first 8 characters of the plan's hash.",
      "A request is planned again first, so its age doesn't matter, and what has changed since it was asked for is shown. The approval is of the new plan. It stays with the request when that is planned once more with the same result, until the request expires or `--expires-in-minutes` is over.",
      "With `--via` the request is another host's: it is fetched and the approval handed back by ssh, under your own configuration there. The key, and your ssh agent, stay here.",
    ],
    examples: [
      "alice$ aegis sign approve 3",
      "alice$ aegis sign approve 3 --via alice@web1",
      'alice$ aegis sign approve --plan hello.plan --reason "wanted" \\',
      "         --out ~/hello.approval",
    ],
    exits: ["denied", "verification", "unavailable"],
    topics: ["keys", "guarantees", "documents"],
  },
  "sign reject": {
    about: [
      "A requester who waits is told the reason at once, and ends with status 3. Nothing was run, and approvals that were given to the request are void, also in copies that somebody has kept.",
    ],
    examples: ['alice$ aegis sign reject 3 --reason "use the load balancer"'],
    exits: ["verification", "unavailable"],
    topics: ["keys"],
  },
  "sign withdraw": {
    about: ["Approvals that were given to the request are void from then on."],
    examples: ["agent$ aegis sign withdraw 3"],
    exits: ["verification", "unavailable"],
    topics: ["guarantees"],
  },
  "sign verify": {
    about: [
      "Reads nothing of the host but the keys that it trusts. A plan of an older version is shown as `legacy`.",
    ],
    exits: ["verification"],
    topics: ["keys", "guarantees"],
  },
};
