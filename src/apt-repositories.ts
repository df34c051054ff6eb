import { basename } from "node:path";
import { isArmored } from "./apt-armor.ts";
import { type Binding, bindingOf, type GoodSignature, isAllowed } from "./apt-keyring.ts";
import { type ClearSigned, parseRelease, type ReleaseFile, splitClearSigned } from "./apt-release.ts";
import type { AptSource } from "./apt-source.ts";
import type { AptDirs } from "./apt-sources.ts";
import { listFileName } from "./apt-uri.ts";
import { type SignedFiles, Verifier } from "./apt-verifier.ts";
import { sha256Hex } from "./canonical.ts";
import { releaseTime } from "./doc-evidence.ts";
import type { CommandEvidence, RepositoryEvidence } from "./doc-plan-evidence.ts";
import type { Planning } from "./eco-planning.ts";
import { isProtected } from "./sys-fetch.ts";

/** Keyrings of each distribution's archive. Only these make a source `distribution`. */
const ARCHIVE_KEYRINGS: Readonly<Record<string, readonly string[]>> = {
  debian: [
    "/usr/share/keyrings/debian-archive-keyring.pgp",
    "/usr/share/keyrings/debian-archive-keyring.gpg",
  ],
  ubuntu: ["/usr/share/keyrings/ubuntu-archive-keyring.gpg"],
};

/** Whether a source is bound to its distribution's own keyring, whether or not its index is there. */
export function namesArchiveKeyring({ signedBy }: Pick<AptSource, "signedBy">, osId: string): boolean {
  const words = (signedBy ?? "").split(/[ \t\n,]+/);
  return (ARCHIVE_KEYRINGS[osId] ?? []).some((path) => words.includes(path));
}

/** Transports for local files: anyone who can write there decides what is installed. */
const LOCAL_TRANSPORTS: readonly string[] = ["file", "copy", "cdrom"];
const WEB_TRANSPORT = /^(?:(?:mirror|tor)\+)?https?$/;

/** Tolerance for a clock behind the index. */
const FUTURE_MS = 3_600_000;

/** The problem of a source that apt has not fetched yet. */
export const NO_INDEX = "no index on disk: run `apt-get update`";

/** Evidence about the sources. */
export interface Repositories {
  evidence: RepositoryEvidence[];
  commands: CommandEvidence[];
  warnings: string[];
}

/** A source's Release file on disk. */
interface Index {
  text: string;
  /** The signed part; null if malformed. */
  release: ReleaseFile | null;
  /** Null if unsigned. */
  signed: SignedFiles | null;
}

/** A file of a source's index; null if there is none. */
export type IndexFile = (
  source: AptSource,
  name: "InRelease" | "Release" | "Release.gpg",
) => { path: string; text: string } | null;

/**
 * Evidence about every source: its Release file's fields, whether a signature matches its keys, and the resulting
 * trust. Signatures are verified in parallel, once per pair of index and keys. The indexes are those that apt has downloaded, unless
 * `fetched` gives others.
 */
export async function inspectRepositories(
  sources: readonly AptSource[],
  dirs: AptDirs,
  planning: Planning,
  fetched?: IndexFile,
): Promise<Repositories> {
  const downloaded: IndexFile = (source, name) => {
    const path = `${dirs.lists}/${listFileName(source, name)}`;
    const text = planning.readText(path);
    return text === null ? null : { path, text };
  };
  const missing = fetched === undefined ? NO_INDEX : "its index was not fetched";
  const verifier = new Verifier(planning);
  const archiveKeyrings = (ARCHIVE_KEYRINGS[planning.host.os_id] ?? []).filter(
    (path) => planning.readText(path) !== null,
  );
  const bindings = new Map<string, Binding>();
  const evidence = await Promise.all(
    sources.map(async (source) => {
      const index = readIndex(source, fetched ?? downloaded, planning);
      const binding = bindings.get(source.signedBy ?? "") ?? bindingOf(source, dirs, planning);
      bindings.set(source.signedBy ?? "", binding);
      // Both names are the same file; using the source's name lets one run answer both questions.
      const archiveKeyring =
        archiveKeyrings.find((path) => binding.keyrings.includes(path)) ?? archiveKeyrings[0];
      const verify = (keyrings: readonly string[]) =>
        index?.signed == null ? [] : verifier.verify(index.signed, keyrings);
      const [own, archive] = await Promise.all([
        verify(binding.keyrings),
        verify(archiveKeyring === undefined ? [] : [archiveKeyring]),
      ]);
      const good = own.filter((signature) => isAllowed(signature, binding.fingerprints));
      const byArchive = good.some((a) => archive.some((b) => a.primary === b.primary));
      const unverified = verifier.missing ? ["its signature can't be verified without gpgv or sqv"] : [];
      const problems = [...binding.problems, ...unverified];
      return evidenceOf(source, index ?? missing, problems, good, byArchive, planning.now);
    }),
  );
  const warnings = verifier.missing
    ? [
        "neither gpgv nor sqv is installed, so no repository signature could be verified: run `apt-get install gpgv`",
      ]
    : [];
  const old = evidence.flatMap(({ id, snapshot }) =>
    snapshot === undefined
      ? []
      : [
          `${id} is as of ${snapshot.as_of.slice(0, 10)}: what was published since, security updates too, isn't in it`,
        ],
  );
  return { evidence, commands: verifier.commands(), warnings: [...warnings, ...old] };
}

function readIndex(source: AptSource, file: IndexFile, planning: Planning): Index | null {
  const inRelease = file(source, "InRelease");
  if (inRelease !== null) {
    const parts = splitClearSigned(inRelease.text);
    return {
      text: inRelease.text,
      release: parts === null ? null : parseRelease(parts.text),
      signed: parts === null ? null : clearSigned(inRelease.path, parts, planning),
    };
  }
  const release = file(source, "Release");
  if (release === null) return null;
  const signature = file(source, "Release.gpg");
  const detached = [signature?.path ?? "", release.path] as const;
  return {
    text: release.text,
    release: parseRelease(release.text),
    signed: signature === null ? null : { clearSigned: detached, detached: () => detached },
  };
}

/** sqv gets an InRelease split in two, as apt's own method does: the text used here is then the text verified. */
function clearSigned(file: string, parts: ClearSigned, planning: Planning): SignedFiles {
  let files: readonly [string, string] | undefined;
  const name = basename(file)
    .replaceAll(/[^A-Za-z0-9._-]/g, "-")
    .slice(-200);
  return {
    clearSigned: [file],
    detached() {
      files ??= [
        planning.temporary(`signature-of-${name}`, parts.signatures),
        planning.temporary(`text-of-${name}`, parts.text),
      ];
      return files;
    },
  };
}

/** `found`: the index, or why there is none. */
function evidenceOf(
  source: AptSource,
  found: Index | string,
  before: readonly string[],
  good: readonly GoodSignature[],
  byArchive: boolean,
  now: Date,
): RepositoryEvidence {
  const transport = /^([A-Za-z0-9+.-]+):/.exec(source.uri)?.[1]?.toLowerCase() ?? "";
  const index = typeof found === "string" ? null : found;
  const release = index?.release ?? null;
  const problems = [...before];
  if (source.trusted) problems.push("trusted=yes disables verification");
  if (source.allowInsecure) problems.push("an allow-insecure option weakens verification");
  if (LOCAL_TRANSPORTS.includes(transport)) problems.push(`${transport}: is a place on this host`);
  if (typeof found === "string") problems.push(found);
  else if (found.signed === null) problems.push("its index is not signed");
  else if (found.release === null) problems.push("its index can't be read as apt reads it");
  else if (good.length === 0) problems.push("no good signature by a key it is bound to");
  if (release !== null && !isOfSuite(release, source.suite)) {
    problems.push(`its index is of ${describeSuite(release)}, not of ${source.suite}`);
  }
  const dated = release?.date == null ? null : releaseTime(release.date);
  if (dated !== null && dated > now.getTime() + FUTURE_MS) problems.push("its index is dated in the future");
  const snapshot = snapshotOf(source.uri);
  const asOf = snapshot === null ? null : Date.parse(snapshot.as_of);
  if (asOf !== null && asOf > now.getTime()) problems.push("its address names a moment still to come");
  if (asOf !== null && dated !== null && dated > asOf + FUTURE_MS)
    problems.push("its index is younger than the moment that its address names");
  let isExpired = false;
  if (release?.validUntil) {
    const until = releaseTime(release.validUntil);
    if (until === null) problems.push("its Valid-Until can't be read");
    else if (asOf !== null && until < asOf)
      problems.push("its index had expired already at the moment that its address names");
    else if (until < now.getTime() && asOf !== null && byArchive) isExpired = true;
    else if (until < now.getTime()) problems.push("its index has expired: run `apt-get update`");
  }
  const facts = { ...source, transport };
  return {
    id: short(source.id),
    uri: short(source.uri),
    suite: short(source.suite),
    components: source.components,
    configured_in: short(source.configuredIn),
    signed_by:
      source.signedBy === null ? null : isArmored(source.signedBy) ? "embedded" : short(source.signedBy),
    trusted_option: source.trusted,
    allow_insecure: source.allowInsecure,
    transport,
    release_origin: shortOrNull(release?.origin),
    release_label: shortOrNull(release?.label),
    release_suite: shortOrNull(release?.suite),
    release_codename: shortOrNull(release?.codename),
    release_date: shortOrNull(release?.date),
    release_valid_until: shortOrNull(release?.validUntil),
    release_sha256: index === null ? null : sha256Hex(index.text),
    signature_verified: good.length > 0,
    key_fingerprints: [...new Set(good.map((signature) => signature.primary))].slice(0, 32),
    trust: trustOf(facts, byArchive, problems, isExpired),
    ...(snapshot === null ? {} : { snapshot }),
    problems: problems.map(short).slice(0, 32),
  };
}

/** `https://snapshot.debian.org/archive/debian/20260101T000000Z`, `https://snapshot.ubuntu.com/ubuntu/20260101T000000Z`. */
const SNAPSHOT = /\/(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z(?:\/|$)/;

/**
 * The service and the moment that a source's address names; null for one that names none, or that others could answer for. By the
 * address alone: whether the service counts, the policy says.
 */
function snapshotOf(uri: string): { service: string; as_of: string } | null {
  const url = URL.parse(uri);
  const [, year, month, day, hour, minute, second] = SNAPSHOT.exec(url?.pathname ?? "") ?? [];
  if (url === null || year === undefined || !isProtected(url)) return null;
  const as_of = `${year}-${month}-${day}T${hour}:${minute}:${second}.000Z`;
  const time = Date.parse(as_of);
  // A day such as February 30th is read as another one.
  if (!Number.isFinite(time) || new Date(time).toISOString() !== as_of) return null;
  return { service: url.host, as_of };
}

/**
 * Whether an index is for the source's suite, by Suite or Codename. apt only warns about a mismatch
 * (metaIndex::CheckDist, apt-pkg/metaindex.cc): a mirror could answer for `stable` with any suite its signer ever
 * signed.
 */
function isOfSuite({ suite, codename }: ReleaseFile, named: string): boolean {
  const names = [suite, codename];
  if (names.includes(named)) return true;
  const end = named.lastIndexOf("/");
  const start = end < 0 ? named : named.slice(0, end);
  return start === "" || start === "." || names.includes(start);
}

function describeSuite({ suite, codename }: ReleaseFile): string {
  if (suite === null && codename === null) return "no suite";
  return codename === null || codename === suite ? `suite ${suite}` : `suite ${suite ?? "?"} (${codename})`;
}

/**
 * Any problem means untrusted; then the distribution's key counts most (where its index has expired, as a snapshot), a pinned key less, and a key in apt's default
 * keyrings least.
 */
function trustOf(
  { signedBy, transport }: Pick<AptSource, "signedBy"> & { transport: string },
  byArchive: boolean,
  problems: readonly string[],
  isExpired: boolean,
): RepositoryEvidence["trust"] {
  if (problems.length > 0) return "untrusted";
  if (byArchive) return isExpired ? "snapshot" : "distribution";
  if (!WEB_TRANSPORT.test(transport)) return "untrusted";
  return signedBy === null ? "weak" : "pinned";
}

function short(text: string): string {
  return text.toWellFormed().slice(0, 1024).toWellFormed();
}

function shortOrNull(text: string | null | undefined): string | null {
  return text === null || text === undefined ? null : short(text);
}
