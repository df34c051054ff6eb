import { submitPlan, watchExecution } from "./cmd-apply-run.ts";
import { defineSubcommand, type Io } from "./command.ts";
import { isFullId, resolveDocument } from "./doc-store.ts";
import { AegisError } from "./errors.ts";
import { SYSTEM } from "./paths.ts";
import { safe } from "./terminal.ts";

/** `aegis apply`: submits an execution plan or watches an execution, and reports its outcome. */
export const apply = defineSubcommand({
  name: "apply",
  description:
    "Submits a signed execution plan to the executor and shows its progress. With --request it asks a person for the approval first. The outcome is read from the executor's own result file.",
  args: {
    plan: {
      type: "positional",
      complete: "file",
      description: "the execution plan: a path, a full id, or - for standard input",
    },
    "execution-plan": { type: "string", valueHint: "file", description: "the same, as a flag" },
    watch: {
      type: "string",
      valueHint: "id",
      description: "reattach to an execution instead of submitting one",
    },
    request: {
      type: "string",
      valueHint: "plan",
      description:
        "ask a person to approve this plan: its path, full id or -; or go on with a request by its number",
    },
    reason: { type: "string", valueHint: "why", description: "with --request: why the change is needed" },
    review: { type: "string", valueHint: "review", description: "with --request: a review of the plan" },
    wait: {
      type: "boolean",
      description: "with --request: wait for the decision, then sign with --key and apply",
    },
    "wait-minutes": {
      type: "string",
      valueHint: "n",
      description: "how long --wait waits; else until the request expires",
    },
    key: {
      type: "string",
      valueHint: "file",
      description: "with --request: execution key file that signs; else the account's own",
    },
    "key-id": { type: "string", valueHint: "id", description: "the key's id in trusted-keys.toml" },
    signer: { type: "string", valueHint: "name", description: "with --request: who signs" },
    "snapshot-id": {
      type: "string",
      multiple: true,
      valueHint: "[provider:]id",
      description: "with --request: a snapshot, where policy requires one",
    },
    socket: {
      type: "string",
      default: SYSTEM.socket,
      valueHint: "path",
      description: "the executor's socket",
    },
    "public-key-hex": {
      type: "string",
      multiple: true,
      valueHint: "hex",
      description: "check the signature with this key before submitting",
    },
    "approval-public-key-hex": {
      type: "string",
      multiple: true,
      valueHint: "hex",
      description: "check approvals with this key before submitting",
    },
  },
  async run(values, io) {
    const { plan, request, watch, socket } = values;
    const given = [plan, values["execution-plan"], watch, request].filter((value) => value !== undefined);
    const [only] = given;
    if (only === undefined || given.length > 1) {
      throw new AegisError(
        "usage",
        "name one execution plan, --request one plan, or --watch one execution",
        "Type: aegis apply <execution-plan>",
      );
    }
    if (request !== undefined) {
      const { askPerson } = await import("./cmd-request.ts");
      return askPerson({ ...values, request }, io);
    }
    const stray = REQUEST_FLAGS.find((flag) => isGiven(values[flag]));
    if (stray !== undefined) {
      const hint = "Type: aegis apply --request <plan> --reason <why>";
      throw new AegisError("usage", `--${stray} is for --request`, hint);
    }
    // Checked here, since the executor logs malformed requests.
    if (watch !== undefined && !isFullId(watch)) {
      throw new AegisError(
        "usage",
        `--watch takes an execution's full id, which ${safe(watch)} is not`,
        "Ids: aegis daemon status. To submit a signed plan: aegis apply <execution-plan>",
      );
    }
    if (watch !== undefined) return watchExecution(watch, socket, io);
    const { text, document } = await resolveDocument("execution", only, io, { exact: true });
    await checkHere(
      document,
      { execution: values["public-key-hex"], approval: values["approval-public-key-hex"] },
      io,
    );
    return submitPlan(text, document.execution_plan_id, socket, io);
  },
});

/** Flags that mean something only with --request. */
const REQUEST_FLAGS = [
  "reason",
  "review",
  "wait",
  "wait-minutes",
  "key",
  "key-id",
  "signer",
  "snapshot-id",
] as const;

function isGiven(value: string | boolean | readonly string[] | undefined): boolean {
  return value !== undefined && value !== false && (!Array.isArray(value) || value.length > 0);
}

/** Checks the signature on the client, if it trusts any key; the executor does not rely on this. */
async function checkHere(
  document: Parameters<typeof import("./exec-preflight.ts").checkSignature>[0],
  flags: { execution: readonly string[]; approval: readonly string[] },
  io: Io,
): Promise<void> {
  const [{ checkSignature }, { userTrust }] = await Promise.all([
    import("./exec-preflight.ts"),
    import("./key-trust.ts"),
  ]);
  const trust = userTrust(flags, io.env);
  if (trust.length === 0) {
    io.note("note: no trusted keys here; only the executor checks the signature");
    return;
  }
  checkSignature(document, trust, new Date());
}
