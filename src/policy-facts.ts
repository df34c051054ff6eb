import { madeSubject } from "./apt-argv.ts";
import { bringsBack, CONTENT_REPLACED, RECORDED_INVERSE } from "./doc-evidence.ts";
import { isFetched, isMark, type Tool, type TransactionEntry } from "./doc-plan.ts";
import type { ProvenanceEvidence } from "./doc-plan-evidence.ts";
import type { PolicyConfig } from "./policy-config.ts";
import type { Facts } from "./policy-rule.ts";

/*
 * Questions that the rules ask about a plan. Answers come from the transaction, the evidence and the targets, never from
 * `risk_signals`, `risk_score` or `warnings`, which a forged plan could leave out.
 */

/** The tools whose packages are artifacts of a registry. */
export type ArtifactTool = Exclude<Tool, "apt" | "services">;

export const MS_PER_DAY = 86_400_000;

/** The package's name without `:arch`. */
export function nameOf(entry: TransactionEntry): string {
  return entry.name.replace(/:.*$/, "");
}

export type AptOperation =
  | "update"
  | "upgrade"
  | "install"
  | "remove"
  | "full-upgrade"
  | "security-upgrade"
  | "autoremove"
  | "purge"
  | "rollback"
  | "repair"
  | "hold"
  | "unhold"
  | "add-repository"
  | "remove-repository";

export function isOperation(f: Facts, operation: AptOperation): boolean {
  return f.plan.tool === "apt" && f.plan.operation === operation;
}

/**
 * Whether this change was requested: a removal named by a target of `apt remove` or `purge`, any of `autoremove`, or a change
 * that undoes a recorded execution of this host. The executor compares both with its own plan, which reads its own record. Anything else that apt
 * would remove or downgrade is a side effect.
 */
export function isRequested(f: Facts, entry: TransactionEntry): boolean {
  const { architecture: native } = f.plan.host;
  if (isOperation(f, "autoremove")) return entry.action === "remove";
  if ((isOperation(f, "remove") || isOperation(f, "purge")) && f.targets.invalid.length === 0) {
    const spellings = [`${nameOf(entry)}:${entry.architecture}`];
    if ([native, "all"].includes(entry.architecture))
      spellings.push(nameOf(entry), `${nameOf(entry)}:${native}`);
    return entry.action === "remove" && f.plan.targets.some((target) => spellings.includes(target));
  }
  if (!isOperation(f, "rollback") || f.targets.invalid.length > 0) return false;
  const subject = madeSubject(entry);
  return f.plan.provenance_evidence.some(
    (p) => p.kind === RECORDED_INVERSE && p.verified && p.subject === subject,
  );
}

/** Whether the host is already in the requested state. The plan's claim alone is not enough, and an update is never idle. */
export function isIdle(f: Facts): boolean {
  const { nothing_to_do, transaction, repository } = f.plan;
  return nothing_to_do && transaction.length === 0 && repository === undefined && !isOperation(f, "update");
}

/**
 * The settings of the plan's ecosystem; null for apt and services, or if there is no artifact to judge. A rollback has none: it fetches nothing, and
 * what it brings back was judged when it was installed.
 */
export function artifactSettings(f: Facts): PolicyConfig[ArtifactTool] | null {
  if (bringsBack(f.plan)) return null;
  const { tool } = f.plan;
  const hasArtifacts = tool !== "apt" && tool !== "services" && !isIdle(f) && f.targets.denied.length === 0;
  return hasArtifacts ? f.config[tool] : null;
}

/** Names of the apt packages of the transaction that match `test`. */
export function packages(f: Facts, test: (entry: TransactionEntry) => boolean): string[] {
  return entriesOfApt(f)
    .filter(test)
    .map((e) => e.name);
}

/** The transaction of an apt plan; empty for others. */
export function entriesOfApt({ plan }: Facts): readonly TransactionEntry[] {
  return plan.tool === "apt" ? plan.transaction : [];
}

/** Units of the transaction, also those that are restarted with others, for which `test` holds. */
export function units({ plan }: Pick<Facts, "plan">, test: (unit: string) => boolean): string[] {
  return plan.tool === "services" ? plan.transaction.map(({ name }) => name).filter(test) : [];
}

/** The same of the packages that change otherwise than by a hold. */
export function changedPackages(f: Facts, test: (entry: TransactionEntry) => boolean): string[] {
  return packages(f, (e) => !isMark(e) && test(e));
}

/**
 * Planning commands that ended with one of `outcomes`. Except gpgv and sqv: a signature that can't be verified makes its
 * source untrusted, which matters only to packages from that source.
 */
export function commandsThat(f: Facts, ...outcomes: string[]): string[] {
  return f.plan.raw_evidence.commands
    .filter((c) => !["gpgv", "sqv"].includes(c.argv[0] ?? "") && outcomes.includes(c.outcome))
    .map((c) => `${c.argv.join(" ")} (${c.outcome})`);
}

/**
 * Whether planning must have run a command: it runs none for `apt update`, a managed root's rollback or a denied target, nor for NuGet,
 * whose source answers by itself.
 */
export function needsCommands(f: Facts): boolean {
  const isAskedByGet = f.plan.tool === "nuget";
  return !isAskedByGet && !isOperation(f, "update") && !bringsBack(f.plan) && f.targets.denied.length === 0;
}

/** Scripts whose text matches `test`. */
export function scriptsThat(f: Facts, test: (body: string) => boolean): string[] {
  return f.plan.scripts.filter((s) => test(s.body)).map((s) => `${s.package} ${s.name}`);
}

/** Crates whose code runs while they are built. Plans name build scripts one by one, and tell of macros that there are some. */
export function cratesThatRun({ plan }: Facts): string[] {
  if (plan.tool !== "cargo") return [];
  const scripts = plan.scripts.map(({ package: name, name: path }) => `${name} ${path}`);
  return scripts.length === 0 && plan.build_hooks_detected ? ["procedural macros"] : scripts;
}

/** Whether a target leaves its version open, by what was requested or by what the plan says of it. */
export function isMutable(f: Facts): boolean {
  return f.plan.mutable_reference || f.targets.mutable;
}

/** Whether planning found one version for every target. */
export function isResolved({ plan: { exact_targets, targets } }: Facts): boolean {
  return exact_targets.length === targets.length;
}

/**
 * Package files of the transaction, dependencies included, without verified evidence of this kind; without a transaction, the
 * targets. The evidence's `subject` is the package with its exact version, as the ecosystem writes it.
 */
export function unverifiedArtifacts(
  f: Pick<Facts, "plan" | "config">,
  kind: (kind: string, key: string | null) => boolean,
): string[] {
  const { provenance_evidence, transaction, exact_targets, targets } = f.plan;
  const counts = (p: ProvenanceEvidence) => p.verified && kind(p.kind, p.key) && !isByStranger(f, p);
  const good = new Set(provenance_evidence.filter(counts).map((p) => p.subject));
  const files = transaction.filter(isFetched);
  if (files.length === 0)
    return (exact_targets.length > 0 ? exact_targets : targets).filter((one) => !good.has(one));
  return files
    .map(({ name, to_version }) => [`${name}@${to_version}`, `${name}==${to_version}`] as const)
    .filter((spellings) => !spellings.some((one) => good.has(one)))
    .map(([at, equals]) => (f.plan.tool === "pip" ? equals : at));
}

/** A signature by a certificate says whose it is, and not that the policy knows them. */
function isByStranger({ config }: Pick<Facts, "config">, { kind, key }: ProvenanceEvidence): boolean {
  const known: Readonly<Record<string, readonly string[]>> = {
    "nuget-author-signature": config.nuget.authors,
    "vscode-cms-signature": config.vscode.certificates,
  };
  const ours = Object.hasOwn(known, kind) ? known[kind] : undefined;
  return ours !== undefined && (key === null || !ours.includes(key));
}

/** The execution whose rollback would bring back content that did not all come by executions, where it is one. */
export function unaccountedContent(f: Facts): string[] {
  if (!bringsBack(f.plan) || isIdle(f)) return [];
  const { provenance_evidence, targets } = f.plan;
  return provenance_evidence.some(({ kind, verified }) => kind === CONTENT_REPLACED && verified)
    ? []
    : targets;
}

/** Hosts that metadata and artifacts come from; `unknown` if the plan names no registry. */
export function registries(f: Pick<Facts, "plan">): string[] {
  const origins = f.plan.transaction.flatMap((e) => (e.origin === null ? [] : [e.origin]));
  const named = [...(f.plan.source_registry ?? "unknown").split(" "), ...origins];
  return named.map((text) =>
    text
      .toLowerCase()
      .replace(/^[a-z+]+:\/\//, "")
      .replace(/\/.*$/, ""),
  );
}

/**
 * Package files published less than so many days before the plan was made, or on an unknown day. Where the plan has no date of
 * each, the one of its single target counts for all.
 */
export function publishedTooLately(f: Facts, days: number): string[] {
  const { transaction, published_at: ofTarget, created_at } = f.plan;
  const isOld = (published: string | null | undefined) =>
    typeof published === "string" && Date.parse(created_at) - Date.parse(published) >= days * MS_PER_DAY;
  const files = transaction.filter(isFetched);
  const isClosure = files.some(({ url }) => url !== undefined);
  if (!isClosure) return isOld(ofTarget) ? [] : f.plan.targets;
  return files
    .filter(({ published_at }) => !isOld(published_at))
    .map((one) => `${one.name} ${one.to_version}`);
}

/** Packages whose publisher has published them for less than `days` days, after somebody else had. */
export function newlyPublished(f: Facts, days: number): string[] {
  const { created_at, transaction } = f.plan;
  return transaction.flatMap(({ name, to_version, publisher_since: since }) =>
    since === undefined || Date.parse(created_at) - Date.parse(since) >= days * MS_PER_DAY
      ? []
      : [`${name}@${to_version} (since ${since})`],
  );
}

/** Packages that deserve less trust than they ask for or than earlier versions had, and why. */
export function lessTrusted(f: Facts): string[] {
  return f.plan.transaction.flatMap(({ name, to_version, trust_downgrade }) =>
    trust_downgrade === undefined ? [] : [`${name}@${to_version} (${trust_downgrade})`],
  );
}
