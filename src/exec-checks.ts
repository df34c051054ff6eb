import { AegisError } from "./errors.ts";

/** One check before a run. */
interface Check {
  name: string;
  /** What is proved once it has passed. */
  proves: string;
  /** The attack or accident that it stops. */
  stops: string;
}

/**
 * Checks of the bytes against this host, its records and the clock. Made before a plan enters the queue, so that an invalid
 * plan never waits there, and again when its turn comes, since they may have changed.
 */
const SUBMISSION = [
  {
    name: "canonical",
    proves: "the text is the canonical form of a JSON value",
    stops: "two parsers that see different plans in one signed text (duplicate keys, trailing bytes)",
  },
  {
    name: "schema",
    proves: "it is an execution plan in today's format, without unknown fields",
    stops: "meaning hidden in an ignored field; plans of older tools, which bind less",
  },
  {
    name: "signature",
    proves: "a trusted execution key, valid now, signed exactly this under its owner's name",
    stops: "a plan that was not signed, was edited, or whose key was revoked",
  },
  {
    name: "not-used-before",
    proves:
      "neither the plan nor any of its approvals has been used, by the record and by the log, or was taken away with its request",
    stops:
      "replay, even after an older copy of the record was restored; a run of what was approved once and then rejected, withdrawn or planned anew",
  },
  {
    name: "lifetime",
    proves: "it is valid now, for no longer than allowed, and the clock has not gone back",
    stops: "a plan saved for a better moment, or revived by setting the clock back",
  },
  {
    name: "host",
    proves: "it was made for this host",
    stops: "a plan that was approved for another machine",
  },
  {
    name: "boot",
    proves: "the host has not booted since it was planned",
    stops: "an old plan on a restored or restarted machine, whatever its clock says",
  },
  {
    name: "hashes",
    proves: "the embedded plan, policy result and review belong together",
    stops: "an approval of one plan used for another",
  },
  {
    name: "policy",
    proves:
      "these rules, applied to the embedded documents, give the embedded decision, which is not a denial",
    stops: "a forged decision, and one by other rules than this host's",
  },
] as const satisfies readonly Check[];

/**
 * Every check of the executor, in order, made under the run lock. The order is part of the guarantee: cheap checks and
 * identity come first; planning again comes before the approvals are counted, so that people have approved what this host
 * would do; nothing is used up before these have passed, and nothing runs before it is used up and logged.
 */
export const CHECKS = [
  {
    name: "same-program",
    proves: "the installed file is the running program",
    stops: "a tool that calls back another version of Aegis during an upgrade",
  },
  {
    name: "nothing-open",
    proves: "no earlier run is open: one whose runner died has ended, was compared and is logged",
    stops: "two tools that change the host at once, and a run without an end in the log",
  },
  ...SUBMISSION,
  {
    name: "plan-again",
    proves:
      "this host plans the same change from its own sources, its own policy is not stricter, and the plan's evidence is true",
    stops: "a forged or outdated plan, invented evidence, and a host that has changed since",
  },
  {
    name: "argv",
    proves: "the signed command follows from the plan, and is on the allowlist",
    stops: "another command behind a harmless plan, and a bug in an ecosystem",
  },
  {
    name: "controls",
    proves: "every approval and proof that policy requires is present, by the right keys and people",
    stops: "a signer who approves alone, an approval of something else, one that expired in the queue",
  },
  {
    name: "snapshots",
    proves: "each named snapshot exists, is younger than the plan and contains what the run changes",
    stops: "a snapshot that can't undo the change",
  },
  {
    name: "tool-ready",
    proves: "the tool would accept the plan now",
    stops: "a plan used up for a run that can't start",
  },
  {
    name: "account",
    proves: "the account that runs the tool exists, and is root only if the tool's driver says so",
    stops: "a tool that runs as root because an account is missing or was tampered with",
  },
  {
    name: "laid-out",
    proves: "everything that the run needs is in its own directories, in files written by root only",
    stops: "settings of the host or a user that change what the tool does",
  },
  {
    name: "host-observed",
    proves: "the state of the host before the run is known",
    stops: "a change that can't be distinguished from the state before",
  },
  {
    name: "room-reserved",
    proves: "there is disk space for the event about its end",
    stops: "a run without an end in the log because the disk is full",
  },
  {
    name: "marked",
    proves: "the run is marked as running, on disk",
    stops: "a run that nobody closes if this process is killed",
  },
  {
    name: "used-up",
    proves: "the plan and its approvals are recorded as used, on disk",
    stops: "a second run of the same plan, whatever happens to this one",
  },
  {
    name: "start-logged",
    proves: "the start event is on disk, with signer, approvers and change",
    stops: "a run that is not in the log",
  },
] as const satisfies readonly Check[];

export type CheckName = (typeof CHECKS)[number]["name"];

const namesOf = <T extends Check>(checks: readonly T[]): readonly T["name"][] =>
  checks.map(({ name }) => name);

/** The checks of a submission alone, in order. */
export const SUBMISSION_CHECKS: readonly CheckName[] = namesOf(SUBMISSION);
/** All checks, in order. */
export const ALL_CHECKS: readonly CheckName[] = namesOf(CHECKS);

/**
 * Enforces the list: every check is made once, in order, after the one before it has passed. Otherwise it throws `internal`
 * before the check is made: a bug in the order, a refusal that is swallowed, and a check that isn't awaited refuse the plan,
 * and passing the last check proves that all passed.
 */
export class CheckSequence {
  readonly #names: readonly CheckName[];
  #next = 0;
  #current: CheckName | null = null;

  constructor(names: readonly CheckName[] = ALL_CHECKS) {
    this.#names = names;
  }

  /** The current check, or the one that refused; null between two checks. */
  get current(): CheckName | null {
    return this.#current;
  }

  /** Makes a check and returns its result. */
  make<T>(name: CheckName, check: () => T extends Promise<unknown> ? never : T): T {
    this.#begin(name);
    const found = check();
    this.#current = null;
    return found;
  }

  /** The same for an asynchronous check. */
  async wait<T>(name: CheckName, check: () => Promise<T>): Promise<T> {
    this.#begin(name);
    const found = await check();
    this.#current = null;
    return found;
  }

  #begin(name: CheckName): void {
    if (this.#current !== null)
      throw new AegisError("internal", `the check ${name} is too early: ${this.#current} has not passed`);
    const due = this.#names[this.#next];
    if (due !== name)
      throw new AegisError("internal", `the check ${name} is out of order: ${due ?? "none"} is due`);
    this.#next++;
    this.#current = name;
  }
}
