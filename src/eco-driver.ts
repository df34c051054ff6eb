import type { OperationPlan, TransactionEntry } from "./doc-plan.ts";
import type { Difference, Undo } from "./doc-result.ts";
import type { Planning } from "./eco-planning.ts";
import type { ErrorCode } from "./errors.ts";
import type { Account } from "./sys-account.ts";

/*
 * How an ecosystem changes a host. The executor holds the lock, keeps the records, starts and watches the process and
 * decides what its end means; what only the ecosystem can know it asks the run driver.
 */

/** What an ecosystem manages, at one moment: key → version and state in one text. For comparing two moments. */
export type HostState = Readonly<Record<string, string>>;

/** Where one run keeps its files. */
export interface RunPlace {
  /** Root-only directory of the run. It must not exist before `prepare`. */
  directory: string;
  /** Directory of the run's package files; other users of the machine may have to reach it. */
  archives: string;
  /** The aegis executable, for a tool that calls back. */
  aegis: string;
  /** As whom the tool will run, for what it has to reach; null for root. */
  account: Account | null;
}

/** A run that is ready to start: see `startRun`. */
export interface PreparedRun {
  directory: string;
  /** What is executed, absolute; the signed argv without its first word are its arguments. */
  program: string;
  environment: Record<string, string>;
  /** The working directory. */
  cwd: string;
  /** What the start event says of the preparation, in few bytes: digests of configuration, for example. */
  facts: Readonly<Record<string, string>>;
}

/** What is done while something is waited for. */
interface Waiting {
  /** Throws the reason where the runner has been asked to end. */
  stop(): void;
  /** A sign of life for whoever watches. */
  alive(): void;
}

interface Progress {
  /** 0 to 100. */
  percent: number;
  message: string;
}

/**
 * Whether the bytes that were installed are the signed ones, by what the run left behind. `not_needed` where a run installs
 * none; `absent` where nothing vouches for them; `reason` says why, in words that follow "the run failed: ".
 */
type Witness =
  | { verdict: "vouched" | "not_needed" }
  | { verdict: "absent"; reason: string }
  | { verdict: "refused"; code: ErrorCode; reason: string };

/** The host after a run against the plan. */
export interface Comparison {
  /** Parts of the plan that are not in the planned state. */
  not_as_planned: Difference[];
  /** What changed that the plan does not name. */
  changed_besides: Difference[];
  /** What undoes what became of the plan, by the host's own state. */
  inverse: Undo[];
}

/** What the tool itself finds unfinished. */
export interface RunAdvice {
  /** What is unfinished and how to finish it, to be put behind a semicolon; empty where all is well. */
  text: string;
  /** For the log: what the tool said, bounded. */
  facts: Readonly<Record<string, string>>;
}

/** The part of a plan that a run is compared with. It is kept with the marker of a run, for whoever closes it. */
export interface RunSubject {
  argv: readonly string[];
  transaction: readonly TransactionEntry[];
}

/** What a plan is made from, as it was when it was looked at. */
export interface Held {
  /** Compares it with what is signed. @throws AegisError `refused` */
  check(): Promise<void>;
  /** @throws AegisError `drift` where any of it was replaced since */
  refuseReplaced(): void;
}

export interface RunDriver {
  /** As whom the tool runs: `root`, or the name of an account, which must exist and not be root's. */
  user: string;
  /** Directories that a run changes: a snapshot that holds none of them undoes nothing. */
  roots: readonly string[];
  /**
   * Looks at the files of the host that planning again reads, before it does; null where it reads none that others write.
   * @throws AegisError `refused` where anybody but root could change one meanwhile
   */
  hold(plan: OperationPlan, planning: Planning): Promise<Held | null>;
  /**
   * Returns when the tool would take the plan now. Nothing has been used up yet.
   * @throws AegisError `unavailable`, `busy`, the reason of `wait.stop`
   */
  ready(plan: OperationPlan, wait: Waiting): Promise<void>;
  /**
   * Lays out everything that one run needs in its two directories, which it makes.
   * @throws AegisError `refused`, `unavailable`
   */
  prepare(plan: OperationPlan, argv: readonly string[], place: RunPlace): Promise<PreparedRun>;
  /** @throws AegisError `io` */
  observe(): HostState;
  /** One line of the tool's status stream; null for a line that tells of no progress. */
  progress(line: string): Progress | null;
  /**
   * Claims the right to end the run, which is given once. False where the tool has begun what must not be broken off, and
   * where it was claimed before; once it has returned true the tool begins nothing of that kind any more.
   */
  mayStop(directory: string): boolean;
  /** Where {@link mayStop} was claimed, what the run had not come to, as `before it began`; else null. */
  wasStopped(directory: string): string | null;
  /** How long a command line may go on before it has begun what must not be broken off, in milliseconds. */
  limitMs(argv: readonly string[]): number;
  /** Whether a process of this run lives that is not the one on record. */
  isAlive(directory: string): boolean;
  witness(directory: string, run: RunSubject): Witness;
  compare(run: RunSubject, before: HostState, after: HostState): Comparison;
  /**
   * Looks now at what no state tells, and again when the returned function is called, which names what has changed in
   * between: what it is, and which.
   */
  watchBesides(transaction: readonly TransactionEntry[]): () => { what: string; items: string[] }[];
  advice(): Promise<RunAdvice>;
}
