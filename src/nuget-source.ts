import * as v from "valibot";
import type { PackageFile, Planning, RegistryRequest } from "./eco-planning.ts";
import { AegisError } from "./errors.ts";
import type { NugetConfig } from "./nuget-config.ts";
import { isNugetVersion, NUGET_VERSIONS, normalizedVersion } from "./nuget-version.ts";
import { isProtected, noUsableAnswer } from "./sys-fetch.ts";

/*
 * One package source, by NuGet's protocol of version 3: the service index says where versions, package files and registrations are.
 * https://learn.microsoft.com/nuget/api/overview
 */

const MAX_DOCUMENT = 16 * 1024 * 1024;
/** nuget.org gives a package that was taken off its lists this year. */
const NEVER = /^1900-/;

const text = v.optional(v.nullable(v.string()));
const ServiceIndex = v.looseObject({
  version: v.string(),
  resources: v.array(
    v.looseObject({ "@id": v.string(), "@type": v.union([v.string(), v.array(v.string())]) }),
  ),
});
const Versions = v.looseObject({ versions: v.array(v.string()) });
const CatalogEntry = v.looseObject({
  "@id": text,
  version: v.string(),
  listed: v.optional(v.nullable(v.boolean())),
  published: text,
  packageHash: text,
  packageHashAlgorithm: text,
  deprecation: v.optional(
    v.nullable(v.looseObject({ message: text, reasons: v.optional(v.array(v.string()), []) })),
  ),
  vulnerabilities: v.optional(
    v.nullable(
      v.array(
        v.looseObject({
          advisoryUrl: text,
          severity: v.optional(v.nullable(v.union([v.string(), v.number()]))),
        }),
      ),
    ),
  ),
});
const Leaf = v.looseObject({ catalogEntry: v.union([CatalogEntry, v.string()]) });
const Page = v.looseObject({
  "@id": v.string(),
  lower: v.string(),
  upper: v.string(),
  items: v.optional(v.nullable(v.array(Leaf))),
});
const Registration = v.looseObject({ items: v.array(Page) });
const Search = v.looseObject({
  data: v.array(
    v.looseObject({
      id: v.string(),
      owners: v.optional(v.nullable(v.union([v.string(), v.array(v.string())]))),
    }),
  ),
});
const Signatures = v.looseObject({
  allRepositorySigned: v.optional(v.boolean(), false),
  signingCertificates: v.optional(
    v.array(
      v.looseObject({ fingerprints: v.looseObject({ "2.16.840.1.101.3.4.2.1": v.optional(v.string()) }) }),
    ),
    [],
  ),
});

/** What a source tells of one version. */
export interface Registered {
  isListed: boolean;
  /** RFC 3339, or null where it doesn't tell. */
  publishedAt: string | null;
  /** SHA-512 of the package file in lower-case hex, or null where it doesn't tell. */
  sha512: string | null;
  deprecated: string | null;
  /** Addresses of advisories. */
  vulnerabilities: string[];
}

const UNTOLD: Registered = {
  ...{ isListed: true, publishedAt: null, sha512: null, deprecated: null },
  vulnerabilities: [],
};

export class NugetSource {
  readonly #config: NugetConfig;
  readonly #planning: Planning;
  readonly #read = new Map<string, Promise<unknown>>();

  constructor(config: NugetConfig, planning: Planning) {
    this.#config = config;
    this.#planning = planning;
  }

  /**
   * Every version of a package, normalised, in ascending order.
   * @throws AegisError `not_found`, `unavailable`
   */
  async versions(id: string): Promise<string[]> {
    const base = await this.#resource("PackageBaseAddress/3.0.0");
    if (base === null) throw noUsableAnswer(this.#config.source, "its service index names no package files");
    const found = await this.#json(new URL(`${id.toLowerCase()}/index.json`, base), Versions);
    if (found === null)
      throw new AegisError("not_found", `${this.#config.source.host} has no package ${id}`, "Check the id.");
    const normalized = found.versions.flatMap((one) => normalizedVersion(one) ?? []);
    return [...new Set(normalized.map((one) => one.toLowerCase()))].sort(NUGET_VERSIONS.compare);
  }

  /** @throws AegisError `unavailable` */
  async registered(id: string, version: string): Promise<Registered> {
    const base = await this.#resource(
      ...["RegistrationsBaseUrl/3.6.0", "RegistrationsBaseUrl/Versioned", "RegistrationsBaseUrl/3.4.0"],
      "RegistrationsBaseUrl",
    );
    if (base === null) return UNTOLD;
    const index = await this.#json(new URL(`${id.toLowerCase()}/index.json`, base), Registration);
    const compare = NUGET_VERSIONS.compare;
    for (const page of index?.items ?? []) {
      if (![page.lower, page.upper].every(isNugetVersion)) continue;
      if (compare(version, page.lower) < 0 || compare(version, page.upper) > 0) continue;
      const items = page.items ?? (await this.#json(this.#named(page["@id"]), Page))?.items ?? [];
      const isIt = (one: string) => isNugetVersion(one) && compare(one, version) === 0;
      for (const { catalogEntry } of items)
        if (typeof catalogEntry !== "string" && isIt(catalogEntry.version))
          return this.#toldBy(catalogEntry, isIt);
    }
    return UNTOLD;
  }

  /**
   * A package's file, and its address.
   * @throws AegisError `unavailable`, `evidence_mismatch` for another file than the registration tells of
   */
  async file(id: string, version: string, sha512: string | null): Promise<{ url: URL; file: PackageFile }> {
    const base = (await this.#resource("PackageBaseAddress/3.0.0")) ?? this.#config.source;
    const [name, number] = [id.toLowerCase(), version.toLowerCase()];
    const url = new URL(`${name}/${number}/${name}.${number}.nupkg`, base);
    const digest = sha512 === null ? null : { algorithm: "sha512" as const, hex: sha512 };
    return { url, file: await this.#planning.packageFile(url, digest, this.#requestOf(url)) };
  }

  /** Who owns a package, by the source's search; null where it doesn't tell. */
  async owners(id: string): Promise<string | null> {
    const base = await this.#resource("SearchQueryService/3.5.0", "SearchQueryService");
    if (base === null) return null;
    const url = new URL(base);
    for (const [key, value] of Object.entries({
      q: `packageid:${id}`,
      prerelease: "true",
      semVerLevel: "2.0.0",
      take: "1",
    }))
      url.searchParams.set(key, value);
    const found = await this.#json(url, Search).catch(() => null);
    const owners = found?.data.find((one) => one.id.toLowerCase() === id.toLowerCase())?.owners ?? null;
    return owners === null ? null : [owners].flat().join(", ");
  }

  /**
   * SHA-256 fingerprints of the certificates that this source signs its packages with, in lower-case hex, and whether it signs all.
   * @throws AegisError `unavailable`
   */
  async signers(): Promise<{ fingerprints: string[]; signsAll: boolean }> {
    const types = ["5.0.0", "4.9.0", "4.7.0"].map((version) => `RepositorySignatures/${version}`);
    const url = await this.#resource(...types);
    const found = url === null ? null : await this.#json(url, Signatures);
    const known = (found?.signingCertificates ?? []).flatMap(
      ({ fingerprints }) => fingerprints["2.16.840.1.101.3.4.2.1"]?.toLowerCase() ?? [],
    );
    return { fingerprints: known, signsAll: found?.allRepositorySigned ?? false };
  }

  async #toldBy(
    entry: v.InferOutput<typeof CatalogEntry>,
    isIt: (version: string) => boolean,
  ): Promise<Registered> {
    const address = entry["@id"] ?? "";
    const isWhole = entry.packageHash != null || address === "";
    const read = isWhole ? null : await this.#json(this.#named(address), CatalogEntry);
    if (read !== null && !isIt(read.version))
      throw noUsableAnswer(this.#config.source, "its registration leads to another version");
    const published = entry.published ?? read?.published ?? "";
    const { packageHash, packageHashAlgorithm } = read ?? entry;
    const hash = /^SHA512$/i.test(packageHashAlgorithm ?? "")
      ? Buffer.from(packageHash ?? "", "base64")
      : null;
    return {
      isListed: entry.listed ?? !NEVER.test(published),
      publishedAt: NEVER.test(published) ? null : instantOf(published),
      sha512: hash?.length === 64 ? hash.toString("hex") : null,
      deprecated: deprecationOf(entry.deprecation ?? read?.deprecation),
      vulnerabilities: (entry.vulnerabilities ?? read?.vulnerabilities ?? []).map(
        ({ advisoryUrl }) => advisoryUrl ?? "an unnamed one",
      ),
    };
  }

  /** The address of the first of these resources that the service index has, with a last slash where it is a directory. */
  async #resource(...types: string[]): Promise<URL | null> {
    const index = await this.#json(this.#config.source, ServiceIndex);
    if (index === null || !/^3\./.test(index.version))
      throw noUsableAnswer(this.#config.source, "it is no source of NuGet's protocol 3 (…/v3/index.json)");
    for (const type of types) {
      const found = index.resources.find((one) => [one["@type"]].flat().includes(type));
      if (found === undefined) continue;
      const isDirectory = /^(?:PackageBaseAddress|RegistrationsBaseUrl)/.test(type);
      return this.#named(isDirectory && !found["@id"].endsWith("/") ? `${found["@id"]}/` : found["@id"]);
    }
    return null;
  }

  /** An address that the source names: over TLS where the source is, and without a password. */
  #named(address: string): URL {
    const url = URL.canParse(address) ? new URL(address) : null;
    if (
      url === null ||
      url.username !== "" ||
      url.password !== "" ||
      (isProtected(this.#config.source) && !isProtected(url))
    )
      throw noUsableAnswer(this.#config.source, "it names an address that can't be used");
    url.hash = "";
    return url;
  }

  #requestOf(url: URL): RegistryRequest {
    return url.origin === this.#config.source.origin ? this.#config.request : this.#config.otherRequest;
  }

  /** A document, read once; null where there is none. */
  #json<S extends v.GenericSchema>(url: URL, schema: S): Promise<v.InferOutput<S> | null> {
    const known = this.#read.get(url.href) ?? this.#fetch(url);
    this.#read.set(url.href, known);
    return known.then((tree) => {
      if (tree === null) return null;
      const parsed = v.safeParse(schema, tree);
      if (!parsed.success) throw noUsableAnswer(url, "it is not what NuGet's protocol says");
      return parsed.output;
    });
  }

  async #fetch(url: URL): Promise<unknown> {
    const request = { ...this.#requestOf(url), maxBytes: MAX_DOCUMENT };
    const { status, bytes, location } = await this.#planning.get(url, request);
    if (status === 404) return null;
    const elsewhere = location === "" ? "" : ", and sends elsewhere, which is not followed";
    if (status !== 200) throw noUsableAnswer(url, `status ${status}${elsewhere}`);
    try {
      return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    } catch {
      throw noUsableAnswer(url, "it is no JSON");
    }
  }
}

function deprecationOf(found: v.InferOutput<typeof CatalogEntry>["deprecation"]): string | null {
  if (found == null) return null;
  return (found.message ?? found.reasons.join(", ")).slice(0, 4096);
}

function instantOf(published: string): string | null {
  const time = Date.parse(published);
  return Number.isNaN(time) ? null : new Date(time).toISOString();
}
