import { type BreakGlassUse, openBreakGlass } from "./audit-break-glass.ts";
import type { AuditLog } from "./audit-log.ts";
import { openProductionLog } from "./audit-production.ts";
import { isUuidPrefix } from "./canonical.ts";
import { defineSubcommand, type Io } from "./command.ts";
import { AegisError, EXIT, type ExitStatus } from "./errors.ts";
import { SYSTEM } from "./paths.ts";
import { loginUid } from "./sys-account.ts";
import { fit, safe } from "./terminal.ts";

/** `aegis audit acknowledge <execution>`: root has looked at a use of a break-glass key. */
export const auditAcknowledge = defineSubcommand({
  name: "audit acknowledge",
  description:
    "As root: say in the production log that you have looked at a use of a break-glass key. Until then doctor and status show it.",
  args: {
    execution: {
      type: "positional",
      required: true,
      description: "the execution's id, or at least 8 characters of it",
    },
    reason: { type: "string", required: true, valueHint: "why", description: "what you found" },
  },
  run: async (values, io) =>
    acknowledge(values, io, {
      dir: SYSTEM.auditDir,
      isRoot: process.geteuid?.() === 0,
      open: openProductionLog,
    }),
});

/**
 * Logs that a use was looked at.
 * @throws AegisError `usage`, `refused` (not root), `not_found` (no such open use), and as opening the log
 */
export function acknowledge(
  { execution, reason }: { execution: string; reason: string },
  io: Io,
  host: { dir: string; isRoot: boolean; open(): AuditLog },
): ExitStatus {
  if (!isUuidPrefix(execution))
    throw new AegisError(
      "usage",
      `${safe(execution)} is not the id of an execution`,
      "See: aegis daemon status",
    );
  if (reason.length > 500) throw new AegisError("usage", "--reason takes up to 500 characters");
  const use = found(openBreakGlass(host.dir), execution);
  if (!host.isRoot)
    throw new AegisError("refused", "only root writes to the production log", "Type it as root.");
  const log = host.open();
  try {
    const { name, key_id, operation } = use;
    log.append({
      kind: "break_glass_acknowledged",
      actor: "root",
      execution_id: use.execution_id,
      details: {
        message: `looked at: ${operation}, approved with the break-glass key ${key_id} of ${name}`,
        ...{ name, key_id, reason, login_uid: loginUid() },
      },
    });
  } finally {
    log.close();
  }
  const said = `Acknowledged: ${safe(use.operation)} of ${use.at.slice(0, 16)}Z, approved by ${safe(use.name)} with the break-glass key ${safe(use.key_id)}`;
  const next = "Its passphrase has been seen: seal a new key. aegis help break-glass says how.";
  io.result({ acknowledged: use }, [said, next].flatMap((line) => fit(io.terminal, line, "  ")).join("\n"));
  return EXIT.ok;
}

function found(uses: readonly BreakGlassUse[], execution: string): BreakGlassUse {
  const [use, ...more] = uses.filter(({ execution_id }) => execution_id.startsWith(execution));
  if (use !== undefined && more.length === 0) return use;
  const open = uses.map(({ execution_id }) => execution_id).join(", ") || "none";
  throw new AegisError(
    "not_found",
    `no open use of a break-glass key in the execution ${execution}`,
    `Open ones: ${open}`,
  );
}
