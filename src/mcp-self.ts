import { AegisError, EXIT, type ExitStatus, isErrorCode } from "./errors.ts";
import type { Env } from "./paths.ts";
import { selfCommand } from "./self.ts";
import { run } from "./sys-spawn.ts";

/*
 * The commands of this program, run for an agent. Each call is a process of its own with `--json`, so an agent gets what a person
 * at the command line gets, and a call that is cancelled leaves nothing behind in the server.
 */

/** Limit on what a command prints, in bytes: a plan of several thousand packages. */
const MAX_OUTPUT = 64 * 1024 * 1024;
/** Limit on an error's texts that are passed on, in characters. */
const MAX_TEXT = 2000;
/** Commands at work at once; others wait. A client may send any number of requests. */
const AT_ONCE = 4;
/** Commands that wait for a person, which takes hours and no work: as many as one user's requests. They keep nothing else waiting. */
const WAITING_AT_ONCE = 16;

/** What each exit status means, in a word. */
const OUTCOME_OF = {
  [EXIT.ok]: "ok",
  [EXIT.internal]: "internal_fault",
  [EXIT.usage]: "usage_error",
  [EXIT.denied]: "denied",
  [EXIT.approval]: "approval_needed",
  [EXIT.snapshot]: "snapshot_needed",
  [EXIT.verification]: "verification_failed",
  [EXIT.packageManager]: "package_manager_failed",
  [EXIT.unavailable]: "unavailable",
  [EXIT.drift]: "drifted",
  [EXIT.notRun]: "unavailable",
  [EXIT.stopped]: "stopped",
} as const satisfies Record<ExitStatus, string>;

type Outcome = (typeof OUTCOME_OF)[ExitStatus];
export const OUTCOMES: readonly Outcome[] = [...new Set(Object.values(OUTCOME_OF))];

function outcomeOf(status: number): Outcome {
  const statuses: Readonly<Record<number, Outcome>> = OUTCOME_OF;
  return statuses[status] ?? "internal_fault";
}

interface CommandError {
  code: string;
  message: string;
  hint: string;
}

export interface CommandAnswer {
  outcome: Outcome;
  exit_status: number;
  error: CommandError | null;
  /** The document on standard output; null where the command failed. */
  document: Record<string, unknown> | null;
}

/** Runs a command of this program; `words` without `--json`. */
export type RunCommand = (
  words: readonly string[],
  limits: { timeoutMs: number; signal: AbortSignal },
) => Promise<CommandAnswer>;

/** Runs commands with this environment, a few at a time. */
export function commandRunner(env: Env, self = selfCommand()): RunCommand {
  const { program, words: first } = self;
  const inherited = Object.fromEntries(
    Object.entries(env).flatMap(([k, v]) => (v === undefined ? [] : [[k, v]])),
  );
  const [working, waiting] = [semaphore(AT_ONCE), semaphore(WAITING_AT_ONCE)];
  return (words, { timeoutMs, signal }) => {
    const turn = words.includes("--wait") ? waiting : working;
    return turn(async () => {
      signal.throwIfAborted();
      const result = await run(program, [...first, ...withJson(words)], {
        env: { ...inherited, NO_COLOR: "1" },
        cwd: "/",
        timeoutMs,
        maxBytes: MAX_OUTPUT,
        signal,
        killsAll: true,
      });
      signal.throwIfAborted();
      return answerOf(result.outcome === "timeout" ? null : result.status, result.stdout, timeoutMs);
    });
  };
}

/** `--json` goes before the first `--`, after which every word is a positional. */
function withJson(words: readonly string[]): string[] {
  const end = words.indexOf("--");
  return end < 0 ? [...words, "--json"] : [...words.slice(0, end), "--json", ...words.slice(end)];
}

/** `status` is null for a command that was killed at its time limit. */
function answerOf(status: number | null, stdout: Buffer, timeoutMs: number): CommandAnswer {
  const failed = (error: AegisError): CommandAnswer => ({
    ...{ outcome: outcomeOf(error.exit), exit_status: error.exit, document: null },
    error: { code: error.code, message: error.message, hint: error.hint },
  });
  if (status === null)
    return failed(
      new AegisError(
        "timeout",
        `the command did not end within ${timeoutMs / 1000} s`,
        "Call the tool again.",
      ),
    );
  const document = objectIn(stdout);
  if (document === null)
    return failed(
      new AegisError("internal", `the command ended with status ${status} and printed no document`),
    );
  const error = errorIn(document);
  return {
    outcome: outcomeOf(status),
    exit_status: status,
    error,
    document: error === null ? document : null,
  };
}

function objectIn(stdout: Buffer): Record<string, unknown> | null {
  try {
    const parsed: unknown = JSON.parse(stdout.toString("utf8"));
    return isRecord(parsed) ? parsed : null;
  } catch {
    return null;
  }
}

function errorIn({ error }: Record<string, unknown>): CommandError | null {
  if (!isRecord(error)) return null;
  const { code, message, hint } = error;
  const text = (value: unknown) => (typeof value === "string" ? value.slice(0, MAX_TEXT) : "");
  return {
    code: typeof code === "string" && isErrorCode(code) ? code : "internal",
    message: text(message),
    hint: text(hint),
  };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Lets at most `n` jobs run at a time, in the order in which they came. */
function semaphore(n: number): <T>(job: () => Promise<T>) => Promise<T> {
  const waiting: (() => void)[] = [];
  let free = n;
  return async (job) => {
    if (free > 0) free--;
    else await new Promise<void>((resolve) => waiting.push(resolve));
    try {
      return await job();
    } finally {
      const next = waiting.shift();
      if (next === undefined) free++;
      else next();
    }
  };
}
