import { realpathSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { recordUserEvent } from "./audit-log.ts";
import { subjectDetails } from "./audit-subject.ts";
import { canonicalJson, sha256Hex } from "./canonical.ts";
import { assertChangelogs, assertJson, CHANGELOG_FLAG, decideNow, SUMMARY_FLAG } from "./cmd-decide.ts";
import { renderSteps } from "./cmd-next.ts";
import { renderPlan } from "./cmd-plan-view.ts";
import { runtimeOf, securityOf } from "./cmd-plan-words.ts";
import { renderDenial } from "./cmd-policy-view.ts";
import { pinnedRequest } from "./cmd-remedy.ts";
import { defineSubcommand, type Io } from "./command.ts";
import { FIRST_TOOL, type OperationPlan } from "./doc-plan.ts";
import { MAX_REPOSITORY_FILE } from "./doc-repository.ts";
import { findExecution, readResult } from "./doc-result.ts";
import { saveDocument } from "./doc-store.ts";
import type { Grammar } from "./eco-grammar.ts";
import { BUILT, loadEcosystem, NOT_BUILT } from "./eco-load.ts";
import { TABLE } from "./eco-table.ts";
import { AegisError, EXIT } from "./errors.ts";
import { makePlan } from "./plan.ts";
import { userPlanningEnv } from "./plan-env.ts";
import { planSummary } from "./plan-summary.ts";
import { openPlanning } from "./plan-world.ts";
import { VERSION } from "./self.ts";
import { readFileLimited, readText, typedPath } from "./sys-files.ts";
import { isLong } from "./sys-pager.ts";
import { writeTyped } from "./sys-typed-file.ts";
import { clip, safe, showArgv } from "./terminal.ts";

/** Room in an event for why a plan knows nothing of its targets, in UTF-16 units. */
const WHY_ROOM = 1000;

const NAMES = [...BUILT, ...NOT_BUILT];

/** `apt: update, upgrade; npm: install` */
function eachBuilt(words: (grammar: Grammar) => readonly string[]): string {
  return Object.entries(TABLE)
    .map(([tool, { grammar }]) => `${tool}: ${words(grammar).join(", ")}`)
    .join("; ");
}

/** `aegis plan <ecosystem> <operation> [target…]` */
export const plan = defineSubcommand({
  name: "plan",
  description:
    "Find out, read-only, what an operation would change on this host, and write a plan. Exit status 3: it was written, and policy can only deny it.",
  args: {
    ecosystem: {
      type: "positional",
      required: true,
      complete: "ecosystem",
      description: `${BUILT.join(", ")}, or rollback`,
    },
    operation: {
      type: "positional",
      required: false,
      complete: "operation",
      description: `${eachBuilt(({ operations }) => Object.keys(operations))}; of a rollback the execution`,
    },
    targets: {
      type: "positional",
      required: false,
      multiple: true,
      complete: "package",
      description: eachBuilt(({ forms }) => forms.all),
    },
    runtime: {
      type: "string",
      valueHint: "name",
      description:
        "for container: the engine that pulls, docker or podman (left out: the one that is installed, podman where both or neither are)",
    },
    stanza: {
      type: "string",
      valueHint: "file",
      description: "for apt add-repository: the repository, one stanza as in a .sources file",
    },
    key: {
      type: "string",
      valueHint: "file",
      description: "its key, armored or binary, where the stanza does not embed it",
    },
    security: {
      type: "boolean",
      description: "of an upgrade: only to versions from the distribution's own security pocket",
    },
    out: { type: "string", valueHint: "file", description: "write the plan here instead" },
    sbom: {
      type: "string",
      valueHint: "file",
      description: "also write what would be installed as a bill of materials (CycloneDX 1.6 JSON)",
    },
    html: {
      type: "string",
      valueHint: "file",
      description: "also write the plan as one page, for a browser",
    },
    ...CHANGELOG_FLAG,
    ...SUMMARY_FLAG,
  },
  async run(values, io) {
    assertFiles(values.out, values.sbom, values.html);
    assertChangelogs(values.changelog, values.ecosystem);
    assertJson(values.summary, io);
    const ecosystem = runtimeOf(values.ecosystem, values.runtime);
    const operation = values.security ? securityOf(ecosystem, values.operation) : values.operation;
    const request = await requestOf(ecosystem, operation, values.targets);
    const content = await contentOf(request, values.stanza, values.key);
    const planning = openPlanning({ env: userPlanningEnv(io.env, readText) });
    let document: Awaited<ReturnType<typeof makePlan>>;
    try {
      document = await makePlan(
        await loadEcosystem(request.ecosystem),
        request.operation,
        request.targets,
        planning,
        content,
      );
    } finally {
      planning.close();
    }
    const text = canonicalJson(document);
    const planHash = sha256Hex(text);
    // First, so that where it can't be written there is no plan either, which the log would not have.
    if (values.sbom !== undefined) writeTyped(resolve(values.sbom), await sbomText(document));
    const path = saveDocument("plan", document, io.env, values.out, text);
    recordUserEvent(io.env, {
      kind: "plan_created",
      plan_id: document.plan_id,
      argv: document.command_preview,
      details: {
        ...{ plan_hash: planHash, risk_score: document.risk_score, ...subjectDetails(document) },
        ...(document.metadata_available ? {} : { why: clip(document.warnings.join(" "), WHY_ROOM) }),
      },
    });
    const decided = document.nothing_to_do ? null : decidedAlready(document, planHash, io);
    const sensitive = decided?.config.apt.sensitive_packages ?? [];
    if (values.html !== undefined) {
      const { planPageText } = await import("./cmd-page-plan.ts");
      const policy = decided === null ? null : { result: decided.result, isDecided: false };
      writeTyped(resolve(values.html), planPageText(document, { hash: planHash, sensitive, policy }));
    }
    const denial = decided?.denial ?? null;
    const reference = values.out === undefined ? document.plan_id.slice(0, 8) : path;
    const next =
      denial === null
        ? renderSteps([{ who: "you", argv: ["aegis", "policy", reference] }], io.terminal)
        : renderDenial(denial, io.terminal, { plan: reference, pinned: pinnedRequest(document) });
    // A denial is told below, with what would help.
    const policy = decided === null || denial !== null ? null : { result: decided.result, isDecided: false };
    const shown = io.json ? "" : renderPlan(document, io.terminal, { sensitive, policy });
    const show = `To page through it: ${showArgv(["aegis", "plan", "show", reference])}`;
    const json = values.summary
      ? { summary: planSummary(document, planHash, decided?.result ?? null), path }
      : { plan: document, path, plan_hash: planHash, denial };
    const changes = values.changelog
      ? await (await import("./cmd-plan-changelog.ts")).shownChangelogs(document, undefined, io)
      : null;
    io.result(
      changes === null ? json : { ...json, ...changes.found },
      [
        ...(changes === null ? [shown] : [shown, "", changes.text]),
        `\nWritten: ${safe(path)}`,
        ...(values.sbom === undefined ? [] : [`Bill of materials: ${safe(values.sbom)}`]),
        ...(values.html === undefined ? [] : [`Page: ${safe(values.html)}`]),
        ...(isLong(shown, io.terminal) ? [show] : []),
        ...(document.nothing_to_do ? [] : [next]),
      ].join("\n"),
    );
    return denial === null ? EXIT.ok : EXIT.denied;
  },
});

/**
 * The file that the request brings with it: the stanza and its key in one, as it would be written.
 * @throws AegisError `usage`, `not_found`, `io`, `invalid_target`
 */
async function contentOf(
  { ecosystem, operation, targets }: { ecosystem: string; operation: string; targets: readonly string[] },
  stanza: string | undefined,
  key: string | undefined,
): Promise<string | undefined> {
  if (stanza === undefined && key === undefined) return undefined;
  const { contentFrom, withContent = [] } = await loadEcosystem(ecosystem);
  if (contentFrom === undefined || !withContent.includes(operation) || stanza === undefined)
    throw new AegisError(
      "usage",
      stanza === undefined ? "--key goes with --stanza" : `${operation} takes no --stanza and no --key`,
      "Type: aegis plan --help",
    );
  const read = (path: string) => typedPath(() => readFileLimited(path, MAX_REPOSITORY_FILE));
  return contentFrom(
    targets[0] ?? "",
    read(stanza).toString("utf8"),
    key === undefined ? undefined : read(key),
  );
}

/** @throws AegisError `usage` if two of the flags name one file */
function assertFiles(out: string | undefined, sbom: string | undefined, page: string | undefined): void {
  const named = Object.entries({ out, sbom, html: page }).flatMap(([flag, path]) =>
    path === undefined ? [] : [{ flag, path: realPath(path) }],
  );
  for (const [n, { flag, path }] of named.entries()) {
    const other = named.slice(0, n).find((one) => one.path === path);
    if (other === undefined) continue;
    const what = `--${other.flag} and --${flag} name the same file`;
    throw new AegisError("usage", what, "Give each a file of its own.");
  }
}

/** The path by which a file is replaced: links among its directories are followed, the last name isn't. */
function realPath(typed: string): string {
  const path = resolve(typed);
  try {
    return join(realpathSync(dirname(path)), basename(path));
  } catch {
    return path;
  }
}

async function sbomText(plan: OperationPlan): Promise<string> {
  const { cyclonedx } = await import("./plan-sbom.ts");
  return `${JSON.stringify(cyclonedx(plan, VERSION), null, 2)}\n`;
}

/** What policy says of the plan. An unreadable policy is only noted here; `aegis policy` refuses it later. */
function decidedAlready(plan: OperationPlan, planHash: string, io: Io): ReturnType<typeof decideNow> | null {
  try {
    return decideNow(plan, planHash, io.env);
  } catch (error) {
    if (!(error instanceof AegisError)) throw error;
    io.note(`note: the policy's decision is unknown: ${safe(error.message)}`);
    return null;
  }
}

/**
 * `rollback <execution>` is short for `<ecosystem> rollback <full id>`.
 * @throws AegisError `usage`, `not_found`, `io`
 */
async function requestOf(ecosystem: string, operation: string | undefined, targets: readonly string[]) {
  if (ecosystem === "rollback") {
    if (operation === undefined) {
      const hint = "Type: aegis plan rollback <execution>; its id, or latest. Ids: aegis daemon status";
      throw new AegisError("usage", "<execution> is missing: which one should be rolled back?", hint);
    }
    if (targets.length === 0) {
      const id = findExecution(operation);
      return { ecosystem: toolOf(id), operation: "rollback", targets: [id] };
    }
    throw new AegisError("usage", "a rollback takes one execution", "Type: aegis plan rollback <execution>");
  }
  if (!NAMES.includes(ecosystem)) assertNoOperation(ecosystem, operation, targets);
  if (operation === undefined) {
    const { operations } = await loadEcosystem(ecosystem);
    const known = Object.keys(operations).map((one) => `aegis plan ${ecosystem} ${one}`);
    throw new AegisError("usage", "<operation> is missing", `Try: ${known.join(" · ")}`);
  }
  const [reference] = targets;
  const { operations } = await loadEcosystem(ecosystem);
  const isRollback = operation === "rollback" && Object.hasOwn(operations, operation);
  if (!isRollback || reference === undefined || targets.length > 1) return { ecosystem, operation, targets };
  return { ecosystem, operation, targets: [findExecution(reference)] };
}

/** An execution's ecosystem. If its outcome can't be read, planning will say why. */
function toolOf(execution: string): string {
  try {
    return readResult(execution)?.tool ?? FIRST_TOOL;
  } catch {
    return FIRST_TOOL;
  }
}

/**
 * Suggests an ecosystem for a command without one, such as `aegis plan install hello`: the first that has the operation.
 * @throws AegisError `usage` if the first word is an operation of some ecosystem
 */
function assertNoOperation(word: string, next: string | undefined, targets: readonly string[]) {
  const [tool] =
    Object.entries(TABLE).find(([, { grammar }]) => Object.hasOwn(grammar.operations, word)) ?? [];
  if (tool === undefined) return;
  const typed = [word, ...(next === undefined ? [] : [next]), ...targets];
  const argv = showArgv(["aegis", "plan", tool, ...typed]);
  throw new AegisError("usage", `${word} is an operation; the ecosystem comes first`, `Type: ${argv}`);
}
