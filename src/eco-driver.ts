import type { Afterwards } from "./doc-outlook.ts";
import type { OperationPlan, TransactionEntry } from "./doc-plan.ts";
import type { ChangedRepository, Content, Difference, Executable, Result, Undo } from "./doc-result.ts";
import type { Planning } from "./eco-planning.ts";
import type { ErrorCode } from "./errors.ts";
import type { Account } from "./sys-account.ts";

/*
 * How an ecosystem changes a host. The executor holds the lock, keeps the records, starts and watches the process, and decides
 * what its end means. It asks the run driver for what only the ecosystem knows.
 */

/** What an ecosystem manages at one moment, for comparing two: key → version and state as one text. */
export type HostState = Readonly<Record<string, string>>;

/** The directories of one run, and the account that runs the tool. */
export interface RunPlace {
  /** Root-only directory of the run. It must not exist before `prepare`. */
  directory: string;
  /** Directory of the run's package files; other users may need to read it. */
  archives: string;
  /** The aegis executable, for a tool that calls back. */
  aegis: string;
  /** The account that runs the tool, which must be able to read the run's files; null for root. */
  account: Account | null;
}

/** A run that is ready to start: see `startRun`. */
export interface PreparedRun {
  directory: string;
  /** The program's absolute path. */
  program: string;
  /**
   * The program's arguments; left out, the signed argv without the first word. A program with arguments is no tool but supervises
   * one: it runs as whoever started it, and itself runs the signed argv as the driver's user.
   */
  arguments?: readonly string[];
  environment: Record<string, string>;
  /** The working directory. */
  cwd: string;
  /** Small facts for the start event, such as digests of the configuration. */
  facts: Readonly<Record<string, string>>;
}

/** Called while waiting. */
interface Waiting {
  /** Throws the reason if the runner has been asked to end. */
  stop(): void;
  /** Sends a sign of life to the watchers. */
  alive(): void;
}

/** What `prepare` needs while it downloads. */
interface Preparing {
  /** Aborted, with the reason, when the runner is asked to end. */
  stop: AbortSignal;
  alive(): void;
  /** 0 to 100. */
  progress(percent: number, message: string): void;
}

interface Progress {
  /** 0 to 100. */
  percent: number;
  message: string;
}

/**
 * Whether the installed bytes are the signed ones, by the evidence that the run left. `not_needed`: the run installs none.
 * `absent`: there is no evidence. `reason` completes "the run failed: ".
 */
type Witness =
  | {
      verdict: "vouched" | "not_needed";
      executables?: readonly Executable[];
      content?: Content;
      repository?: ChangedRepository;
    }
  | { verdict: "absent"; reason: string }
  | { verdict: "refused"; code: ErrorCode; reason: string };

/** The host after a run, compared with the plan. */
export interface Comparison {
  /** Parts of the plan that are not in the planned state. */
  not_as_planned: Difference[];
  /** Changes that the plan does not name. */
  changed_besides: Difference[];
  /** What undoes the changes that happened, by the host's own state. */
  inverse: Undo[];
}

/** What the tool reports as unfinished. */
export interface RunAdvice {
  /** What is unfinished and how to finish it, for use after a semicolon; empty if all is well. */
  text: string;
  /** For the log: the tool's own words, bounded. */
  facts: Readonly<Record<string, string>>;
}

/** The part of a plan that a run is compared with; kept with the run's marker for recovery. */
export interface RunSubject {
  argv: readonly string[];
  transaction: readonly TransactionEntry[];
}

/** The files that a plan is made from, as they were when they were checked. */
export interface Held {
  /** Compares them with their signatures. @throws AegisError `refused` */
  check(): Promise<void>;
  /** @throws AegisError `drift` if any was replaced since */
  refuseReplaced(): void;
}

export interface RunDriver {
  /** The account that runs the tool: `root`, or the name of an existing account other than root's. */
  user: string;
  /** The run's process is Aegis, which starts the tool and gives a reason where that fails. */
  isSupervised?: true;
  /** Directories that a run changes. A snapshot without any of them undoes nothing. */
  roots: readonly string[];
  /**
   * Checks the host's files that planning again is about to read; null if there are none that others write.
   * @throws AegisError `refused` if anyone but root could change one during planning
   */
  hold(plan: OperationPlan, planning: Planning): Promise<Held | null>;
  /**
   * Returns when the tool would accept the plan. Nothing has been used up yet.
   * @throws AegisError `unavailable`, `busy`, the reason of `wait.stop`
   */
  ready(plan: OperationPlan, wait: Waiting): Promise<void>;
  /**
   * Creates the two directories of a run, with everything that the run needs, package files included where the tool doesn't fetch them.
   * @throws AegisError `refused`, `unavailable`, `evidence_mismatch` for a file that isn't the signed one; the reason of `stop`
   */
  prepare(
    plan: OperationPlan,
    argv: readonly string[],
    place: RunPlace,
    preparing: Preparing,
  ): Promise<PreparedRun>;
  /** @throws AegisError `io` */
  observe(): HostState;
  /** Parses one line of the tool's status stream; null for a line without progress. */
  progress(line: string): Progress | null;
  /**
   * Claims the right to stop the run, which is given once. False if the tool has begun a step that must not be interrupted, or if
   * the right was claimed before. After true the tool begins no such step.
   */
  mayStop(directory: string): boolean;
  /** If {@link mayStop} was claimed: how far the run had come, such as `before dpkg began`; else null. */
  wasStopped(directory: string): string | null;
  /** How long a command may take before it begins a step that must not be interrupted, in milliseconds. */
  limitMs(argv: readonly string[]): number;
  /** Whether a process of this run is alive besides the recorded one. */
  isAlive(directory: string): boolean;
  /** Finishes or takes away what a run left that was killed. Called before the host is compared. @throws AegisError `io` */
  settle?(directory: string): void;
  /** Waits, after a run that succeeded, until the host's state shows what became of it. */
  settled?(): Promise<void>;
  /**
   * Puts back what the tool changes although no plan says so, once it has ended. Returns what it couldn't, one part of a sentence
   * each.
   */
  restore?(directory: string): Promise<string[]>;
  witness(directory: string, run: RunSubject): Witness;
  /**
   * Called after a run that did what was planned, while its package files (`archives` of its place) are there: keeps them for rollbacks
   * to come. Never throws; returns what could not be kept and why, or null.
   */
  keep?(ended: Result, transaction: readonly TransactionEntry[], archives: string): string | null;
  /** Small facts for the end event of what the run left in place, however it ended; null if it changed nothing. */
  left?(directory: string): Readonly<Record<string, unknown>> | null;
  compare(run: RunSubject, before: HostState, after: HostState): Comparison;
  /**
   * Looks now at what the state does not show, and again when the returned function is called. That returns what changed in
   * between: the kind of change, and the items.
   */
  watchBesides(transaction: readonly TransactionEntry[]): () => { what: string; items: string[] }[];
  /**
   * Notes whose files the transaction replaces. The returned function, called after the run, says which running units still execute the
   * old ones, and whether only a reboot brings the new. It changes nothing about how the run ended.
   */
  watchRunning?(transaction: readonly TransactionEntry[]): () => Promise<Afterwards>;
  advice(): Promise<RunAdvice>;
}
