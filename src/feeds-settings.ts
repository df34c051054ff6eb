import { TABLE } from "./eco-table.ts";
import { AegisError } from "./errors.ts";
import type { FeedLimits } from "./feeds-archive.ts";
import type { Wanted } from "./feeds-records.ts";
import { type Env, SYSTEM } from "./paths.ts";
import { osRelease } from "./plan-world.ts";
import { isProtected } from "./sys-fetch.ts";

/*
 * Which feeds a host downloads, and from where. The settings are in feeds.env and not in the policy file: they decide nothing, and a
 * changed address must not make another policy of it.
 */

/** What is downloaded for one index. */
export type Feed = {
  /** `kev`, `epss`, `vex`, or `osv-` and OSV's name of an ecosystem. */
  name: string;
  url: URL;
  limits: FeedLimits;
} & (
  | { kind: "osv"; wanted: Wanted }
  | { kind: "vex"; release: string; codename: string }
  | { kind: "kev" | "epss" }
);

export interface FeedSettings {
  feeds: Feed[];
  proxy: string | undefined;
}

/**
 * Where the publishers offer them (2026). OSV: https://google.github.io/osv.dev/data/#data-dumps. Ubuntu:
 * https://documentation.ubuntu.com/security/security-updates/vex/. FIRST: https://www.first.org/epss/data_stats
 */
const ADDRESSES = {
  AEGIS_FEEDS_OSV: "https://osv-vulnerabilities.storage.googleapis.com",
  AEGIS_FEEDS_VEX: "https://security-metadata.canonical.com/vex/vex-all.tar.xz",
  AEGIS_FEEDS_KEV: "https://www.cisa.gov/sites/default/files/feeds/known_exploited_vulnerabilities.json",
  AEGIS_FEEDS_EPSS: "https://epss.empiricalsecurity.com/epss_scores-current.csv.gz",
} as const;
/** In place of an address: not downloaded. */
const OFF = "off";

const [MIB, GIB] = [1024 ** 2, 1024 ** 3];
/** Several times of what there is: all of OSV's ecosystems have 1.1 GB together, Ubuntu's VEX 70 MB and, unpacked, about 20 GB. */
const LIMITS = {
  osv: { packed: 2 * GIB, unpacked: 64 * GIB, ratio: 200, entries: 4_000_000, entry: 64 * MIB },
  vex: { packed: GIB / 2, unpacked: 128 * GIB, ratio: 2000, entries: 1_000_000, entry: 64 * MIB },
  kev: { packed: 32 * MIB, unpacked: 32 * MIB, ratio: 200, entries: 1, entry: 32 * MIB },
  epss: { packed: 64 * MIB, unpacked: 256 * MIB, ratio: 200, entries: 1, entry: 256 * MIB },
} as const satisfies Record<Feed["kind"], FeedLimits>;

/** The distributions that OSV has records of by release. A host always uses its own. */
const DISTRIBUTIONS: readonly string[] = ["Debian", "Ubuntu"];

/**
 * The host's feeds, by its settings and its programs.
 * @throws AegisError `invalid_config`
 */
export function feedSettings(
  env: Env,
  readText: (path: string) => string | null,
  hasProgram: (name: string) => boolean,
): FeedSettings {
  const release = osRelease(readText("/etc/os-release") ?? readText("/usr/lib/os-release") ?? "");
  const host = { os_id: release.get("ID") ?? "linux", os_version: release.get("VERSION_ID") ?? "" };
  const known = Object.values(TABLE).flatMap(({ grammar }) => {
    const ecosystem = grammar.osv(host);
    if (ecosystem === null) return [];
    const isOwn = DISTRIBUTIONS.includes(ecosystem.base);
    const program = grammar.shownBy ?? grammar.programs[0]?.name ?? "";
    // 12 for Debian 12.5; Ubuntu's has both parts.
    const number = /^\d+(?:\.\d\d)?$/.exec(host.os_version)?.[0] ?? /^\d+/.exec(host.os_version)?.[0] ?? null;
    const wanted: Wanted = { ecosystem, release: isOwn ? number : null };
    return [{ wanted, used: isOwn || hasProgram(program) }];
  });
  const chosen = (env["AEGIS_FEEDS_ECOSYSTEMS"] ?? "").split(/[\s,]+/).filter((name) => name !== "");
  const names = known.map(({ wanted }) => wanted.ecosystem.base);
  const wrong = chosen.find((name) => !names.includes(name));
  if (wrong !== undefined)
    throw invalid(
      `AEGIS_FEEDS_ECOSYSTEMS names ${JSON.stringify(wrong)}`,
      `This host's are: ${names.join(", ")}.`,
    );
  const base = addressOf(env, "AEGIS_FEEDS_OSV");
  const wanted = known.filter(({ wanted: { ecosystem }, used }) =>
    chosen.length === 0 ? used : chosen.includes(ecosystem.base),
  );
  const osv = wanted.flatMap(({ wanted }): Feed[] => {
    if (base === null) return [];
    const { base: name } = wanted.ecosystem;
    const url = new URL(`${base.href.replace(/\/$/, "")}/${encodeURIComponent(name)}/all.zip`);
    return [{ name: `osv-${name}`, kind: "osv", url, limits: LIMITS.osv, wanted }];
  });
  const codename = release.get("VERSION_CODENAME") ?? "";
  const vexUrl =
    host.os_id === "ubuntu" && /^[a-z]+$/.test(codename) ? addressOf(env, "AEGIS_FEEDS_VEX") : null;
  const vex: Feed[] =
    vexUrl === null
      ? []
      : [{ name: "vex", kind: "vex", url: vexUrl, limits: LIMITS.vex, release: host.os_version, codename }];
  const lists = (["kev", "epss"] as const).flatMap((kind): Feed[] => {
    const url = addressOf(env, kind === "kev" ? "AEGIS_FEEDS_KEV" : "AEGIS_FEEDS_EPSS");
    return url === null ? [] : [{ name: kind, kind, url, limits: LIMITS[kind] }];
  });
  const proxy = env["AEGIS_FEEDS_PROXY"] ?? "";
  if (proxy !== "" && !/^https?:\/\/[^\s/]+\/?$/.test(proxy))
    throw invalid("AEGIS_FEEDS_PROXY is not an address of a proxy", "Such as http://proxy.example:3128.");
  // The short ones first: a person who looks at the first pass sees something.
  return { feeds: [...lists, ...osv, ...vex], proxy: proxy === "" ? undefined : proxy };
}

/** Null if it is switched off. */
function addressOf(env: Env, name: keyof typeof ADDRESSES): URL | null {
  const given = env[name] ?? "";
  if (given === OFF) return null;
  const text = given === "" ? ADDRESSES[name] : given;
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !isProtected(url))
    throw invalid(`${name} is not an https: address, nor one of this machine`, "A mirror needs https, too.");
  if (url.username !== "" || url.password !== "" || url.hash !== "")
    throw invalid(`${name} has credentials in it`, "Everybody can read what comes from there.");
  return url;
}

function invalid(what: string, hint: string): AegisError {
  return new AegisError("invalid_config", `${SYSTEM.feedsEnv}: ${what}`, hint);
}
