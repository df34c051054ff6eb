import { CONTENT_KEPT, NO_DATA, RECORDED_INVERSE, vulnerabilitiesOfNewVersions } from "./doc-evidence.ts";
import type { OperationPlan } from "./doc-plan.ts";
import { scanScript } from "./policy-scripts.ts";
import { changesSection, type NumberedSource, numberSources } from "./review-changes.ts";
import { commaList, listed, quote, quoteEnds, type Section, word, wordList } from "./review-text.ts";
import { plural } from "./terminal.ts";

/*
 * The plan's structured fields as evidence for the model. Raw command output (`raw_evidence`) is left out, and so is the
 * risk score, which would suggest an answer. Each section has its own budget, so that a long text in one can't crowd out
 * another.
 */

/** Limit per section, in characters; the transaction gets what the others leave. */
const SHARES = {
  request: 1800,
  sources: 2000,
  vulnerabilities: 1800,
  provenance: 1200,
  scripts: 3000,
  facts: 1300,
  warnings: 1800,
  rollback: 900,
} as const;

const MS_PER_DAY = 86_400_000;

/** The plan's evidence in at most `room` characters, and descriptions of what was left out. */
export function evidenceOf(plan: OperationPlan, room: number): { text: string; omitted: string[] } {
  const sources = numberSources(plan);
  const request = titled("Request", requestSection(plan));
  const others = [
    titled("Package sources", sourcesSection([...sources.values()])),
    titled("Known vulnerabilities", vulnerabilitiesSection(plan)),
    titled("Signatures and checksums", provenanceSection(plan)),
    titled("Scripts", scriptsSection(plan)),
    titled("Other facts", factsSection(plan)),
    titled("Warnings of planning", warningsSection(plan)),
    titled("Undoing it", rollbackSection(plan)),
  ];
  const used = [request, ...others].reduce((sum, { text }) => sum + text.length + 2, 0);
  const changes = titled("Changes", changesSection(plan, sources, room - used - "## Changes\n".length));
  const [first, ...rest] = others;
  const all = [request, ...(first === undefined ? [] : [first]), changes, ...rest];
  const text = all.map((section) => section.text).join("\n\n");
  const cuts = text.match(/\\cut\{/g)?.length ?? 0;
  return {
    text,
    omitted: [
      ...all.flatMap(({ omitted }) => omitted),
      ...(cuts === 0 ? [] : [cuts === 1 ? "a part of 1 long text" : `parts of ${cuts} long texts`]),
    ],
  };
}

function titled(title: string, { lines, omitted }: Section): { text: string; omitted: string[] } {
  return { text: [`## ${title}`, ...lines].join("\n"), omitted };
}

function requestSection(plan: OperationPlan): Section {
  const { host } = plan;
  const targets = wordList(plan.targets, 300, ", ");
  const command = wordList(plan.command_preview, 500, " ");
  const lines = [
    `Asked for: ${plan.tool} ${word(plan.operation, 40)}; targets: ${targets.text}`,
    `Command that would run: ${command.text}`,
    `Host: ${word(host.os_id, 40)} ${word(host.os_version, 40)}, ${word(host.architecture, 20)}`,
    `Runs as root: ${yes(plan.requires_root)}. Uses the network: ${yes(plan.network_access)}.`,
    ...(plan.operation === "rollback"
      ? ["It undoes what that execution changed, by the record that the host's executor keeps."]
      : []),
    ...repositoryLinesOf(plan),
    ...(plan.nothing_to_do ? ["Planning says that there is nothing to do."] : []),
    ...(plan.metadata_available ? [] : ["Planning could NOT learn what it needs about the targets."]),
  ];
  const toLine = (d: OperationPlan["denied_targets"][number]) =>
    `- Forbidden target: ${quote(d.target, 150)} (${d.signal})`;
  const denied = listed(plan.denied_targets, toLine, 600, "forbidden target");
  const omitted = [
    ...(targets.left > 0 ? [plural(targets.left, "more target")] : []),
    ...(command.left > 0
      ? [plural(command.left, "more word of the command", "more words of the command")]
      : []),
  ];
  return { lines: [...lines, ...denied.lines], omitted: [...omitted, ...denied.omitted] };
}

/** The file that would be written: whoever made the key chose its names. */
function repositoryLinesOf({ repository }: OperationPlan): string[] {
  if (repository === undefined) return [];
  const { path, before, after, key, previous_key } = repository;
  const what = before === null ? "written" : after === null ? "removed" : "replaced";
  const named = (of: typeof key) =>
    of === null
      ? "none that is embedded"
      : `${of.fingerprint} (${word(of.algorithm, 40)}), calls itself ${quote(of.user_ids[0] ?? "", 80)}`;
  return [
    `No package changes. The file ${word(path, 120)} of package sources would be ${what}.`,
    ...(before === null ? [] : [`Its key now: ${named(previous_key)}`]),
    ...(after === null ? [] : [`Its key afterwards: ${named(key)}`]),
  ];
}

function sourcesSection(sources: readonly NumberedSource[]): Section {
  const toLine = ({ label, source, trust }: NumberedSource) => {
    const named = [source.release_origin, source.release_label, source.release_suite].filter(
      (n) => n !== null,
    );
    const options = [
      ...(source.trusted_option ? ["its signature is NOT checked (trusted=yes)"] : []),
      ...(source.allow_insecure ? ["may be unsigned (allow-insecure)"] : []),
      ...source.problems.slice(0, 3).map((problem) => `problem: ${quote(problem, 80)}`),
    ];
    const itself = named.length === 0 ? [] : [`calls itself ${named.map((n) => word(n, 40)).join(" ")}`];
    return [`- ${label}: ${word(source.id, 120)}`, trust, ...itself, ...options].join("; ");
  };
  if (sources.length === 0) return { lines: ["None is listed."], omitted: [] };
  return listed(sources, toLine, SHARES.sources, "package source");
}

function vulnerabilitiesSection(plan: OperationPlan): Section {
  const coming = vulnerabilitiesOfNewVersions(plan).filter(({ severity }) => severity !== "none");
  const old = plan.vulnerability_evidence.filter(
    (v) => (v.applies_to === "old" || v.also_old === true) && v.id !== NO_DATA,
  );
  if (plan.vulnerability_evidence.length === 0) {
    return { lines: ["No record. Perhaps no database was asked."], omitted: [] };
  }
  const bySeverity = Map.groupBy(coming, ({ severity }) => severity);
  const counts = [...bySeverity].map(([severity, found]) => `${found.length} ${severity}`);
  const head = [
    `In the versions to be installed: ${counts.join(", ") || "none"}.`,
    `In the versions that are installed now: ${old.length}.`,
  ];
  const toLine = (v: (typeof coming)[number]) => {
    const what = `${word(v.package, 80)} ${word(v.version, 60)}`;
    if (v.id === NO_DATA) return `- unknown: ${what}: no data from ${word(v.data_source, 60)}`;
    const fixed = v.fixed_version === null ? "no fix known" : `fixed in ${word(v.fixed_version, 60)}`;
    const differs = v.matched_version !== null && v.matched_version !== v.version;
    const source = differs ? ` (source ${word(v.matched_version ?? "", 60)})` : "";
    const exploited = v.known_exploited === undefined ? "" : ", known to be exploited";
    return `- ${v.severity}${exploited}: ${what}${source} has ${word(v.id, 60)}, ${fixed}`;
  };
  const { lines, omitted } = listed(
    coming,
    toLine,
    SHARES.vulnerabilities - 160,
    "vulnerability",
    "vulnerabilities",
  );
  return { lines: [...head, ...lines], omitted };
}

function provenanceSection(plan: OperationPlan): Section {
  const all = plan.provenance_evidence.filter(({ kind }) => kind !== RECORDED_INVERSE);
  const failed = all.filter(({ verified }) => !verified);
  const head = [
    all.length === 0
      ? "No check is recorded."
      : `Checked and good: ${all.length - failed.length} of ${all.length}.`,
    `Planning's own summary: ${word(plan.signature_or_checksum_status, 60)}.`,
    ...(failed.some(({ kind }) => kind.endsWith("-attestation"))
      ? ["Attestations are not checked yet: that one was not verified says nothing."]
      : []),
  ];
  const toLine = (p: (typeof failed)[number]) =>
    `- NOT verified: ${word(p.kind, 60)} of ${word(p.subject, 120)}: ${quote(p.detail, 160)}`;
  const { lines, omitted } = listed(failed, toLine, SHARES.provenance - 220, "failed check");
  return { lines: [...head, ...lines], omitted };
}

function scriptsSection(plan: OperationPlan): Section {
  const scripts = plan.scripts
    .map((script) => ({ ...script, found: findings(script.body) }))
    .sort((a, b) => b.found.length - a.found.length);
  if (scripts.length === 0) {
    const none = plan.scripts_detected ? "There are some, but their text is not known." : "None are known.";
    const apt =
      plan.tool === "apt" ? [" (Scripts inside of .deb files are not looked at. That is normal.)"] : [];
    return { lines: [none + apt.join("")], omitted: [] };
  }
  // Characters per script text. When there are too many scripts, only the first ones, the worst, fit.
  const body = Math.max(400, Math.floor((SHARES.scripts - 400) / scripts.length) - 250);
  const toLine = ({ package: name, name: script, body: text, found }: (typeof scripts)[number]) =>
    [
      `- ${word(script, 60)} of ${word(name, 80)} (${text.length} characters)`,
      ...found.map((what) => `FOUND: ${what}`),
      `text: ${quoteEnds(text, body)}`,
    ].join("; ");
  return listed(scripts, toLine, SHARES.scripts, "script");
}

function findings(body: string): string[] {
  const { downloadAndExecute, obfuscated } = scanScript(body);
  return [
    ...(downloadAndExecute ? ["it downloads something and runs it"] : []),
    ...(obfuscated ? ["it hides what it does"] : []),
  ];
}

function factsSection(plan: OperationPlan): Section {
  const { published_at, created_at, transitive_dependency_count: dependencies } = plan;
  const days = published_at === null ? 0 : (Date.parse(created_at) - Date.parse(published_at)) / MS_PER_DAY;
  const artifact = [
    ...(plan.mutable_reference ? ["not pinned to one exact version"] : []),
    ...(plan.build_hooks_detected ? ["runs code while it is built"] : []),
    ...(plan.native_code_risk ? ["compiles or loads native code"] : []),
    ...(plan.binary_artifact_risk ? ["carries or downloads binaries"] : []),
  ];
  const lines = [
    ...(plan.source_registry === null ? [] : [`Registry: ${word(plan.source_registry, 120)}`]),
    ...(plan.publisher_or_maintainer === null
      ? []
      : [`Publisher, as the package says: ${quote(plan.publisher_or_maintainer, 160)}`]),
    ...(published_at === null
      ? []
      : [
          days < 0
            ? "Published in the future, it says"
            : `Published ${plural(Math.floor(days), "day")} before this plan`,
        ]),
    ...(plan.deprecated === null
      ? []
      : [`DEPRECATED, as its publisher says: ${quote(plan.deprecated, 240)}`]),
    ...(dependencies === null ? [] : [`Dependencies that come with it: ${dependencies}`]),
    ...(artifact.length === 0 ? [] : [`The package: ${artifact.join(", ")}`]),
    // A fixed vocabulary, so it needs no quoting.
    `Signals: ${commaList(plan.risk_signals, 400)}`,
  ];
  return { lines, omitted: [] };
}

function warningsSection(plan: OperationPlan): Section {
  const failed = plan.raw_evidence.commands.filter(({ outcome }) => outcome !== "ok");
  const items = [
    ...failed.map(
      ({ argv, outcome }) => `- A command of planning: ${wordList(argv, 120, " ").text}: ${outcome}`,
    ),
    ...plan.warnings.map((warning) => `- ${quote(warning, 260)}`),
  ];
  if (items.length === 0) return { lines: ["None."], omitted: [] };
  return listed(items, (item) => item, SHARES.warnings, "warning");
}

function rollbackSection(plan: OperationPlan): Section {
  const { inverse, unobtainable, notes } = plan.rollback_plan;
  const toLine = (note: string) => `- ${quote(note, 160)}`;
  const { lines, omitted } = listed(
    notes,
    toLine,
    SHARES.rollback - 420,
    "note on undoing it",
    "notes on undoing it",
  );
  const isKept = CONTENT_KEPT.notes.every((note) => notes.includes(note));
  const head =
    inverse.length === 0
      ? ["No way back is known."].filter(() => !isKept)
      : [
          `Steps to undo it: ${inverse.length}. Old versions that no source offers any more: ${unobtainable.length}` +
            (unobtainable.length === 0 ? "." : ` (${commaList(unobtainable, 200)}).`),
        ];
  return { lines: [...head, ...lines], omitted };
}

function yes(is: boolean): string {
  return is ? "yes" : "no";
}
