import { createHash } from "node:crypto";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import type { CommandEvidence } from "../src/doc-plan-evidence.ts";
import type { Planning } from "../src/eco-planning.ts";
import { tar, tarEntry } from "./archive-kit.ts";
import { HOST } from "./policy-plans.ts";
import { fakeRegistry, type RegistryAnswer } from "./registry-kit.ts";

/*
 * An npm registry whose packages are made of a manifest and files, and a host on which npm answers `npm view` from the same packages.
 */

export interface FakePackage {
  name: string;
  version: string;
  /** package.json, besides name and version, in the file and in the metadata. */
  manifest?: Record<string, unknown>;
  /** What the metadata says besides or instead. */
  metadata?: Record<string, unknown>;
  /** What the metadata says in `dist` besides or instead. */
  dist?: Record<string, unknown>;
  /** Files of the package by path; package.json replaces the one made of the manifest. */
  files?: Record<string, string>;
  /** The package file, instead of one made of the files. */
  tarball?: Uint8Array;
  time?: string | null;
}

export const REGISTRY = "https://registry.npmjs.org/";
const PUBLISHED = "2026-01-02T03:04:05.000Z";

export function tarballOf({ name, version, manifest = {}, files = {}, tarball }: FakePackage): Uint8Array {
  if (tarball !== undefined) return tarball;
  const all = { "package.json": JSON.stringify({ name, version, ...manifest }), ...files };
  const entries = Object.entries(all).map(([path, body]) => {
    const size = Buffer.byteLength(body).toString(8).padStart(11, "0");
    return tarEntry(`package/${path}`, body, { size });
  });
  return gzipSync(tar(...entries));
}

export const sha512 = (bytes: Uint8Array) => createHash("sha512").update(bytes).digest("hex");
const integrityOf = (bytes: Uint8Array) => `sha512-${Buffer.from(sha512(bytes), "hex").toString("base64")}`;

/** Everything that a registry answers for these packages, by address. */
export function fakeNpm(
  packages: readonly FakePackage[],
  registry = REGISTRY,
): Record<string, RegistryAnswer> {
  const answers: Record<string, RegistryAnswer> = {};
  const packuments = new Map<string, { versions: Record<string, unknown>; time: Record<string, string> }>();
  for (const one of packages) {
    const { name, version, manifest = {}, metadata = {}, dist = {}, time = PUBLISHED } = one;
    const bytes = tarballOf(one);
    const tarball = `${registry}${name}/-/${name.replace(/^.*\//, "")}-${version}.tgz`;
    answers[tarball] = bytes;
    const packument = packuments.get(name) ?? { versions: {}, time: {} };
    packument.versions[version] = {
      ...{ name, version, ...manifest, ...metadata },
      dist: { tarball, integrity: integrityOf(bytes), ...dist },
    };
    if (time !== null) packument.time[version] = time;
    packuments.set(name, packument);
  }
  for (const [name, { versions, time }] of packuments) {
    const latest = Object.keys(versions).toSorted(Bun.semver.order).at(-1);
    const document = { name, "dist-tags": { latest }, versions, time };
    answers[`${registry}${name.replace("/", "%2f")}`] = JSON.stringify(document);
  }
  return answers;
}

interface Host {
  env?: Record<string, string>;
  /** Texts of files by path. */
  files?: Record<string, string>;
  /** Names in directories by path. */
  lists?: Record<string, string[]>;
  /** How `npm view` ends, and what it prints where that isn't the registry's version. */
  npm?: { outcome?: CommandEvidence["outcome"]; stdout?: string };
  node?: string;
}

/** Planning on a host, with a registry that answers from a table. */
export function npmPlanning(answers: Readonly<Record<string, RegistryAnswer>>, host: Host = {}) {
  const ran: string[][] = [];
  const registry = fakeRegistry(answers);
  const directory = mkdtempSync(join(tmpdir(), "aegis-npm-"));
  const { outcome = "ok", stdout } = host.npm ?? {};
  const planning: Planning = {
    ...registry,
    now: new Date("2026-11-22T01:02:03.004Z"),
    env: { HOME: "/home/u", ...host.env },
    host: HOST,
    async run(argv) {
      ran.push([...argv]);
      const isView = argv[1] === "view";
      const answer = isView ? (stdout ?? view(argv[2] ?? "", answers)) : (host.node ?? "v22.0.0\n");
      const ended = isView ? outcome : "ok";
      const none = { stdout_sha256: null, stderr_sha256: null, stdout: null, stderr: null };
      return {
        stdout: ended === "missing" ? "" : answer,
        stderr: "",
        evidence: { argv: [...argv], status: ended === "ok" ? 0 : 1, outcome: ended, ...none },
      };
    },
    readText: (path) => host.files?.[path] ?? null,
    list: (path) => host.lists?.[path] ?? [],
    hasProgram: () => true,
    digestOf: () => null,
    contentOf: () => Promise.resolve(null),
    temporary(name, data) {
      const path = join(directory, name);
      writeFileSync(path, data);
      return path;
    },
  };
  return { ...planning, ran, requests: registry.requests };
}

function view(target: string, answers: Readonly<Record<string, RegistryAnswer>>): string {
  const at = target.indexOf("@", 1);
  const name = at < 0 ? target : target.slice(0, at);
  const text = answers[`${REGISTRY}${name.replace("/", "%2f")}`];
  if (typeof text !== "string") return "";
  const { versions, "dist-tags": tags } = JSON.parse(text);
  return JSON.stringify(versions[at < 0 ? tags.latest : target.slice(at + 1)] ?? {});
}
