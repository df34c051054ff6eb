import { createHash, generateKeyPairSync, sign } from "node:crypto";
import { leafHash, nodeHash, splitOf } from "../src/eco-merkle.ts";
import type { Planning } from "../src/eco-planning.ts";
import { dirHash, escapeGo, goModHash } from "../src/go-sumdb.ts";
import { zip } from "./archive-kit.ts";
import { HOST } from "./policy-plans.ts";
import { fakeRegistry, type RegistryAnswer } from "./registry-kit.ts";

/*
 * A module proxy with a checksum database of our own behind it, whose key the settings name, and a go command that answers
 * `go list` from a table.
 */

export interface FakeModule {
  path: string;
  version: string;
  /** Source files by path; go.mod among them. */
  files: Record<string, string>;
  time?: string;
}

export const PROXY = "https://proxy.example";

/** The key of a checksum database, and what signs its trees. */
export function newDatabase(name: string) {
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  const raw = Buffer.concat([Buffer.of(1), publicKey.export({ format: "der", type: "spki" }).subarray(-32)]);
  const id = createHash("sha256").update(`${name}\n`).update(raw).digest().subarray(0, 4);
  return {
    key: `${name}+${id.toString("hex")}+${raw.toString("base64")}`,
    note(text: string): string {
      const signature = Buffer.concat([id, sign(null, Buffer.from(text), privateKey)]).toString("base64");
      return `${text}\n— ${name} ${signature}\n`;
    },
  };
}

function rootOf(hashes: readonly Uint8Array[]): Uint8Array {
  const [first] = hashes;
  if (first === undefined || hashes.length === 1) return first ?? new Uint8Array(32);
  const k = splitOf(hashes.length);
  return nodeHash(rootOf(hashes.slice(0, k)), rootOf(hashes.slice(k)));
}

const zipOf = ({ path, version, files }: FakeModule) =>
  zip(Object.entries(files).map(([name, body]) => ({ name: `${path}@${version}/${name}`, body })));

/** Everything that the proxy answers for these modules, its checksum database included, by address. */
export function fakeProxy(modules: readonly FakeModule[], database = newDatabase("sum.example")) {
  const answers: Record<string, RegistryAnswer> = {};
  const records = modules.map((one) => {
    const { path, version, files, time = "2026-01-02T03:04:05Z" } = one;
    const goMod = files["go.mod"] ?? `module ${path}\n`;
    const base = `${PROXY}/${escapeGo(path)}/@v`;
    const listed = answers[`${base}/list`];
    answers[`${base}/list`] = `${typeof listed === "string" ? listed : ""}${version}\n`;
    answers[`${base}/${escapeGo(version)}.info`] = JSON.stringify({ Version: version, Time: time });
    answers[`${base}/${escapeGo(version)}.mod`] = goMod;
    answers[`${base}/${escapeGo(version)}.zip`] = zipOf(one);
    const contents = Object.entries(files).map(([name, body]) => ({
      path: `${path}@${version}/${name}`,
      data: Buffer.from(body),
    }));
    return `${path} ${version} ${dirHash(contents)}\n${path} ${version}/go.mod ${goModHash(Buffer.from(goMod))}\n`;
  });
  const hashes = records.map((record) => leafHash(Buffer.from(record)));
  const tree = `go.sum database tree\n${hashes.length}\n${Buffer.from(rootOf(hashes)).toString("base64")}\n`;
  const sumdb = `${PROXY}/sumdb/sum.example`;
  answers[`${sumdb}/supported`] = "";
  answers[`${sumdb}/tile/8/0/000.p/${hashes.length}`] = Buffer.concat(hashes);
  for (const [i, { path, version }] of modules.entries())
    answers[`${sumdb}/lookup/${escapeGo(path)}@${escapeGo(version)}`] =
      `${i}\n${records[i]}\n${database.note(tree)}`;
  return { answers, key: database.key, sumdb };
}

/** What the go command was run with. */
interface GoRun {
  variables: Readonly<Record<string, string>>;
  goMod: string;
}

async function unreadable(modules: readonly FakeModule[], proxy: string): Promise<string | null> {
  for (const { path, version } of modules) {
    const url = `${proxy}/${escapeGo(path)}/@v/${escapeGo(version)}.mod`;
    const { ok, status } = await fetch(url, { proxy: "" });
    if (!ok) return `reading ${url}: ${status}`;
  }
  return null;
}

/** Planning on a host whose go command finds this module graph, and whose settings name the proxy and the database. */
export function goPlanning(
  modules: readonly FakeModule[],
  { answers, key }: Pick<ReturnType<typeof fakeProxy>, "answers" | "key">,
  env: Record<string, string> = {},
  outcome: "ok" | "missing" | "failed" = "ok",
): Planning & {
  ran: string[][];
  given: GoRun[];
  requests: { url: string; headers: Readonly<Record<string, string>> }[];
} {
  const ran: string[][] = [];
  const given: GoRun[] = [];
  const registry = fakeRegistry(answers);
  return {
    ran,
    given,
    ...registry,
    now: new Date("2026-11-30T00:00:00Z"),
    env: { HOME: "/home/u", GOPROXY: PROXY, GOSUMDB: key, ...env },
    host: HOST,
    async run(argv, { settings }) {
      ran.push([...argv]);
      const { variables = {}, workFiles = {} } = settings("/home/x");
      given.push({ variables, goMod: workFiles["go.mod"] ?? "" });
      const isList = argv[1] === "list";
      // Like the real one it reads every go.mod, from the proxy that it is given.
      const missing = isList && outcome === "ok" ? await unreadable(modules, variables.GOPROXY ?? "") : null;
      if (missing !== null) outcome = "failed";
      const listed = modules.map(({ path, version, time = "2026-01-02T03:04:05Z" }) =>
        JSON.stringify({ Path: path, Version: version, Time: time }, null, 1),
      );
      const main = JSON.stringify({ Path: "aegis.invalid/plan", Main: true }, null, 1);
      const stdout = isList && outcome === "ok" ? [main, ...listed].join("\n") : "";
      const stderr = isList && outcome === "failed" ? `go: ${missing ?? "module lookup disabled"}\n` : "";
      const status = outcome === "ok" ? 0 : 1;
      const none = { stdout_sha256: null, stderr_sha256: null, stdout: null, stderr: null };
      return { stdout, stderr, evidence: { argv: [...argv], status, outcome, ...none } };
    },
    readText: () => null,
    list: () => [],
    hasProgram: () => true,
    digestOf: () => null,
    contentOf: () => Promise.resolve(null),
    temporary: () => {
      throw new Error("Go needs no temporary files");
    },
  };
}
