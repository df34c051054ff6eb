/** Process exit statuses, as `aegis help exit-status` describes them. */
export const EXIT = {
  ok: 0,
  internal: 1,
  usage: 2,
  denied: 3,
  approval: 4,
  snapshot: 5,
  verification: 6,
  packageManager: 7,
  unavailable: 8,
  drift: 9,
  /** The shell's status for a program that was found but could not be run. */
  notRun: 126,
  /** The shell's status after Ctrl-C: 128 + SIGINT. */
  stopped: 130,
} as const;

export type ExitStatus = (typeof EXIT)[keyof typeof EXIT];

/** Exit status of each error code. A new kind of failure is one line here. */
export const EXIT_OF = {
  internal: EXIT.internal,
  io: EXIT.internal,
  not_built: EXIT.internal,
  usage: EXIT.usage,
  invalid_target: EXIT.usage,
  invalid_document: EXIT.usage,
  invalid_config: EXIT.usage,
  invalid_key: EXIT.usage,
  not_found: EXIT.usage,
  nothing_to_do: EXIT.usage,
  exists: EXIT.usage,
  policy_denied: EXIT.denied,
  rejected: EXIT.denied,
  approval_required: EXIT.approval,
  request_ended: EXIT.approval,
  snapshot_required: EXIT.snapshot,
  signature_invalid: EXIT.verification,
  key_untrusted: EXIT.verification,
  hash_mismatch: EXIT.verification,
  policy_mismatch: EXIT.verification,
  evaluator_mismatch: EXIT.verification,
  not_canonical: EXIT.verification,
  legacy_plan: EXIT.verification,
  expired: EXIT.verification,
  not_yet_valid: EXIT.verification,
  clock_behind: EXIT.verification,
  wrong_host: EXIT.verification,
  replay: EXIT.verification,
  argv_mismatch: EXIT.verification,
  approval_invalid: EXIT.verification,
  control_invalid: EXIT.verification,
  log_tampered: EXIT.verification,
  log_empty: EXIT.verification,
  log_torn: EXIT.verification,
  log_missing: EXIT.verification,
  refused: EXIT.verification,
  execution_failed: EXIT.packageManager,
  hook_refused: EXIT.packageManager,
  interrupted: EXIT.packageManager,
  unavailable: EXIT.unavailable,
  busy: EXIT.unavailable,
  timeout: EXIT.unavailable,
  protocol: EXIT.unavailable,
  model_reply: EXIT.unavailable,
  drift: EXIT.drift,
  evidence_mismatch: EXIT.drift,
  not_run: EXIT.notRun,
  stopped: EXIT.stopped,
} as const satisfies Record<string, ExitStatus>;

export type ErrorCode = keyof typeof EXIT_OF;

/** Whether a string received from another process is one of our error codes. */
export function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(EXIT_OF, code);
}

/**
 * The one error class. `message` says what and why, `hint` what to type next.
 * Thrown where the fault is found, rendered once at the top.
 */
export class AegisError extends Error {
  readonly code: ErrorCode;
  readonly hint: string;
  /** Structured facts for `--json` and the audit log. Never secrets. */
  readonly details: Readonly<Record<string, unknown>>;
  /** The process that worded message and hint, such as `the executor`; empty for this one. */
  readonly origin: string;

  constructor(
    code: ErrorCode,
    message: string,
    hint = "",
    details: Record<string, unknown> = {},
    origin = "",
  ) {
    super(message);
    this.name = "AegisError";
    this.code = code;
    this.hint = hint;
    this.details = details;
    this.origin = origin;
  }

  get exit(): ExitStatus {
    return EXIT_OF[this.code];
  }
}

/** The text of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The errno name (`ENOENT`, …) of a thrown system error, else "". */
export function errnoOf(error: unknown): string {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";
}
