import type { Block } from "./cmd-help-text.ts";
import type { EXIT } from "./errors.ts";

/*
 * What `aegis help` tells beside the commands. Each text is loaded when it is asked for.
 */

interface TopicRow {
  summary: string;
  load(): Promise<readonly Block[]>;
}

export const TOPICS = {
  agents: {
    summary: "accounts, commands and exit statuses for AI agents",
    load: () => import("./cmd-help-review.ts").then((m) => m.AGENTS),
  },
  documents: {
    summary: "how plans and other documents are named, shown and handed over",
    load: () => import("./cmd-help-plans.ts").then((m) => m.DOCUMENTS),
  },
  environment: {
    summary: "environment variables, and the files that set them",
    load: () => import("./cmd-help-tables.ts").then((m) => m.environmentText()),
  },
  "exit-status": {
    summary: "exit statuses and error codes",
    load: () => import("./cmd-help-tables.ts").then((m) => m.exitText()),
  },
  files: {
    summary: "where documents, configuration, state and logs are",
    load: () => import("./cmd-help-tables.ts").then((m) => m.filesText()),
  },
  guarantees: {
    summary: "what a signature promises, and what it does not",
    load: () => import("./cmd-help-guarantees.ts").then((m) => m.GUARANTEES),
  },
  "break-glass": {
    summary: "when no approver can be reached: a sealed key, two people",
    load: () => import("./cmd-help-keys.ts").then((m) => m.BREAK_GLASS),
  },
  keys: {
    summary: "making keys, trusting them, their file format",
    load: () => import("./cmd-help-keys.ts").then((m) => m.KEYS),
  },
  limits: {
    summary: "what does not work, and where Aegis was tried",
    load: () => import("./cmd-help-guarantees.ts").then((m) => m.limitsText()),
  },
  monitor: {
    summary: "changes made without Aegis, and the services' logs",
    load: () => import("./cmd-help-review.ts").then((m) => m.MONITOR_TEXT),
  },
  "policy-file": {
    summary: "the policy file: every key with its default, and every rule",
    load: () => import("./cmd-help-policy.ts").then((m) => m.policyText()),
  },
  reviewer: {
    summary: "the model's review: settings, service, what it may do",
    load: () => import("./cmd-help-review.ts").then((m) => m.REVIEWER_TEXT),
  },
  repository: {
    summary: "adding, replacing and removing a package repository of apt",
    load: () => import("./cmd-help-plans.ts").then((m) => m.REPOSITORIES),
  },
  rollback: {
    summary: "removing, undoing, repairing, restarting services",
    load: () => import("./cmd-help-plans.ts").then((m) => m.ROLLBACK),
  },
  snapshots: {
    summary: "snapshot ids, and how each provider is looked up",
    load: () => import("./cmd-help-keys.ts").then((m) => m.snapshotsText()),
  },
  units: {
    summary: "the systemd units, their accounts, drop-ins, stopping and waiting",
    load: () => import("./cmd-help-units.ts").then((m) => m.unitsText()),
  },
  wrappers: {
    summary: "what the wrappers plan, let through and refuse",
    load: () => import("./cmd-help-wrappers.ts").then((m) => m.wrappersText()),
  },
} as const satisfies Record<string, TopicRow>;

export type Topic = keyof typeof TOPICS;
export const TOPIC_NAMES = Object.keys(TOPICS) as readonly Topic[];

/** Whether a word is the name of a topic. */
export function isTopic(word: string): word is Topic {
  return Object.hasOwn(TOPICS, word);
}

/** What the long help of a command says beside its usage and flags. */
export interface CommandHelp {
  about: readonly Block[];
  /** Lines of real sessions, their output indented. */
  examples?: readonly string[];
  /** The statuses that mean something here besides ok, usage and internal. */
  exits?: readonly (keyof typeof EXIT)[];
  topics: readonly Topic[];
}
