import type { ChangelogEntry } from "./apt-changelog.ts";
import { changelogsOf, MOST_CHANGELOGS, type PackageChangelog } from "./apt-changelogs.ts";
import { assertChangelogs } from "./cmd-decide.ts";
import type { Io } from "./command.ts";
import type { OperationPlan } from "./doc-plan.ts";
import type { Planning } from "./eco-planning.ts";
import { AegisError } from "./errors.ts";
import type { Env } from "./paths.ts";
import { userPlanningEnv } from "./plan-env.ts";
import { changeGroups } from "./plan-groups.ts";
import { openPlanning } from "./plan-world.ts";
import { readText } from "./sys-files.ts";
import { GUTTER, paint, plural, quoteWord, safe, safeStart, type Terminal, wrap } from "./terminal.ts";

/* `--changelog`: what the new versions of an apt plan change, as their changelogs say. */

/** Changelogs, and how many source packages were not asked about. */
export interface Changelogs {
  changelogs: PackageChangelog[];
  left_out: number;
}

/** Limits on the entries of a package and on the lines of one entry, on the screen. */
const ENTRIES_SHOWN = 20;
const LINES_SHOWN = 60;
const CHARACTERS = 300;

/**
 * The changelogs of a plan's packages, the most important first, or of one of them alone.
 * @throws AegisError `usage` for another ecosystem's plan, and for a package that the plan does not bring
 */
export async function planChangelogs(
  plan: OperationPlan,
  only: string | undefined,
  env: Env,
  open: () => Pick<Planning, "run" | "get" | "readText"> & { close(): void } = () =>
    openPlanning({ env: userPlanningEnv(env, readText), outlook: false }),
): Promise<Changelogs> {
  assertChangelogs(true, plan.tool);
  const all = changeGroups(plan)
    .flatMap(({ changes }) => changes.map(({ entry }) => entry))
    .filter(({ action }) => action === "install" || action === "upgrade");
  const named = all.find(({ name, to_source }) => name === only || to_source?.name === only);
  if (only !== undefined && named === undefined) {
    throw new AegisError(
      "usage",
      `the plan brings no new version of ${safe(only)}`,
      "Name a package of the plan, or none.",
    );
  }
  const sourceOf = ({ to_source, name }: (typeof all)[number]) => to_source?.name ?? name;
  const wanted = named === undefined ? all : all.filter((entry) => sourceOf(entry) === sourceOf(named));
  const planning = open();
  try {
    const changelogs = await changelogsOf(plan, wanted, planning);
    const sources = new Set(wanted.map(sourceOf)).size;
    return { changelogs, left_out: Math.max(0, sources - MOST_CHANGELOGS) };
  } finally {
    planning.close();
  }
}

/** {@link planChangelogs} and {@link renderChangelogs} in one. */
export async function shownChangelogs(
  plan: OperationPlan,
  only: string | undefined,
  { env, terminal }: Pick<Io, "env" | "terminal">,
) {
  const found = await planChangelogs(plan, only, env);
  return { found, text: renderChangelogs(found, terminal) };
}

/** Changelogs for people. Every line of theirs stands behind a bar. No trailing newline. */
export function renderChangelogs({ changelogs, left_out }: Changelogs, terminal: Terminal): string {
  const blocks = changelogs.map((one) => packageBlock(one, terminal).join("\n"));
  const more =
    left_out === 0 ? [] : [`and ${plural(left_out, "more source package")}: name one of its packages`];
  const none = blocks.length === 0 ? ["No new version, so no changelog."] : [];
  return [...blocks, ...none, ...more].join("\n\n");
}

function packageBlock(
  { source, from, to, packages, entries, problem }: PackageChangelog,
  terminal: Terminal,
): string[] {
  const versions = [from, to].filter((version) => version !== null).join(" → ");
  const others =
    packages.length === 1 && packages[0] === source ? "" : `: ${packages.map(quoteWord).join(" ")}`;
  const title = `Changelog of ${safe(source)} ${safe(versions)}${others}`;
  const hidden = entries.length - ENTRIES_SHOWN;
  return [
    ...wrap(title, terminal.width, GUTTER).map((line) => paint(terminal, "bold", line)),
    ...entries.slice(0, ENTRIES_SHOWN).flatMap((entry) => entryLines(entry, terminal)),
    ...(hidden > 0 ? [`  and ${plural(hidden, "older entry", "older entries")} (--json has all)`] : []),
    ...(problem === null ? [] : wrap(`Not had: ${safeStart(problem, CHARACTERS)}`, terminal.width, GUTTER)),
  ];
}

function entryLines(entry: ChangelogEntry, terminal: Terminal): string[] {
  const { version, distributions, urgency, by, date, lines, cves, closes } = entry;
  const isUrgent = ["high", "emergency", "critical"].includes(urgency);
  const bugs = [
    ...closes.debian.map((n) => `Debian bug ${n}`),
    ...closes.launchpad.map((n) => `Launchpad bug ${n}`),
  ];
  const facts: [text: string, style: "yellow" | "bold" | null][] = [
    [
      [version, distributions, ...(urgency === "" ? [] : [`urgency ${urgency}`]), date, by]
        .filter((one) => one !== "")
        .join("  "),
      isUrgent ? "yellow" : "bold",
    ],
    [cves.length === 0 ? "" : `names ${cves.join(", ")}`, "yellow"],
    [bugs.length === 0 ? "" : `closes ${bugs.join(", ")}`, null],
  ];
  const within = terminal.width - 2;
  const head = facts.flatMap(([text, style]) =>
    text === ""
      ? []
      : wrap(safeStart(text, 2 * CHARACTERS), within, GUTTER).map(
          (line) => `  ${style === null ? line : paint(terminal, style, line)}`,
        ),
  );
  const more = lines.length - LINES_SHOWN;
  const body = lines.slice(0, LINES_SHOWN).flatMap((line) => {
    const text = safeStart(line.replaceAll("\t", "  "), CHARACTERS);
    const indent = /^ */.exec(text)?.[0].slice(0, 12) ?? "";
    // Names what it fixes, so that it stands out among what else changed.
    const isMarked = /CVE-\d{4}-\d{4,}/i.test(text);
    return wrap(text.trim(), terminal.width - 2 - indent.length, "").map((part) =>
      `${GUTTER}${indent}${isMarked ? paint(terminal, "yellow", part) : part}`.trimEnd(),
    );
  });
  return [
    ...head,
    ...body,
    ...(more > 0 ? [`${GUTTER}… and ${plural(more, "more line")} (--json has all)`] : []),
  ];
}
