import { checkedTrust } from "./doc-evidence.ts";
import type { OperationPlan } from "./doc-plan.ts";
import type { RepositoryEvidence } from "./doc-plan-evidence.ts";
import { type ConfiguredRepository, groupedFingerprint, type RepositoryKey } from "./doc-repository.ts";
import { GUTTER, paint, plural, safe, safeStart, type Terminal, wrap } from "./terminal.ts";

/*
 * A repository that a plan adds, replaces or removes, for people: the file to the word, its key by fingerprint, what its index says of
 * itself, and what it means for later plans.
 */

/** Limits on the lines of a file, on the characters of a line, and on the user ids of a key. */
const LINES = 40;
const LINE_SHOWN = 300;
const USER_IDS = 4;
const LISTED = 8;
/** Newer versions that are named. */
const OFFERED = 20;

export function renderRepository(plan: OperationPlan, terminal: Terminal): string {
  const { repository: change } = plan;
  if (change === undefined) return "";
  const paragraph = (text: string) => wrap(text, terminal.width, GUTTER);
  const key = (title: string, of: RepositoryKey | null) =>
    of === null ? [] : ["", ...paragraph(`${title} ${keyText(of)}`), ...userIds(of).flatMap(paragraph)];
  const isOther = change.previous_key?.fingerprint !== change.key?.fingerprint;
  return [
    ...heading(change).flatMap((line) => wrap(line, terminal.width, GUTTER)),
    ...(change.before === null ? [] : fileLines("−", change.before, terminal)),
    ...(change.after === null ? [] : fileLines("+", change.after, terminal)),
    ...(isOther ? key(change.after === null ? "Its key:" : "Old key:", change.previous_key) : []),
    ...key("Key:", change.key),
    "",
    ...plan.repository_evidence.flatMap((source) => paragraph(indexText(source))),
    ...offers(plan).flatMap((text) => [
      "",
      `${paint(terminal, "yellow", "!")} ${paragraph(text).join("\n")}`,
    ]),
    ...meaning(change).flatMap((text) => ["", ...wrap(text, terminal.width, "  ")]),
  ].join("\n");
}

/** The same in a few lines, for above the question to an approver: file, addresses and keys. None of a plan without one. */
export function repositoryLines(plan: OperationPlan, terminal: Terminal): string[] {
  const { repository: change, repository_evidence } = plan;
  if (change === undefined) return [];
  const { path, before, after, key, previous_key } = change;
  const isOther = previous_key?.fingerprint !== key?.fingerprint;
  const [symbol, what] =
    before === null ? ["+", "a new file"] : after === null ? ["−", "removed"] : ["↻", "replaced"];
  const of = (title: string, one: RepositoryKey | null) =>
    one === null ? [] : [`  ${title} ${groupedFingerprint(one.fingerprint)}`];
  return [
    `${symbol} ${safe(path)}, ${what}`,
    ...repository_evidence.slice(0, LISTED).map(({ id }) => `  from ${safeStart(id, LINE_SHOWN)}`),
    ...(isOther ? of("old key", previous_key) : []),
    ...of("key", key),
  ].flatMap((line) => wrap(line, terminal.width, GUTTER));
}

function heading({ path, before, after }: ConfiguredRepository): string[] {
  if (before === null) return [`+ ${safe(path)}, a new file:`];
  return [
    after === null ? `− ${safe(path)} would be removed:` : `↻ ${safe(path)} would be replaced, − by +:`,
  ];
}

/** The lines of a file, but for those of an embedded key, which is told by its fingerprint. */
function fileLines(sign: string, text: string, terminal: Terminal): string[] {
  const lines = text.trimEnd().split("\n");
  const begin = lines.findIndex((line) => line.includes("-----BEGIN PGP"));
  const end = lines.findIndex((line) => line.includes("-----END PGP"));
  const shown =
    begin < 0 || end < begin
      ? lines
      : [...lines.slice(0, begin), ` (the key, ${end - begin + 1} lines)`, ...lines.slice(end + 1)];
  const more = shown.length - LINES;
  return [
    ...shown.slice(0, LINES).flatMap((line) => {
      const [first = "", ...rest] = wrap(safeStart(line, LINE_SHOWN), terminal.width - 4, GUTTER);
      return [`  ${paint(terminal, sign === "+" ? "green" : "yellow", sign)} ${first}`, ...rest];
    }),
    ...(more > 0 ? [`  ${sign} and ${more} more lines (--json has all)`] : []),
  ];
}

/** `9DC8 5822 …, RSA 4096, made 2017-02-22, does not expire` */
function keyText({
  fingerprint,
  algorithm,
  created_at,
  expires_at,
  revoked,
  weak = [],
}: RepositoryKey): string {
  const until = expires_at === null ? "does not expire" : `expires ${expires_at.slice(0, 10)}`;
  return [
    groupedFingerprint(fingerprint),
    safe(algorithm),
    `made ${created_at.slice(0, 10)}`,
    until,
    ...(revoked ? ["REVOKED"] : []),
    ...weak.map((why) => `weak: ${safe(why)}`),
  ].join(", ");
}

/** Whoever made the key chose its names. */
function userIds({ user_ids }: RepositoryKey): string[] {
  if (user_ids.length === 0) return ["It names nobody."];
  const more = user_ids.length - USER_IDS;
  const names = user_ids
    .slice(0, USER_IDS)
    .map((id) => `"${safeStart(id, LINE_SHOWN).replaceAll('"', '\\"')}"`);
  return [
    `It calls itself ${names.join(", ")}${more > 0 ? ` and ${more} more` : ""}; nobody has checked that.`,
  ];
}

function indexText(source: RepositoryEvidence): string {
  const name = safeStart(source.id, LINE_SHOWN);
  const isFetched = source.release_sha256 !== null;
  const good = source.key_fingerprints.map(groupedFingerprint).join(", ");
  const signed =
    checkedTrust(source) === "untrusted"
      ? source.problems.map((text) => safeStart(text, LINE_SHOWN)).join(", ") || "no verified signature"
      : `signed by ${good}${checkedTrust(source) === "distribution" ? ", a key of the distribution" : ""}`;
  const quoted = (text: string) => `"${safeStart(text, LINE_SHOWN).replaceAll('"', '\\"')}"`;
  const says = [
    ...(source.release_origin === null ? [] : [`origin ${quoted(source.release_origin)}`]),
    ...(source.release_label === null ? [] : [`label ${quoted(source.release_label)}`]),
    ...(source.release_suite === null ? [] : [`suite ${quoted(source.release_suite)}`]),
    ...(source.release_date === null ? [] : [`of ${safeStart(source.release_date, 40)}`]),
    ...(source.release_valid_until === null
      ? []
      : [`valid until ${safeStart(source.release_valid_until, 40)}`]),
  ];
  return `Index ${name}: ${signed}${isFetched && says.length > 0 ? `; it says: ${says.join(", ")}` : ""}`;
}

/** What the next upgrade would take from it. */
function offers({ outlook }: OperationPlan): string[] {
  return (outlook?.repository ?? []).flatMap(
    ({ source, packages, automatic, newer, newer_left_out: left }) => {
      if (newer.length === 0) return [];
      const names = newer
        .slice(0, OFFERED)
        .map((one) => safeStart(`${one.package} ${one.from} → ${one.to}`, LINE_SHOWN));
      const more = newer.length + left - names.length;
      const how = automatic ? "an upgrade would take them" : "an upgrade takes them only by name";
      return [
        `${safeStart(source, LINE_SHOWN)} has newer versions of ${plural(newer.length + left, "installed package")} among its ${packages}; ${how}: ${names.join(", ")}${more > 0 ? ` and ${more} more` : ""}`,
      ];
    },
  );
}

/** What it means for later plans. */
function meaning({ before, after }: ConfiguredRepository): string[] {
  if (after === null) return ["Packages that came from it stay installed and get no updates any more."];
  const isNew = before === null;
  return [
    `${isNew ? "Nothing is installed by this. " : ""}After the next update (aegis plan apt update) its packages can be asked for like any others, and an upgrade may take newer versions of installed packages from it. Later plans count them as a third party's with a pinned key.`,
  ];
}
