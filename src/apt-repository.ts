import { basename } from "node:path";
import type { DpkgPackage } from "./apt-dpkg.ts";
import { readDpkgStatus } from "./apt-dpkg.ts";
import { aptFindings, commandFailure } from "./apt-evidence.ts";
import { inspectRepositories, namesArchiveKeyring, type Repositories } from "./apt-repositories.ts";
import { isRepositoryArgv, repositoryArgv, repositoryPath, SOURCE_PARTS } from "./apt-repository-argv.ts";
import { fetchIndexes, type Indexes } from "./apt-repository-fetch.ts";
import {
  canonicalRepository,
  EMBEDDED_SINCE,
  readRepository,
  repositoryText,
} from "./apt-repository-file.ts";
import { offerOf } from "./apt-repository-offer.ts";
import { recordOf } from "./apt-rollback.ts";
import type { AptSource } from "./apt-source.ts";
import { parseDeb822Sources } from "./apt-source-stanzas.ts";
import { type AptDirs, aptDirs, readEntries } from "./apt-sources.ts";
import { compareDebVersions } from "./apt-target.ts";
import { listFileName } from "./apt-uri.ts";
import { sha256Hex } from "./canonical.ts";
import { checkedTrust, RECORDED_INVERSE } from "./doc-evidence.ts";
import type { ProvenanceEvidence } from "./doc-plan-evidence.ts";
import { type ConfiguredRepository, MAX_REPOSITORY_FILE, type RepositoryOffer } from "./doc-repository.ts";
import type { Result } from "./doc-result.ts";
import type { Findings } from "./eco.ts";
import type { Targets } from "./eco-grammar.ts";
import { HOST_SETTINGS, type Planning, type PlanningOutput } from "./eco-planning.ts";

/*
 * Adding, replacing and removing a repository: one file below /etc/apt/sources.list.d, which the plan carries to the byte. apt is asked
 * for its settings only. Of a repository that is added, the index is fetched and verified with exactly the key that comes with it.
 */

/** The files that Debian's and Ubuntu's installers write. */
const DISTRIBUTION = /^(?:debian|ubuntu)(?:-|$)/;

/** What is known of the host before the change. */
interface Site {
  dump: PlanningOutput;
  dirs: AptDirs;
  planning: Planning;
  problems: string[];
}

/**
 * `add-repository`, `remove-repository` and the rollback of an execution of these; null for everything else.
 * @throws AegisError `invalid_target` for a stanza or key that is refused
 */
export function gatherRepository(
  operation: string,
  targets: Targets,
  planning: Planning,
): Promise<Findings> | null {
  if (operation === "add-repository" || operation === "remove-repository")
    return gatherChange(operation, targets, planning);
  if (operation !== "rollback") return null;
  const [id = ""] = targets.targets;
  const record = recordOf(id, planning);
  // Of one that can't be read the packages' rollback says why.
  if (typeof record === "string" || !isRepositoryArgv(record.argv)) return null;
  return gatherRollback(id, record, planning);
}

async function gatherChange(
  operation: string,
  { targets, content }: Targets,
  planning: Planning,
): Promise<Findings> {
  const [name = ""] = targets;
  // First, so that a refused stanza costs nothing.
  const after = content === undefined ? null : repositoryText(name, readRepository(content));
  const site = await look(planning);
  const before = readBefore(name, site);
  if (operation === "remove-repository" && before === null && site.problems.length === 0)
    return unchanged(operation, site, [`there is no ${repositoryPath(name)}`]);
  return findings(operation, changeOf(name, before, after), site);
}

/** Undoing a change of a repository: the file as it was, if it is still what the execution left. */
async function gatherRollback(
  id: string,
  { repository: recorded }: Result,
  planning: Planning,
): Promise<Findings> {
  const site = await look(planning);
  if (recorded === undefined) return unchanged("rollback", site, [`execution ${id} changed no repository`]);
  const { name, before: previous, after_sha256: left } = recorded;
  const now = readBefore(name, site);
  if (site.problems.length === 0 && now === previous)
    return unchanged("rollback", site, [`${repositoryPath(name)} is as it was before execution ${id}`]);
  if ((now === null ? null : sha256Hex(now)) !== left)
    site.problems.push(
      `${repositoryPath(name)} has been changed since execution ${id}: undo it by another plan`,
    );
  const evidence: ProvenanceEvidence = {
    kind: RECORDED_INVERSE,
    subject: repositoryPath(name),
    verified: true,
    key: null,
    detail: `execution ${id}: ${previous === null ? "there was no such file" : `sha256:${sha256Hex(previous)}`}`,
  };
  const found = await findings("rollback", changeOf(name, now, previous), site);
  return { ...found, provenance_evidence: [evidence] };
}

async function look(planning: Planning): Promise<Site> {
  const dump = await planning.run(["apt-config", "dump"], { settings: HOST_SETTINGS });
  const dirs = aptDirs(dump.stdout);
  const problems = commandFailure(dump);
  if (problems.length === 0 && dirs.sourceParts !== SOURCE_PARTS)
    problems.push(`apt reads its sources from ${dirs.sourceParts}: only ${SOURCE_PARTS} is written`);
  return { dump, dirs, planning, problems };
}

/** The file as it is; null if there is none. Adds to the problems what Aegis couldn't bring back. */
function readBefore(name: string, { planning, problems }: Site): string | null {
  const path = repositoryPath(name);
  if (!planning.list(SOURCE_PARTS).includes(basename(path))) return null;
  const text = planning.readText(path);
  if (text === null || text.includes("\ufffd") || text.length > MAX_REPOSITORY_FILE) {
    problems.push(`${path} is not a text file that could be brought back`);
    return null;
  }
  // The plan and the execution's record have the text, and more people may read those.
  if (/[a-z]:\/\/[^\s/]*@/i.test(text)) problems.push(`${path} has a password, which a plan must not repeat`);
  return text;
}

function changeOf(name: string, before: string | null, after: string | null): ConfiguredRepository {
  const keyIn = (text: string | null) =>
    text === null ? null : (canonicalRepository(name, text)?.key.key ?? null);
  return {
    name,
    path: repositoryPath(name),
    before,
    after,
    before_sha256: before === null ? null : sha256Hex(before),
    after_sha256: after === null ? null : sha256Hex(after),
    key: keyIn(after),
    previous_key: keyIn(before),
  };
}

function unchanged(operation: string, { dump, problems }: Site, why: readonly string[]): Findings {
  return {
    ...aptFindings(operation, [], [dump.evidence], [...problems, ...why]),
    command_preview: ["aegis", "repository"],
    metadata_available: problems.length === 0,
    nothing_to_do: problems.length === 0,
  };
}

async function findings(operation: string, change: ConfiguredRepository, site: Site): Promise<Findings> {
  const { name, before, after } = change;
  if (before === after) return unchanged(operation, site, [`${change.path} is already as asked for`]);
  const { dump, dirs, planning } = site;
  const native = planning.host.architecture;
  const problems = [...site.problems];
  const sourcesIn = (text: string | null) => parseDeb822Sources(text ?? "", change.path, native);
  const [old, fresh] = [sourcesIn(before), sourcesIn(after)];
  if (after !== null) problems.push(...hindrances(name, fresh.sources, site));
  const known = await inspectRepositories(old.sources.filter(isBinary), dirs, planning);
  const isDistribution =
    DISTRIBUTION.test(name) ||
    known.evidence.some(({ trust }) => trust === "distribution") ||
    old.sources.some((source) => namesArchiveKeyring(source, planning.host.os_id));
  // What Aegis wrote it takes away again, whoever signs there.
  if (before !== null && change.previous_key === null && isDistribution)
    problems.push(
      `${change.path} configures the distribution's own archive, which is left to its administrator's editor`,
    );
  const isAdded = operation === "add-repository";
  const indexes =
    isAdded && problems.length === 0
      ? await fetchIndexes(fresh.sources.filter(isBinary), dump.stdout, planning)
      : null;
  // What is added is not on disk, and no update would bring it: where there are problems nothing is fetched.
  const fetched = indexes?.file ?? (isAdded ? () => null : undefined);
  const repositories: Repositories =
    after === null
      ? known
      : await inspectRepositories(fresh.sources.filter(isBinary), dirs, planning, fetched);
  const { evidence } = repositories;
  const offers =
    indexes === null ? [] : await offersOf(fresh.sources.filter(isBinary), evidence, indexes, site);
  const warnings = [
    ...problems,
    ...remarks(change),
    ...offers.flatMap(({ unread }) => unread ?? []),
    ...(indexes?.warnings ?? []),
    ...repositories.warnings,
  ];
  const read = offers.flatMap(({ offer }) => offer ?? []);
  const commands = [dump.evidence, ...new Set([...known.commands, ...repositories.commands])];
  const base = {
    ...aptFindings(operation, [name], commands, warnings),
    command_preview: repositoryArgv(change),
    repository_evidence: evidence,
    repository: change,
    ...(read.length === 0 ? {} : { outlook: { repository: read } }),
  };
  if (problems.length > 0) return base;
  return {
    ...base,
    metadata_available: true,
    exact_targets: operation === "rollback" ? [] : [name],
    publisher_or_maintainer: change.key?.user_ids[0] ?? null,
    signature_or_checksum_status:
      evidence.length > 0 && evidence.every((one) => one.signature_verified) ? "verified" : "unverified",
    rollback_plan: {
      inverse: [],
      unobtainable: [],
      notes: [
        before === null
          ? "A rollback of the execution removes the file again; packages that came from it stay."
          : "The file as it is now is kept, and a rollback of the execution brings it back.",
      ],
    },
  };
}

/** What a source offers, or a warning that it could not be found out. */
interface Offered {
  offer?: RepositoryOffer;
  unread?: string;
}

/** What the verified sources offer. One that shows no readable index could have newer versions of anything. */
async function offersOf(
  sources: readonly AptSource[],
  evidence: Repositories["evidence"],
  { file, access }: Indexes,
  { dirs, planning }: Site,
): Promise<Offered[]> {
  const installed = readDpkgStatus(dirs.status, planning)?.packages ?? new Map<string, DpkgPackage>();
  return Promise.all(
    sources.map(async (source, n) => {
      const index = file(source, "InRelease") ?? file(source, "Release");
      if (index === null || evidence[n] === undefined || checkedTrust(evidence[n]) === "untrusted") return {};
      const offer = await offerOf(source, index.text, installed, planning.host.architecture, access);
      if (offer !== null) return { offer };
      return {
        unread: `what ${source.id} offers could not be read: an upgrade may take newer versions of any installed package from it`,
      };
    }),
  );
}

/** Why apt on this host could not use the file: each is an error of every later `apt-get update`. */
function hindrances(name: string, sources: readonly AptSource[], { dirs, planning }: Site): string[] {
  const own = basename(repositoryPath(name));
  const others = readEntries(dirs, planning.host.architecture, {
    readText: planning.readText,
    list: (path) => planning.list(path).filter((file) => file !== own),
  });
  const taken = others.sources.filter((other) =>
    sources.some((source) => listFileName(source, "Release") === listFileName(other, "Release")),
  );
  const packages = readDpkgStatus(dirs.status, planning)?.packages ?? new Map<string, DpkgPackage>();
  const apt = packages.get(`apt:${planning.host.architecture}`)?.version;
  return [
    ...new Set(
      taken.map(
        ({ id, configuredIn }) =>
          `${id} is already configured in ${configuredIn}, and apt refuses two entries with different keys: remove that one first`,
      ),
    ),
    ...(apt !== undefined && compareDebVersions(apt, EMBEDDED_SINCE) < 0
      ? [`apt ${apt} can't read a key inside a source file; ${EMBEDDED_SINCE} and later can`]
      : []),
  ];
}

/** What every plan of this change warns of. */
function remarks({ key, previous_key, before, after, path }: ConfiguredRepository): string[] {
  const isReplaced = before !== null && after !== null;
  const isOther = isReplaced && key?.fingerprint !== previous_key?.fingerprint;
  return [
    ...(isReplaced ? [`${path} exists and would be replaced`] : []),
    ...(isOther
      ? [
          `its key would change from ${previous_key?.fingerprint ?? "what that file names"} to ${key?.fingerprint ?? "what the older file names"}`,
        ]
      : []),
    ...(key?.weak ?? []).map(
      (why) => `the key ${key?.fingerprint} is weak: ${why}; newer systems may refuse it`,
    ),
  ];
}

function isBinary({ binary }: AptSource): boolean {
  return binary;
}
