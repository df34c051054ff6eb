import { AegisError } from "./errors.ts";

/** One check before a run. */
interface Check {
  name: string;
  /** What holds once it has passed. */
  proves: string;
  /** The attack or accident that it stops. */
  stops: string;
}

/**
 * What the bytes, this host, its records and the clock decide. Made before a plan waits for its turn, so that nobody queues with
 * what can't run, and again when its turn comes, since waiting takes time.
 */
const SUBMISSION = [
  {
    name: "canonical",
    proves: "the text is the one canonical spelling of a JSON value",
    stops: "two readers of one signed text who see different plans (duplicate keys, trailing bytes)",
  },
  {
    name: "schema",
    proves: "it is an execution plan of today's form, with no field that this version doesn't know",
    stops: "meaning hidden in a field that is not looked at; plans of older tools, which bind less",
  },
  {
    name: "signature",
    proves: "a key that is trusted to sign plans, in force now, signed exactly this under its owner's name",
    stops: "a plan that nobody signed, that was edited, or whose key was revoked",
  },
  {
    name: "not-used-before",
    proves: "neither the plan nor one of its approvals has been used, by the record and by the log",
    stops: "replay, also after an older copy of the record was put back",
  },
  {
    name: "lifetime",
    proves: "it is in force now, for no longer than allowed, and the clock has not gone back",
    stops: "a plan kept for a better moment, or brought back to life by setting the clock",
  },
  {
    name: "host",
    proves: "it was made for this host",
    stops: "a plan that somebody approved for another machine",
  },
  {
    name: "boot",
    proves: "the host has not booted since it was planned",
    stops: "an old plan on a restored or restarted machine, whatever its clock says",
  },
  {
    name: "hashes",
    proves: "plan, policy result and review inside of it belong together",
    stops: "the approval of one plan used for another",
  },
  {
    name: "policy",
    proves: "these rules, applied to what is embedded, give the embedded decision, and it is no denial",
    stops: "an invented decision, and one by other rules than this host's",
  },
] as const satisfies readonly Check[];

/**
 * Every check of the executor in the order in which it is made, under the run lock. The order is the guarantee: what is cheap and
 * says who is asking comes first; planning again comes before the approvals are counted, so that people have approved what this
 * host would do; nothing is used up before all of it has passed, and nothing runs before it is used up and in the log.
 */
export const CHECKS = [
  {
    name: "same-program",
    proves: "the installed file is the program that is running",
    stops: "a tool that calls back another version of Aegis, in the middle of an upgrade",
  },
  {
    name: "nothing-open",
    proves: "no earlier run is open: one whose runner died has ended, was compared and is in the log",
    stops: "two tools that change the host at once, and a run that is missing from the log",
  },
  ...SUBMISSION,
  {
    name: "plan-again",
    proves:
      "this host plans the same change from its own sources, its own policy is not stricter, and the plan described it as it is",
    stops: "a forged or outdated plan, evidence that was made up, and a host that has changed since",
  },
  {
    name: "argv",
    proves: "the signed command is the one that follows from the plan, and of a form that may run at all",
    stops: "another command behind a harmless plan, and a mistake in an ecosystem",
  },
  {
    name: "controls",
    proves: "every approval and proof that policy requires is there, by the right keys and people",
    stops: "a signer who approves alone, an approval of something else, one that expired while waiting",
  },
  {
    name: "snapshots",
    proves: "each snapshot that it names exists, is younger than the plan and holds what the run changes",
    stops: "a snapshot that undoes nothing",
  },
  {
    name: "tool-ready",
    proves: "the tool would take the plan now",
    stops: "a plan used up for a run that can't begin",
  },
  {
    name: "account",
    proves: "the user as whom the tool runs exists, and is not root unless the tool's driver says root",
    stops: "a tool that gets root's rights because an account is missing or was tampered with",
  },
  {
    name: "laid-out",
    proves: "everything that the run needs is in its own directories, in files that only root has written",
    stops: "settings of the host or of a user that change what the tool does",
  },
  {
    name: "host-observed",
    proves: "the state of the host before the run is known",
    stops: "a change that can't be told from what was there before",
  },
  {
    name: "room-reserved",
    proves: "there is room on the disk for the event that tells how it ended",
    stops: "a run that leaves no trace because the disk is full",
  },
  {
    name: "marked",
    proves: "the run is marked as under way, on disk",
    stops: "a run that nobody closes when this process is killed",
  },
  {
    name: "used-up",
    proves: "the plan and its approvals are on disk as used",
    stops: "a second run of the same plan, whatever becomes of this one",
  },
  {
    name: "start-logged",
    proves: "the start event is on disk, with who signed, who approved, and what",
    stops: "a run that is not in the log",
  },
] as const satisfies readonly Check[];

export type CheckName = (typeof CHECKS)[number]["name"];

const namesOf = <T extends Check>(checks: readonly T[]): readonly T["name"][] =>
  checks.map(({ name }) => name);

/** Those that are made of a submission alone, in their order. */
export const SUBMISSION_CHECKS: readonly CheckName[] = namesOf(SUBMISSION);
/** All of them, in their order. */
export const ALL_CHECKS: readonly CheckName[] = namesOf(CHECKS);

/**
 * Holds the code to the list: each check is made in its turn, none is left out, none comes twice. A check out of turn throws
 * `internal` and is not made, so a mistake in the order refuses the plan; whoever makes the last one has made them all.
 */
export class CheckSequence {
  readonly #names: readonly CheckName[];
  #next = 0;
  #current: CheckName | null = null;

  constructor(names: readonly CheckName[] = ALL_CHECKS) {
    this.#names = names;
  }

  /** The check under way, or the one that refused; null between two checks. */
  get current(): CheckName | null {
    return this.#current;
  }

  /** Makes a check and returns what it found. */
  make<T>(name: CheckName, check: () => T extends Promise<unknown> ? never : T): T {
    this.#begin(name);
    const found = check();
    this.#current = null;
    return found;
  }

  /** The same for a check that takes time. */
  async wait<T>(name: CheckName, check: () => Promise<T>): Promise<T> {
    this.#begin(name);
    const found = await check();
    this.#current = null;
    return found;
  }

  #begin(name: CheckName): void {
    const due = this.#names[this.#next];
    if (due !== name)
      throw new AegisError("internal", `the check ${name} comes where ${due ?? "none"} is due`);
    this.#next++;
    this.#current = name;
  }
}
