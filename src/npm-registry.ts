import * as v from "valibot";
import type { Digest, PackageFile, Planning } from "./eco-planning.ts";
import { AegisError } from "./errors.ts";
import { type NpmRequests, registryOf } from "./npm-config.ts";
import { type NpmVersion, type Packument, readPackument, readVersion } from "./npm-metadata.ts";

/*
 * What planning asks npm registries for, each thing once: packuments, package files, and what else a registry keeps. Every request
 * goes to the registry that is configured for the package; a registry that sends elsewhere is refused.
 */

/** Public, and where npm itself puts the configured registry in its place. */
const PUBLIC_HOST = "registry.npmjs.org";

export class NpmRegistry {
  readonly #config: ReadonlyMap<string, string>;
  readonly #requests: NpmRequests;
  readonly #planning: Planning;
  readonly #packuments = new Map<string, Promise<Packument | null>>();

  constructor(config: ReadonlyMap<string, string>, requests: NpmRequests, planning: Planning) {
    this.#config = config;
    this.#requests = requests;
    this.#planning = planning;
  }

  /** The registry of a package. Its path ends with a slash. */
  urlOf(name: string): URL {
    return new URL(registryOf(this.#config, name));
  }

  /** Whether requests about a package carry credentials, which no program is given. */
  needsLogin(name: string): boolean {
    const url = this.urlOf(name);
    return this.#requests(url).headers !== undefined || this.#planning.hasCredentials?.(url) === true;
  }

  /**
   * Everything that the registry says of a package, or null where it knows none of that name.
   * @throws AegisError `unavailable`
   */
  packument(name: string): Promise<Packument | null> {
    const known = this.#packuments.get(name);
    if (known !== undefined) return known;
    const asked = this.#askPackument(name);
    this.#packuments.set(name, asked);
    return asked;
  }

  async #askPackument(name: string): Promise<Packument | null> {
    const found = await this.document(name, name.replace("/", "%2f"));
    if (found === null) return null;
    const packument = readPackument(name, found);
    if (typeof packument !== "string") return packument;
    throw new AegisError("unavailable", `${this.urlOf(name).host} gave no usable answer: ${packument}`);
  }

  /**
   * The JSON document that a package's registry keeps at `path`, or null where it has none.
   * @throws AegisError `unavailable`
   */
  async document(name: string, path: string): Promise<unknown> {
    const url = new URL(path, this.urlOf(name));
    const { status, bytes, location } = await this.#planning.get(url, this.#requests(url));
    if (status === 404) return null;
    const elsewhere = location === "" ? "" : ", which sends elsewhere; that is not followed";
    if (status !== 200)
      throw new AegisError("unavailable", `${url.host} gave no usable answer: status ${status}${elsewhere}`);
    try {
      return JSON.parse(Buffer.from(bytes).toString());
    } catch {
      throw new AegisError("unavailable", `${url.host} gave no usable answer: not JSON`);
    }
  }

  /**
   * The metadata of one version.
   * @throws AegisError `unavailable` where the registry doesn't have it or describes it in no way that npm would
   */
  async version(name: string, version: string): Promise<NpmVersion> {
    const packument = await this.packument(name);
    const found = packument === null ? "it is not there" : readVersion(packument, version);
    if (typeof found !== "string") return found;
    throw new AegisError(
      "unavailable",
      `${this.urlOf(name).host} gave no usable answer about ${name}@${version}: ${found}`,
    );
  }

  /**
   * Where a version's package file is. npm puts the configured registry in the place of the public one; any other host is refused.
   * @throws AegisError `refused`
   */
  tarballUrl({ name, version, dist }: NpmVersion): URL {
    const registry = this.urlOf(name);
    const text = dist.tarball ?? "";
    if (!URL.canParse(text)) throw refused(`${name}@${version} has no address of a package file`);
    const url = new URL(text);
    if (url.host === PUBLIC_HOST && registry.host !== PUBLIC_HOST) {
      const path = registry.pathname.replace(/\/$/, "");
      const isBelow = url.pathname === path || url.pathname.startsWith(`${path}/`);
      url.pathname = isBelow ? url.pathname : `${path}${url.pathname}`;
      url.protocol = registry.protocol;
      url.host = registry.host;
      if (registry.port === "") url.port = "";
    }
    if (url.origin !== registry.origin || url.username !== "" || url.password !== "")
      throw refused(
        `the package file of ${name}@${version} is at ${url.origin}, which is not its registry ${registry.origin}`,
      );
    url.hash = "";
    return url;
  }

  /**
   * A version's package file, checked against the hash that the registry states.
   * @throws AegisError `unavailable`, `evidence_mismatch`, `refused`
   */
  packageFile(version: NpmVersion): Promise<PackageFile> {
    const url = this.tarballUrl(version);
    return this.#planning.packageFile(url, digestOf(version), this.#requests(url));
  }
}

/** The strongest hash of a version's package file that its registry states, or null. */
export function digestOf({ dist }: NpmVersion): Digest | null {
  const hashes = (dist.integrity ?? "").trim().split(/\s+/);
  for (const [algorithm, bytes] of [
    ["sha512", 64],
    ["sha256", 32],
  ] as const) {
    // Options of a hash (`?…`) say nothing about it. https://www.w3.org/TR/SRI/#the-integrity-attribute
    const found = hashes.find((one) => one.startsWith(`${algorithm}-`))?.replace(/^\w+-|\?.*$/g, "") ?? "";
    const raw = Buffer.from(found, "base64");
    if (raw.length === bytes && raw.toString("base64") === found)
      return { algorithm, hex: raw.toString("hex") };
  }
  return v.is(SHA1, dist.shasum) ? { algorithm: "sha1", hex: dist.shasum } : null;
}

const SHA1 = v.pipe(v.string(), v.regex(/^[0-9a-f]{40}$/));

function refused(message: string): AegisError {
  return new AegisError("refused", message, "Don't install it: report it to its registry.");
}
