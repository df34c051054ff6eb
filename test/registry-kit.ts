import { createHash } from "node:crypto";
import type { Planning } from "../src/eco-planning.ts";
import { AegisError } from "../src/errors.ts";
import { HOST } from "./policy-plans.ts";

/** What a fake registry answers for one address: a body, or a status with one. */
export type RegistryAnswer =
  | string
  | Uint8Array
  | { status: number; body?: string; location?: string; headers?: Readonly<Record<string, string>> };

type Registry = Pick<Planning, "get" | "packageFile"> & {
  /** Addresses in the order they were asked for, with the headers. */
  requests: { url: string; headers: Readonly<Record<string, string>> }[];
};

/** The registry half of planning, answered from a table of addresses; any other is answered with 404. */
export function fakeRegistry(answers: Readonly<Record<string, RegistryAnswer>>): Registry {
  const requests: Registry["requests"] = [];
  const get: Registry["get"] = async (url, { headers = {} } = {}) => {
    requests.push({ url: url.href, headers });
    const answer = answers[url.href] ?? { status: 404 };
    const isBody = typeof answer === "string" || answer instanceof Uint8Array;
    const {
      status,
      body = "",
      location = "",
      headers: sent = {},
    } = isBody ? { status: 200, body: answer } : answer;
    const header = (name: string) => sent[name] ?? "";
    const bytes = typeof body === "string" ? Buffer.from(body) : body;
    return { status, contentType: header("content-type"), location, header, bytes };
  };
  return {
    requests,
    get,
    async packageFile(url, digest, request) {
      const { status, bytes } = await get(url, request);
      const hex = digest === null ? "" : createHash(digest.algorithm).update(bytes).digest("hex");
      if (status !== 200)
        throw new AegisError("unavailable", `${url.host} gave no usable answer: status ${status}`);
      if (digest !== null && hex !== digest.hex) throw new AegisError("evidence_mismatch", "another file");
      return { bytes, sha256: createHash("sha256").update(bytes).digest("hex") };
    },
  };
}

export interface StandIn {
  env: Readonly<Record<string, string>>;
  files: Readonly<Record<string, string>>;
  /** Names by directory, besides those of {@link files}. */
  lists: Readonly<Record<string, readonly string[]>>;
  /** What each installed program prints; any other is missing. */
  programs: Readonly<Record<string, string>>;
  architecture: string;
}

/** Planning on a host of these files and programs, whose registries answer from a table. `ran` has each command line. */
export function standInPlanning(
  answers: Readonly<Record<string, RegistryAnswer>>,
  { env = {}, files = {}, lists = {}, programs = {}, architecture = "amd64" }: Partial<StandIn> = {},
): Planning & Registry & { ran: string[] } {
  const ran: string[] = [];
  return {
    ...fakeRegistry(answers),
    ran,
    now: new Date("2026-11-30T00:00:00Z"),
    env: { HOME: "/home/u", ...env },
    host: { ...HOST, architecture },
    run(argv, { settings }) {
      settings("/home/x");
      ran.push(argv.join(" "));
      const stdout = programs[argv[0] ?? ""];
      const none = { stdout_sha256: null, stderr_sha256: null, stdout: null, stderr: null };
      const outcome = stdout === undefined ? ("missing" as const) : ("ok" as const);
      const evidence = { argv: [...argv], status: stdout === undefined ? null : 0, outcome, ...none };
      return Promise.resolve({ stdout: stdout ?? "", stderr: "", evidence });
    },
    hasProgram: (name) => programs[name] !== undefined,
    digestOf: () => null,
    readText: (path) => files[path] ?? null,
    list: (path) => [
      ...(lists[path] ?? []),
      ...Object.keys(files).flatMap((name) =>
        name.startsWith(`${path}/`) ? [name.slice(path.length + 1)] : [],
      ),
    ],
    contentOf: () => Promise.resolve(null),
    temporary: () => {
      throw new Error("these tools need no temporary files");
    },
  };
}

/** A registry on loopback, which answers each address from the table made for its own. `alter` may change what is sent. */
export function serveAnswers(
  answersOf: (origin: string) => Readonly<Record<string, RegistryAnswer>>,
  alter: (body: Buffer, request: Request) => Buffer = (body) => body,
) {
  return Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch(request) {
      const { href, origin } = new URL(request.url);
      const answer = answersOf(origin)[href];
      const isBody = typeof answer === "string" || answer instanceof Uint8Array;
      return isBody
        ? new Response(new Uint8Array(alter(Buffer.from(answer), request)))
        : new Response(null, { status: 404 });
    },
  });
}
