import { createHash } from "node:crypto";
import type { Planning } from "../src/eco-planning.ts";
import { zip } from "./archive-kit.ts";
import { HOST } from "./policy-plans.ts";
import { fakeRegistry, type RegistryAnswer } from "./registry-kit.ts";

/*
 * An index with wheels made on the spot, and a Python whose `pip inspect` answers for the recorded environment of Debian 12.
 */

export const INDEX = "https://index.example/simple/";
export const FILES = "https://files.example";

/** What `python3 -m pip inspect` of pip 23.0.1 tells on Debian 12. */
export const ENVIRONMENT = {
  implementation_name: "cpython",
  implementation_version: "3.11.2",
  os_name: "posix",
  platform_machine: "x86_64",
  platform_release: "6.18.44",
  platform_system: "Linux",
  platform_version: "#1 SMP",
  python_full_version: "3.11.2",
  platform_python_implementation: "CPython",
  python_version: "3.11",
  sys_platform: "linux",
};

export interface FakeWheel {
  name: string;
  version: string;
  requires?: readonly string[];
  /** More files of the wheel. */
  files?: Readonly<Record<string, string>>;
  tag?: string;
  build?: string;
  /** Fields of the index's entry for the file. */
  entry?: Readonly<Record<string, unknown>>;
  /** Other headers of METADATA. */
  headers?: string;
  /** RECORD as it is written, in place of the true one. */
  record?: (lines: string[]) => string[];
  /** Offers the metadata beside the wheel (PEP 658); a text is offered in its place. */
  metadata?: boolean | string;
}

const escaped = (name: string) => name.replaceAll("-", "_");
const sha256 = (data: string | Uint8Array) => createHash("sha256").update(data).digest();
export const infoOf = ({ name, version }: Pick<FakeWheel, "name" | "version">) =>
  `${escaped(name)}-${version}.dist-info`;
export const wheelFile = ({ name, version, tag = "py3-none-any", build }: FakeWheel) =>
  `${escaped(name)}-${version}${build === undefined ? "" : `-${build}`}-${tag}.whl`;

export function metadataOf({ name, version, requires = [], headers = "" }: FakeWheel): string {
  const lines = requires.map((one) => `Requires-Dist: ${one}\n`).join("");
  return `Metadata-Version: 2.1\nName: ${name}\nVersion: ${version}\n${headers}${lines}\nA package.\n`;
}

export function wheel(one: FakeWheel): Buffer {
  const info = infoOf(one);
  const files: Record<string, string> = {
    [`${escaped(one.name)}/__init__.py`]: "",
    ...one.files,
    [`${info}/METADATA`]: metadataOf(one),
    [`${info}/WHEEL`]: "Wheel-Version: 1.0\n",
  };
  const lines = Object.entries(files).map(
    ([path, body]) => `${path},sha256=${sha256(body).toString("base64url")},${Buffer.byteLength(body)}`,
  );
  const { record = (all) => all } = one;
  files[`${info}/RECORD`] = `${record([...lines, `${info}/RECORD,,`]).join("\n")}\n`;
  return zip(Object.entries(files).map(([name, body]) => ({ name, body })));
}

/** Everything that the index answers for these wheels, by address. `others` are more entries of a project's page. */
export function fakeIndex(
  wheels: readonly FakeWheel[],
  others: Readonly<Record<string, readonly Record<string, unknown>[]>> = {},
): Record<string, RegistryAnswer> {
  const answers: Record<string, RegistryAnswer> = {};
  const pages = new Map<string, Record<string, unknown>[]>();
  for (const [name, entries] of Object.entries(others)) pages.set(name, [...entries]);
  for (const one of wheels) {
    const bytes = wheel(one);
    const filename = wheelFile(one);
    const url = `${FILES}/${filename}`;
    answers[url] = bytes;
    const metadata =
      typeof one.metadata === "string" ? one.metadata : one.metadata === true ? metadataOf(one) : null;
    if (metadata !== null) answers[`${url}.metadata`] = metadata;
    const entry = {
      ...{ filename, url, hashes: { sha256: sha256(bytes).toString("hex") } },
      ...{ "upload-time": "2026-01-02T03:04:05.678901Z", yanked: false },
      ...(metadata === null ? {} : { "core-metadata": { sha256: sha256(metadata).toString("hex") } }),
      ...one.entry,
    };
    pages.set(one.name, [...(pages.get(one.name) ?? []), entry]);
  }
  for (const [name, files] of pages)
    answers[`${INDEX}${name}/`] = JSON.stringify({ meta: { "api-version": "1.1" }, name, files });
  return answers;
}

/** Planning on a host whose Python is Debian 12's, with this index. */
export function pipPlanning(
  answers: Readonly<Record<string, RegistryAnswer>>,
  over: {
    env?: Record<string, string>;
    files?: Record<string, string>;
    outcome?: "ok" | "missing" | "failed";
    inspect?: string;
    commands?: Record<string, string[]>;
  } = {},
): Planning & {
  ran: string[][];
  /** What the programs that it ran were told by their environment. */
  variables: Record<string, string>;
  requests: { url: string; headers: Readonly<Record<string, string>> }[];
} {
  const ran: string[][] = [];
  const variables: Record<string, string> = {};
  const { outcome = "ok", inspect = JSON.stringify({ environment: ENVIRONMENT }), commands = {} } = over;
  const files: Record<string, string> = {
    "/var/lib/dpkg/status":
      "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36-9+deb12u13\n\nPackage: x\n",
    ...over.files,
  };
  return {
    ...{ ran, variables },
    ...fakeRegistry(answers),
    now: new Date("2026-11-30T00:00:00Z"),
    env: { HOME: "/home/u", PIP_INDEX_URL: INDEX, ...over.env },
    host: HOST,
    async run(argv, { settings }) {
      ran.push([...argv]);
      Object.assign(variables, settings("/home/x")?.variables);
      const none = { stdout_sha256: null, stderr_sha256: null, stdout: null, stderr: null };
      const stderr = outcome === "failed" ? "/usr/bin/python3: No module named pip\n" : "";
      return {
        stdout: outcome === "ok" ? inspect : "",
        stderr,
        evidence: { argv: [...argv], status: outcome === "ok" ? 0 : 1, outcome, ...none },
      };
    },
    readText: (path) => files[path] ?? null,
    list: (path) => commands[path] ?? [],
    hasProgram: () => true,
    digestOf: () => null,
    contentOf: () => Promise.resolve(null),
    temporary: () => {
      throw new Error("pip needs no temporary files");
    },
  };
}
