import { gzipSync } from "node:zlib";
import { tar, tarEntry, zip } from "./archive-kit.ts";
import { FILES as CARGO_FILES, INDEX as CARGO_INDEX, type FakeCrate, fakeCrates } from "./cargo-kit.ts";
import { type FakeModule, fakeProxy, newDatabase, PROXY } from "./go-kit.ts";
import { type FakePackage, fakeNpm } from "./npm-kit.ts";
import { type FakeWheel, fakeIndex, FILES as PIP_FILES, INDEX as PIP_INDEX, wheelFile } from "./pip-kit.ts";
import type { RegistryAnswer } from "./registry-kit.ts";

/*
 * The registries of four ecosystems on one loopback server, which can turn hostile at any request.
 */

/** What a registry answers in place of what it should. */
export type Trick = (proper: Buffer, request: Request) => Response | Promise<Response>;

export interface Offered {
  npm?: readonly FakePackage[];
  pip?: readonly FakeWheel[];
  /** More entries of a project's page, by project. */
  pipFiles?: Readonly<Record<string, readonly Record<string, unknown>[]>>;
  go?: readonly FakeModule[];
  /** Closures, the crate to install first; with what becomes of its lock file. */
  cargo?: readonly { crates: readonly FakeCrate[]; lock?: (text: string) => string | null }[];
}

/** Old enough for any policy. */
const PUBLISHED = "2020-01-02T03:04:05Z";

export class Registries {
  /** In place of the proper answers, by path. */
  readonly tricks = new Map<string, Trick>();
  /** How often a path is still answered properly. */
  readonly proper = new Map<string, number>();
  readonly database = newDatabase("sum.example");
  readonly #answers = new Map<string, RegistryAnswer>();
  readonly #server: ReturnType<typeof Bun.serve>;

  constructor() {
    this.#server = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      idleTimeout: 60,
      fetch: (request) => this.#answer(request),
    });
  }

  get host(): string {
    return `127.0.0.1:${this.#server.port}`;
  }

  get origin(): string {
    return `http://${this.host}`;
  }

  /** aegisd.env of a host that takes everything from here. */
  get settings(): string {
    return [
      `AEGIS_NPM_REGISTRY=${this.origin}/npm/`,
      `AEGIS_PIP_INDEX_URL=${this.origin}/pip/simple/`,
      `AEGIS_GOPROXY=${this.origin}/go`,
      `AEGIS_GOSUMDB=${this.database.key}`,
      `AEGIS_CARGO_INDEX=sparse+${this.origin}/cargo/index/`,
      "",
    ].join("\n");
  }

  /** Answers for these packages too. Go's modules are one database, and come in one call. */
  offer({ npm = [], pip = [], pipFiles = {}, go = [], cargo = [] }: Offered): void {
    const old = npm.map((one) => ({ time: PUBLISHED, ...one }));
    this.#add(fakeNpm(old, `${this.origin}/npm/`), [[this.origin, ""]]);
    const wheels = pip.map((one) => ({ ...one, entry: { "upload-time": PUBLISHED, ...one.entry } }));
    this.#add(fakeIndex(wheels, pipFiles), [
      [PIP_INDEX, "/pip/simple/"],
      [PIP_FILES, "/pip/files"],
    ]);
    if (go.length > 0) {
      const modules = go.map((one) => ({ time: PUBLISHED, ...one }));
      this.#add(fakeProxy(modules, this.database).answers, [[PROXY, "/go"]]);
    }
    for (const { crates, lock } of cargo)
      this.#add(fakeCrates(crates, lock), [
        [CARGO_INDEX, "/cargo/index"],
        [CARGO_FILES, "/cargo/files"],
      ]);
  }

  /** From now on another answer, properly. */
  replace(path: string, answer: RegistryAnswer): void {
    this.#answers.set(path, answer);
  }

  properAnswer(path: string): Buffer {
    const answer = this.#answers.get(path);
    if (typeof answer === "string" || answer instanceof Uint8Array) return Buffer.from(answer);
    throw new Error(`nothing is offered at ${path}`);
  }

  /** Turns hostile at a path, once it has been answered properly so often. */
  turn(path: string, trick: Trick, properTimes = 0): void {
    this.properAnswer(path);
    this.tricks.set(path, trick);
    this.proper.set(path, properTimes);
  }

  calm(): void {
    this.tricks.clear();
    this.proper.clear();
  }

  stop(): Promise<void> {
    return this.#server.stop(true);
  }

  #add(answers: Readonly<Record<string, RegistryAnswer>>, places: readonly [string, string][]): void {
    for (const [url, answer] of Object.entries(answers)) {
      const [from, to] = places.find(([place]) => url.startsWith(place)) ?? ["", ""];
      const local = (text: string) =>
        places.reduce((all, [place, path]) => all.replaceAll(place, `${this.origin}${path}`), text);
      this.#answers.set(to + url.slice(from.length), typeof answer === "string" ? local(answer) : answer);
    }
  }

  #answer(request: Request): Response | Promise<Response> {
    const { pathname } = new URL(request.url);
    const path = pathname.replaceAll("%21", "!");
    const answer = this.#answers.get(path);
    if (answer === undefined) return new Response("{}", { status: 404 });
    if (!(typeof answer === "string" || answer instanceof Uint8Array)) {
      const { status, body = "", location = "" } = answer;
      return new Response(body, { status, ...(location === "" ? {} : { headers: { location } }) });
    }
    const left = this.proper.get(path) ?? 0;
    const trick = this.tricks.get(path);
    if (left > 0) this.proper.set(path, left - 1);
    else if (trick !== undefined) return trick(Buffer.from(answer), request);
    const headers = path.startsWith("/pip/simple/")
      ? { "content-type": "application/vnd.pypi.simple.v1+json" }
      : {};
    return new Response(Buffer.from(answer), { headers });
  }
}

/** Ways in which a registry gives something else than it should. */
export const TRICKS = {
  flipped: (proper) => {
    const other = Buffer.from(proper);
    const middle = Math.floor(other.length / 2);
    other[middle] = (other[middle] ?? 0) ^ 1;
    return new Response(other);
  },
  longer: (proper) => new Response(Buffer.concat([proper, Buffer.from("x")])),
  shorter: (proper) => new Response(proper.subarray(1)),
  gone: () => new Response("", { status: 404 }),
  elsewhere: (_, { url }) => Response.redirect(`${new URL(url).origin}/elsewhere`, 302),
  /** Ten gigabytes of zeros behind a content encoding. */
  bomb: () => new Response(Buffer.from(tenGigabytes()), { headers: { "content-encoding": "gzip" } }),
  endless: () =>
    new Response(
      new ReadableStream({
        pull(controller) {
          controller.enqueue(new Uint8Array(64 * 1024));
        },
      }),
    ),
} as const satisfies Readonly<Record<string, Trick>>;

let packedZeros: Buffer | null = null;
/** gzip's members follow one another, so the same 64 MiB of zeros stand for any size. */
export function tenGigabytes(): Buffer {
  packedZeros ??= gzipSync(Buffer.alloc(64 << 20), { level: 9 });
  return Buffer.concat(Array.from({ length: 160 }, () => packedZeros ?? Buffer.alloc(0)));
}

/** A tarball with these entries besides a proper package.json. */
export function npmArchive(name: string, ...entries: readonly Buffer[]): FakePackage {
  const manifest = tarEntry("package/package.json", JSON.stringify({ name, version: "1.0.0" }));
  return { name, version: "1.0.0", tarball: gzipSync(tar(manifest, ...entries)) };
}

/** An entry of an index's page for a file with these bytes, and the file's answer. */
export function wheelOfBytes(name: string, entries: Parameters<typeof zip>[0]) {
  const bytes = zip(entries);
  const filename = wheelFile({ name, version: "1.0" });
  const sha256 = new Bun.CryptoHasher("sha256").update(bytes).digest("hex");
  const entry = { filename, url: `${PIP_FILES}/${filename}`, hashes: { sha256 }, "upload-time": PUBLISHED };
  return { name, entry, path: `/pip/files/${filename}`, bytes };
}
