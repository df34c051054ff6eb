import { UUID } from "./canonical.ts";
import { columnsRow, fitColumns } from "./cmd-columns.ts";
import { type Vulnerability, vulnerabilityText } from "./doc-vulnerabilities.ts";
import type { RecordedPackage } from "./eco-record.ts";
import { minuteOf } from "./monitor-events.ts";
import type { ManagedLook, ManagedLooks } from "./monitor-managed.ts";
import {
  bytes,
  columnsOf,
  fit,
  GUTTER,
  padColumns,
  paint,
  plural,
  safe,
  type Terminal,
  wrap,
} from "./terminal.ts";

/*
 * The inventory for people. In a pipe one line for each package, with everything that is known of it; on a terminal a block for each
 * directory, and the executions below.
 */

export interface InstalledPackage extends RecordedPackage {
  signed_by: string | null;
  approved_by: string[];
  /** Null where they are unknown. */
  vulnerabilities:
    | ({ id: string; aliases: string[] } & Pick<
        Vulnerability,
        "severity" | "fixed_version" | "known_exploited" | "epss" | "vex"
      >)[]
    | null;
}

export interface InstalledRoot extends Omit<ManagedLook, "packages" | "deviations"> {
  packages: InstalledPackage[];
  deviations: { path: string; what: string }[];
  deviations_count: number;
}

interface Installed {
  roots: readonly InstalledRoot[];
  executions: ManagedLooks["executions"];
  warnings: readonly string[];
}

/** Deviating paths that a terminal shows for each directory. */
const SHOWN = 20;
const NOTHING = "nothing is installed in managed directories";
const HEADER = [
  ...["ECOSYSTEM", "PACKAGE", "VERSION", "PART OF", "EXECUTION", "SIGNED BY", "APPROVED BY", "FILES"],
  "VULNERABILITIES",
];

/** One full line for each package, for grep. */
export function installedLines({ roots }: Installed): string {
  const rows = roots.flatMap(({ tool, state, packages }) =>
    packages.map((one) => [
      ...[tool ?? "-", one.name, one.version, one.part_of ?? "-", one.execution ?? "none"],
      ...[one.signed_by ?? "-", one.approved_by.join(", ") || "-", state, vulnerabilitiesIn(one)],
    ]),
  );
  if (rows.length === 0) return NOTHING;
  const cells = [HEADER, ...rows].map((row) => row.map((cell) => safe(cell).replaceAll(/ {2,}/g, " ")));
  const widths = HEADER.map((_, i) => Math.max(...cells.map((row) => columnsOf(row[i] ?? ""))));
  return cells
    .map((row) =>
      row
        .map((cell, i) => padColumns(cell, widths[i] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

/** For a terminal. */
export function installedText({ roots, executions, warnings }: Installed, terminal: Terminal): string {
  const shown = roots.filter(({ state, tool }) => state !== "empty" && (tool !== null || state !== "signed"));
  const blocks = shown.map((root) => rootLines(root, terminal));
  if (executions.length > 0)
    blocks.push([
      paint(terminal, "bold", "Executions"),
      ...executions.flatMap((one) => executionLines(one, terminal)),
    ]);
  if (warnings.length > 0) blocks.push(warnings.flatMap((text) => fit(terminal, safe(text), GUTTER)));
  return blocks.length === 0 ? NOTHING : blocks.map((lines) => lines.join("\n")).join("\n\n");
}

function rootLines(root: InstalledRoot, terminal: Terminal): string[] {
  const { tool, path, packages } = root;
  return [
    paint(terminal, "bold", `${tool ?? "commands"}  ${safe(path)}`),
    ...stateLines(root, terminal),
    ...(packages.length === 0 ? [] : packageLines(packages, terminal)),
  ];
}

function stateLines(root: InstalledRoot, terminal: Terminal): string[] {
  const { tool, state, execution, files, bytes: size, problem, deviations, deviations_count: count } = root;
  const line = (text: string) => indented(2, text, terminal);
  const problems = problem === null ? [] : line(safe(problem));
  const content = `${plural(files, tool === null ? "command" : "file")}${tool === null ? "" : `, ${bytes(size)}`}`;
  if (state === "changing")
    return [...line("an execution is changing it: look again when it has ended"), ...problems];
  if (state === "closed") return [...line(`${content} by the log`), ...problems];
  if (state === "signed") {
    const by = execution === null ? "" : `, by execution ${shortId(execution)}`;
    return [...line(`${content}: as signed${by}`), ...problems];
  }
  const named = deviations
    .slice(0, SHOWN)
    .flatMap(({ path, what }) => indented(4, `${safe(path) || "the directory"}: ${safe(what)}`, terminal));
  const rest = count - Math.min(SHOWN, deviations.length);
  const more = rest > 0 ? [`    and ${rest} more (--json has them)`] : [];
  const left = count === 0 ? "" : `: ${plural(count, "path")}`;
  const head = `  ${paint(terminal, "red", `NOT AS SIGNED${left}`)}`;
  const advice = "Install the package again by a signed plan, or have root remove what nobody signed.";
  return [head, ...problems, ...named, ...more, ...indented(2, advice, terminal)];
}

function packageLines(packages: readonly InstalledPackage[], terminal: Terminal): string[] {
  const rows = packages.map((one) => [
    safe(one.part_of === null ? one.name : `${one.name} (in ${one.part_of})`),
    safe(one.version),
    one.execution === null ? "none" : safe(shortId(one.execution)),
    safe(vulnerabilitiesIn(one)),
  ]);
  const header = ["PACKAGE", "VERSION", "EXECUTION", "VULNERABILITIES"];
  const widths = fitColumns([header, ...rows], terminal.width - 2);
  const lines = [header, ...rows].flatMap((row) =>
    columnsRow(row, widths, GUTTER.trimEnd(), false).split("\n"),
  );
  return lines.map((text, n) => (n === 0 ? `  ${paint(terminal, "dim", text)}` : `  ${text}`));
}

function executionLines(
  { id, at, operation, signed_by, approved_by }: ManagedLooks["executions"][number],
  terminal: Terminal,
): string[] {
  const who = `signed by ${signed_by ?? "nobody known"}, approved by ${approved_by.join(", ") || "nobody"}`;
  return [
    ...indented(2, `${safe(shortId(id))}  ${minuteOf(at)}  ${safe(operation ?? "")}`, terminal),
    ...indented(4, safe(who), terminal),
  ];
}

/** Safe text behind `n` spaces, wrapped so that no further line begins like one of ours. */
function indented(n: number, text: string, { width }: Terminal): string[] {
  return wrap(text, width, GUTTER.padStart(n + 2)).map((line, i) => (i === 0 ? " ".repeat(n) + line : line));
}

/** `2: CVE-2020-8203 (high, fixed in 4.17.19), …` */
function vulnerabilitiesIn({ vulnerabilities }: InstalledPackage): string {
  if (vulnerabilities === null) return "unknown";
  if (vulnerabilities.length === 0) return "none known";
  const named = vulnerabilities.map((one) => {
    const name = one.aliases.find((alias) => /^CVE-\d{4}-\d{4,}$/.test(alias)) ?? one.id;
    return vulnerabilityText({ ...one, name: one.id.startsWith("CVE-") ? one.id : name });
  });
  return `${named.length}: ${named.join(", ")}`;
}

/** Commands take the beginning of an id too. */
function shortId(id: string): string {
  return UUID.test(id) ? id.slice(0, 8) : id;
}
