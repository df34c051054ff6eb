import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { sha256Hex } from "../src/canonical.ts";
import { clearSign, newSigningKey, type SigningKey } from "./throwaway-gpg.ts";
import { FOREIGN, NATIVE, type PackageDefinition } from "./throwaway-packages.ts";

/** A signed apt repository, served over http on the loopback address. */
export interface Repository {
  /** Base URI, without a slash at the end. */
  readonly url: string;
  readonly suite: string;
  readonly key: SigningKey;
  /** Replaces the index and signs it again. Packages published before can still be downloaded. */
  publish(packages: readonly PackageDefinition[]): Promise<void>;
  /** Served files: path → bytes. */
  files(): ReadonlyMap<string, Uint8Array>;
  stop(): Promise<void>;
}

export interface RepositoryOptions {
  /** Origin and Label of its Release file. */
  origin?: string;
  suite?: string;
  /** Default: a new key. */
  key?: SigningKey;
  /** Serves the archive as of a moment, as snapshot.debian.org does: below that moment, with an index that was valid for a week. */
  asOf?: Date;
}

/** Starts an empty, signed repository. */
export async function startRepository(options: RepositoryOptions = {}): Promise<Repository> {
  const { origin = "Throwaway", suite = "stable", key = newSigningKey(origin), asOf } = options;
  const moment = asOf?.toISOString().replaceAll(/[-:]|\.\d{3}/g, "");
  const base = moment === undefined ? "" : `/archive/debian/${moment}`;
  let files: ReadonlyMap<string, Uint8Array> = new Map();
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch(request) {
      const path = decodeURIComponent(new URL(request.url).pathname);
      const bytes = path.startsWith(`${base}/`) ? files.get(path.slice(base.length + 1)) : undefined;
      return bytes === undefined
        ? new Response("not found", { status: 404 })
        : new Response(Buffer.from(bytes));
    },
  });
  const publish = async (packages: readonly PackageDefinition[]) => {
    const built = await Promise.all(packages.map(build));
    const next = new Map([...files].filter(([path]) => path.startsWith("pool/")));
    for (const { path, bytes } of built) next.set(path, bytes);
    for (const [path, text] of index(origin, suite, built, key, asOf ?? new Date()))
      next.set(path, Buffer.from(text));
    files = next;
  };
  await publish([]);
  return {
    url: `http://127.0.0.1:${server.port}${base}`,
    suite,
    key,
    publish,
    files: () => files,
    stop: () => server.stop(true),
  };
}

/** A package as the index describes it. */
interface Built {
  path: string;
  bytes: Uint8Array;
  definition: PackageDefinition;
}

/** Packages built by this process, so that publishing again only builds new ones. */
const built = new Map<string, Promise<Built>>();

function build(definition: PackageDefinition): Promise<Built> {
  const id = JSON.stringify(definition);
  const known = built.get(id) ?? buildDeb(definition);
  built.set(id, known);
  return known;
}

async function buildDeb(definition: PackageDefinition): Promise<Built> {
  const file = `pool/${definition.name}_${definition.version}_${architecture(definition)}.deb`;
  if (definition.deb !== undefined) return { path: file, bytes: readFileSync(definition.deb), definition };
  const directory = mkdtempSync(join(tmpdir(), "aegis-deb-"));
  try {
    const put = (path: string, text: string | Uint8Array, mode: number) => {
      const file = join(directory, "root", path);
      mkdirSync(dirname(file), { recursive: true, mode: 0o755 });
      writeFileSync(file, text);
      chmodSync(file, mode); // Regardless of the umask, set-user-id included.
    };
    put("DEBIAN/control", `${control(definition)}\n`, 0o644);
    for (const [name, text] of Object.entries(definition.control ?? {})) {
      put(`DEBIAN/${name}`, text, text.startsWith("#!") ? 0o755 : 0o644);
    }
    for (const [path, text] of Object.entries(definition.files ?? {})) {
      put(path, text, definition.modes?.[path] ?? (/^\/usr\/s?bin\//.test(path) ? 0o755 : 0o644));
    }
    const deb = join(directory, "out.deb");
    const child = Bun.spawn(
      ["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", join(directory, "root"), deb],
      {
        // Makes the bytes reproducible.
        env: { PATH: "/usr/bin:/bin", SOURCE_DATE_EPOCH: "1700000000" },
        stdout: "ignore",
        stderr: "pipe",
      },
    );
    if ((await child.exited) !== 0)
      throw new Error(`dpkg-deb failed: ${await new Response(child.stderr).text()}`);
    return { path: file, bytes: readFileSync(deb), definition };
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function architecture(definition: PackageDefinition): string {
  return definition.architecture ?? "all";
}

/** The control paragraph, without a newline at its end (deb-control(5)). */
function control(definition: PackageDefinition): string {
  const fields = {
    Package: definition.name,
    Version: definition.version,
    Architecture: architecture(definition),
    Maintainer: "Throwaway <throwaway@example.invalid>",
    Section: "misc",
    Priority: "optional",
    Description: `throw-away package ${definition.name}`,
    ...definition.fields,
  };
  return lines(fields);
}

function lines(fields: Readonly<Record<string, string>>): string {
  return Object.entries(fields)
    .map(([name, value]) => `${name}: ${value}`)
    .join("\n");
}

/*
 * Packages and InRelease, written here rather than by apt-ftparchive, which not every machine has and which would need the
 * network to fetch. apt itself and gpgv check the result.
 */
function index(
  origin: string,
  suite: string,
  packages: readonly Built[],
  key: SigningKey,
  date: Date,
): [string, string][] {
  const indices = [NATIVE, FOREIGN].map((arch): [string, string] => [
    `main/binary-${arch}/Packages`,
    packages
      .filter(({ definition }) => [arch, "all"].includes(architecture(definition)))
      .map(({ path, bytes, definition }) => {
        const more = {
          ...definition.indexFields,
          Filename: path,
          Size: `${bytes.length}`,
          SHA256: sha256Hex(bytes),
        };
        if (definition.record !== undefined) {
          return definition.record
            .replaceAll("@FILENAME@", more.Filename)
            .replaceAll("@SIZE@", more.Size)
            .replaceAll("@SHA256@", more.SHA256);
        }
        return `${control(definition)}\n${lines(more)}\n`;
      })
      .join("\n"),
  ]);
  const release = lines({
    Origin: origin,
    Label: origin,
    Suite: suite,
    Codename: suite,
    Date: date.toUTCString().replace("GMT", "UTC"),
    "Valid-Until": new Date(date.getTime() + 7 * 86_400_000).toUTCString().replace("GMT", "UTC"),
    Architectures: `${NATIVE} ${FOREIGN}`,
    Components: "main",
    SHA256: indices
      .map(([path, text]) => `\n ${sha256Hex(text)} ${Buffer.byteLength(text)} ${path}`)
      .join(""),
  });
  const base = `dists/${suite}/`;
  return [
    ...indices.map(([path, text]): [string, string] => [base + path, text]),
    [`${base}InRelease`, clearSign(key, `${release}\n`)],
  ];
}
