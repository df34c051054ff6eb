import { generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import * as cargo from "./cargo-kit.ts";
import * as go from "./go-kit.ts";
import * as npm from "./npm-kit.ts";
import * as pip from "./pip-kit.ts";
import type { RegistryAnswer } from "./registry-kit.ts";
import type { SystemdHost } from "./systemd-container.ts";

/*
 * Registries of all four tools on loopback, which a container shares with the machine: npm's with signatures and Go's with a checksum
 * database by keys of our own, a PEP 691 index, and a sparse index of crates.
 */

export interface Contents {
  npm: readonly npm.FakePackage[];
  pip: readonly pip.FakeWheel[];
  go: readonly go.FakeModule[];
  /** Each with what it depends on behind it. */
  cargo: readonly (readonly cargo.FakeCrate[])[];
}

export interface Registries {
  /** For a policy's `allowed_registries`. */
  readonly host: string;
  /** Answers in place of the proper ones, by path below the server. */
  readonly changed: Map<string, RegistryAnswer>;
  /** Makes them the registries of the host's executor, with the keys that it needs. */
  configure(target: SystemdHost): void;
  stop(): Promise<void>;
}

const KEY_ID = "SHA256:own";

interface Table {
  answers: Readonly<Record<string, RegistryAnswer>>;
  /** What the answers' addresses begin with. */
  base: string;
  /** Addresses in its documents, with the tables that serve them. */
  names?: readonly (readonly [address: string, table: string])[];
}

/** `contents` are told under which address they are served. */
export function startRegistries(contents: (host: string) => Contents): Registries {
  const changed = new Map<string, RegistryAnswer>();
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch(request) {
      const { pathname, origin } = new URL(request.url);
      const path = decodeURIComponent(pathname);
      const [, name = "", rest = ""] = /^\/([a-z-]+)(\/.*)$/.exec(path) ?? [];
      const table = tables[name];
      const answer = changed.get(path) ?? table?.answers[`${table.base}${rest}`] ?? { status: 404 };
      if (answer instanceof Uint8Array) return new Response(Buffer.from(answer));
      if (typeof answer !== "string") return new Response(null, { status: answer.status });
      const text = (table?.names ?? []).reduce(
        (all, [address, place]) => all.replaceAll(address, `${origin}/${place}`),
        answer,
      );
      const type = name === "pip" ? "application/vnd.pypi.simple.v1+json" : "application/json";
      return new Response(text, { headers: { "content-type": type } });
    },
  });
  const database = go.newDatabase("sum.example");
  const keys = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const host = `127.0.0.1:${server.port}`;
  const at = `http://${host}`;
  const tables = tablesOf(contents(host), keys.privateKey, database);
  return {
    host,
    changed,
    configure(target) {
      const settings = {
        AEGIS_NPM_REGISTRY: `${at}/npm/`,
        AEGIS_PIP_INDEX_URL: `${at}/pip/`,
        AEGIS_GOPROXY: `${at}/go`,
        AEGIS_GOSUMDB: database.key,
        AEGIS_CARGO_INDEX: `sparse+${at}/crates/`,
      };
      const lines = Object.entries(settings).map(([name, value]) => `${name}=${value}\n`);
      target.write("/etc/aegis/aegisd.env", lines.join(""));
      const key = keys.publicKey.export({ format: "der", type: "spki" }).toString("base64");
      const list = { keys: [{ keyid: KEY_ID, key, expires: null }] };
      target.write(`/etc/aegis/npm-keys/${host}.json`, JSON.stringify(list));
      const registries = `allowed_registries = ["${host}"]`;
      const sections = ["npm", "pip", "cargo"].map(
        (tool) => `[${tool}]\napply = "require_human"\n${registries}\n`,
      );
      // The last section is cargo's.
      const policy = `${sections.join("\n")}allow_build_scripts = true\n\n[go]\n${registries}\n`;
      target.write("/etc/aegis/policy.toml", policy);
    },
    async stop() {
      await server.stop(true);
    },
  };
}

function tablesOf(
  contents: Contents,
  key: KeyObject,
  database: ReturnType<typeof go.newDatabase>,
): Record<string, Table> {
  const signed = contents.npm.map((one): npm.FakePackage => {
    const integrity = `sha512-${Buffer.from(npm.sha512(npm.tarballOf(one)), "hex").toString("base64")}`;
    const message = Buffer.from(`${one.name}@${one.version}:${integrity}`);
    const sig = sign("sha256", message, key).toString("base64");
    return { ...one, dist: { ...one.dist, signatures: [{ keyid: KEY_ID, sig }] } };
  });
  const wheels = pip.fakeIndex(contents.pip);
  const crates = Object.assign({}, ...contents.cargo.map((closure) => cargo.fakeCrates(closure)));
  const withoutSlash = (address: string) => address.replace(/\/$/, "");
  return {
    npm: {
      ...{ answers: npm.fakeNpm(signed), base: withoutSlash(npm.REGISTRY) },
      names: [[withoutSlash(npm.REGISTRY), "npm"]],
    },
    pip: { answers: wheels, base: withoutSlash(pip.INDEX), names: [[pip.FILES, "wheels"]] },
    wheels: { answers: wheels, base: pip.FILES },
    go: { answers: go.fakeProxy(contents.go, database).answers, base: go.PROXY },
    crates: { answers: crates, base: cargo.INDEX, names: [[cargo.FILES, "crate-files"]] },
    "crate-files": { answers: crates, base: cargo.FILES },
  };
}
