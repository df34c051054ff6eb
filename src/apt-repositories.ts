import { isArmored } from "./apt-armor.ts";
import type { AptDirs } from "./apt-dirs.ts";
import { type GoodSignature, parseGpgStatus } from "./apt-gpgv.ts";
import { clearSignedText, parseRelease, type ReleaseFile, releaseTime } from "./apt-release.ts";
import { type Binding, bindingOf, isAllowed } from "./apt-signed-by.ts";
import { type AptSource, listFileName } from "./apt-sources.ts";
import { sha256Hex } from "./canonical.ts";
import type { Planning, PlanningOutput } from "./ecosystem.ts";
import type { CommandEvidence, RepositoryEvidence } from "./operation-plan.ts";

/** Per distribution: the keyring its own archive is signed with. Only this file makes a source `distribution`. */
const ARCHIVE_KEYRINGS: Readonly<Record<string, readonly string[]>> = {
  debian: [
    "/usr/share/keyrings/debian-archive-keyring.pgp",
    "/usr/share/keyrings/debian-archive-keyring.gpg",
  ],
  ubuntu: ["/usr/share/keyrings/ubuntu-archive-keyring.gpg"],
};

/** Transports whose files are on this host: whoever can write there decides what is installed. */
const LOCAL_TRANSPORTS: readonly string[] = ["file", "copy", "cdrom"];
const WEB_TRANSPORT = /^(?:(?:mirror|tor)\+)?https?$/;

/** What was found out about the sources. */
export interface Repositories {
  evidence: RepositoryEvidence[];
  commands: CommandEvidence[];
  warnings: string[];
}

/** The index of a source on disk. */
interface Index {
  /** What gpgv reads: the InRelease, or a detached signature and the Release file. */
  files: string[];
  text: string;
  /** The signed part; null where the file's form is broken. */
  release: ReleaseFile | null;
  signed: boolean;
}

/**
 * Evidence on every source: what its index says of itself, whether its signature fits the keys it is bound to, and the
 * trust that follows. All gpgv calls run side by side, one for each pair of index and keys.
 */
export async function inspectRepositories(
  sources: readonly AptSource[],
  dirs: AptDirs,
  planning: Planning,
): Promise<Repositories> {
  const verifier = new Verifier(planning);
  const archiveKeyrings = (ARCHIVE_KEYRINGS[planning.host.os_id] ?? []).filter(
    (path) => planning.readText(path) !== null,
  );
  const bindings = new Map<string, Binding>();
  const evidence = await Promise.all(
    sources.map(async (source) => {
      const index = readIndex(source, dirs, planning);
      const binding = bindings.get(source.signedBy ?? "") ?? bindingOf(source, dirs, planning);
      bindings.set(source.signedBy ?? "", binding);
      // The two names are one file: under the name that the source uses, one run answers both questions.
      const archiveKeyring =
        archiveKeyrings.find((path) => binding.keyrings.includes(path)) ?? archiveKeyrings[0];
      const [own, archive] = await Promise.all([
        verifier.verify(index, binding.keyrings),
        verifier.verify(index, archiveKeyring === undefined ? [] : [archiveKeyring]),
      ]);
      const good = own.filter((signature) => isAllowed(signature, binding.fingerprints));
      const byArchive = good.some((a) => archive.some((b) => a.primary === b.primary));
      const missing = verifier.missing ? ["its signature can't be verified without gpgv"] : [];
      const problems = [...binding.problems, ...missing];
      return evidenceOf(source, index, problems, good, byArchive, planning.now);
    }),
  );
  const warnings = verifier.missing
    ? ["gpgv is not installed, so no repository signature could be verified: run `apt-get install gpgv`"]
    : [];
  return { evidence, commands: verifier.commands(), warnings };
}

/** Runs gpgv once for each question. */
class Verifier {
  missing = false;
  readonly #planning: Planning;
  readonly #runs = new Map<string, Promise<PlanningOutput>>();
  readonly #evidence = new Map<string, CommandEvidence>();

  constructor(planning: Planning) {
    this.#planning = planning;
  }

  async verify(index: Index | null, keyrings: readonly string[]): Promise<GoodSignature[]> {
    if (index === null || !index.signed || keyrings.length === 0) return [];
    const argv = [
      "gpgv",
      "--status-fd",
      "1",
      ...keyrings.flatMap((path) => ["--keyring", path]),
      ...index.files,
    ];
    const key = argv.join("\0");
    const running = this.#runs.get(key) ?? this.#planning.run(argv);
    this.#runs.set(key, running);
    const { stdout, evidence } = await running;
    this.#evidence.set(key, evidence);
    if (evidence.outcome === "missing") this.missing = true;
    // A signature by a key that isn't in the keyring makes gpgv exit with 2 although another one is good.
    return evidence.outcome === "ok" || evidence.outcome === "failed" ? parseGpgStatus(stdout).good : [];
  }

  /** In the order they were asked for, whatever order they ended in. */
  commands(): CommandEvidence[] {
    return [...this.#runs.keys()].flatMap((key) => this.#evidence.get(key) ?? []);
  }
}

function readIndex(source: AptSource, dirs: AptDirs, planning: Planning): Index | null {
  const path = (file: string) => `${dirs.lists}/${listFileName(source, file)}`;
  const inRelease = planning.readText(path("InRelease"));
  if (inRelease !== null) {
    const text = clearSignedText(inRelease);
    return {
      files: [path("InRelease")],
      text: inRelease,
      release: text === null ? null : parseRelease(text),
      signed: text !== null,
    };
  }
  const release = planning.readText(path("Release"));
  if (release === null) return null;
  return {
    files: [path("Release.gpg"), path("Release")],
    text: release,
    release: parseRelease(release),
    signed: planning.readText(path("Release.gpg")) !== null,
  };
}

function evidenceOf(
  source: AptSource,
  index: Index | null,
  before: readonly string[],
  good: readonly GoodSignature[],
  byArchive: boolean,
  now: Date,
): RepositoryEvidence {
  const transport = /^([A-Za-z0-9+.-]+):/.exec(source.uri)?.[1]?.toLowerCase() ?? "";
  const release = index?.release ?? null;
  const problems = [...before];
  if (source.trusted) problems.push("trusted=yes switches verification off");
  if (source.allowInsecure) problems.push("an allow-insecure option weakens verification");
  if (LOCAL_TRANSPORTS.includes(transport)) problems.push(`${transport}: is a place on this host`);
  if (index === null) problems.push("no index on disk: run `apt-get update`");
  else if (!index.signed) problems.push("its index is not signed");
  else if (index.release === null) problems.push("its index can't be read as apt reads it");
  else if (good.length === 0) problems.push("no good signature by a key it is bound to");
  if (release?.validUntil) {
    const until = releaseTime(release.validUntil);
    if (until === null) problems.push("its Valid-Until can't be read");
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
    trust: trustOf(facts, byArchive, problems),
    problems: problems.map(short).slice(0, 32),
  };
}

/** Any problem ends trust; then the distribution's own key counts most, a pinned key next, a key anyone could add least. */
function trustOf(
  { signedBy, transport }: Pick<AptSource, "signedBy"> & { transport: string },
  byArchive: boolean,
  problems: readonly string[],
): RepositoryEvidence["trust"] {
  if (problems.length > 0) return "untrusted";
  if (byArchive) return "distribution";
  if (!WEB_TRANSPORT.test(transport)) return "untrusted";
  return signedBy === null ? "weak" : "pinned";
}

function short(text: string): string {
  return text.toWellFormed().slice(0, 1024).toWellFormed();
}

function shortOrNull(text: string | null | undefined): string | null {
  return text === null || text === undefined ? null : short(text);
}
