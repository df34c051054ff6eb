import { resolve } from "node:path";
import { assertJson, CHANGELOG_FLAG, decideNow, SUMMARY_FLAG } from "./cmd-decide.ts";
import { renderSteps } from "./cmd-next.ts";
import { type PlanContext, renderPlan } from "./cmd-plan-view.ts";
import { defineSubcommand, type Io } from "./command.ts";
import type { PolicyResult } from "./doc.ts";
import type { OperationPlan } from "./doc-plan.ts";
import { documentPath, readStored, resolveDocument } from "./doc-store.ts";
import { AegisError, EXIT } from "./errors.ts";
import { planPage, planSummary } from "./plan-summary.ts";
import { isLong, page } from "./sys-pager.ts";
import { writeTyped } from "./sys-typed-file.ts";
import { safe } from "./terminal.ts";

/** `aegis plan show <plan>`: uses a pager if the plan is longer than the terminal. `--json` prints the document. */
export const planShow = defineSubcommand({
  name: "plan show",
  description:
    "Show a plan as people read it, through PAGER (else less -R) where it is longer than the terminal.",
  args: {
    plan: {
      type: "positional",
      required: true,
      complete: "document",
      description: "path, id, beginning of an id, latest, or -",
    },
    package: {
      type: "positional",
      required: false,
      description: "with --changelog: this package's alone",
    },
    ...CHANGELOG_FLAG,
    ...SUMMARY_FLAG,
    html: { type: "string", valueHint: "file", description: "write the plan as one page, for a browser" },
    page: {
      type: "string",
      valueHint: "n",
      description: "with --json: page n of what changes, in 10 kB at a time, counted from 1",
    },
  },
  async run(values, io) {
    assertJson(values.summary, io);
    const number = pageNumber(values, io);
    assertChangelog(values);
    const { document, hash, path } = await resolveDocument("plan", values.plan, io);
    if (values.html !== undefined) {
      const { planPageText } = await import("./cmd-page-plan.ts");
      writeTyped(resolve(values.html), planPageText(document, { ...contextOf(document, hash, io), hash }));
      io.result(
        { plan_id: document.plan_id, plan_hash: hash, html: values.html },
        `Page: ${safe(values.html)}`,
      );
      return EXIT.ok;
    }
    const about = `Plan ${document.plan_id}, made ${document.created_at}\nHash ${hash}`;
    const { terminal } = io;
    if (values.changelog) {
      const { shownChangelogs } = await import("./cmd-plan-changelog.ts");
      const { found, text: changes } = await shownChangelogs(document, values.package, io);
      const shown = `${changes}\n\n${about}`;
      if (!io.json && isLong(shown, terminal) && (await page(shown, terminal, io.env, 1))) return EXIT.ok;
      io.result({ plan_id: document.plan_id, plan_hash: hash, ...found }, shown);
      return EXIT.ok;
    }
    const context = io.json ? {} : contextOf(document, hash, io);
    const next =
      context.policy?.isDecided === false
        ? [renderSteps([{ who: "you", argv: ["aegis", "policy", document.plan_id.slice(0, 8)] }], terminal)]
        : [];
    const text = io.json ? "" : [renderPlan(document, terminal, context), ...next, about].join("\n\n");
    if (!io.json && isLong(text, terminal) && (await page(text, terminal, io.env, 1))) return EXIT.ok;
    if (number !== null) io.result(planPage(document, hash, number), text);
    else if (values.summary) {
      const decided = document.nothing_to_do ? null : decideNow(document, hash, io.env).result;
      io.result({ summary: planSummary(document, hash, decided), path }, text);
    } else io.result(document, text);
    return EXIT.ok;
  },
});

/**
 * What policy says about the plan: what was decided, where `aegis policy` wrote that down, or else what it would say now. Left out
 * where there is nothing to decide or the policy can't be read, which `aegis policy` reports.
 */
function contextOf(plan: OperationPlan, hash: string, { env }: Io): PlanContext {
  if (plan.nothing_to_do) return {};
  const stored = storedDecision(plan, hash, env);
  try {
    const { result, config } = decideNow(plan, hash, env);
    return {
      sensitive: config.apt.sensitive_packages,
      policy: stored === null ? { result, isDecided: false } : { result: stored, isDecided: true },
    };
  } catch (error) {
    if (!(error instanceof AegisError)) throw error;
    return stored === null ? {} : { policy: { result: stored, isDecided: true } };
  }
}

/** The policy result that is stored for this very plan, or null. */
function storedDecision(plan: OperationPlan, hash: string, env: Io["env"]): PolicyResult | null {
  const found = readStored("policy", documentPath("policy", plan.plan_id, env));
  return found?.document.plan_hash === hash ? found.document : null;
}

/** @throws AegisError `usage` */
function assertChangelog(values: {
  changelog: boolean;
  package?: string | undefined;
  summary: boolean;
  page?: string | undefined;
}) {
  if (!values.changelog && values.package !== undefined)
    throw new AegisError(
      "usage",
      "plan show takes one plan; a package goes with --changelog",
      "Add --changelog.",
    );
  if (values.changelog && (values.summary || values.page !== undefined))
    throw new AegisError(
      "usage",
      "--changelog goes with neither --summary nor --page",
      "Leave one of them out.",
    );
}

/** The page asked for, or null. @throws AegisError `usage` */
function pageNumber(
  { page, summary }: { page?: string | undefined; summary: boolean },
  io: Io,
): number | null {
  if (page === undefined) return null;
  if (!/^[1-9]\d{0,6}$/.test(page))
    throw new AegisError("usage", "--page takes the number of a page: 1, 2 and so on");
  if (io.json && !summary) return Number(page);
  throw new AegisError(
    "usage",
    summary ? "--summary and --page are two answers; ask for one" : "--page goes with --json",
    summary ? "Leave one of them out." : "Add --json; without it the whole plan is shown, through a pager.",
  );
}
