import { join } from "node:path";
import { badArchive } from "./eco-archive.ts";
import type { RegistryRequest } from "./eco-planning.ts";
import { AegisError, messageOf } from "./errors.ts";
import { childOf, childrenOf, parseXml, type XmlElement } from "./nuget-xml.ts";
import type { Env } from "./paths.ts";

/*
 * Where NuGet packages come from, by the settings of whoever plans, read as data. A NuGet.Config can also name credential providers and
 * plugins, which are programs: nothing of that is looked at.
 * https://learn.microsoft.com/nuget/reference/nuget-config-file
 */

const NUGET_ORG = "https://api.nuget.org/v3/index.json";
/** nuget.org's address before version 3 of the protocol, which Debian's nuget writes into new settings. */
const OLD_NUGET_ORG = /^https:\/\/(?:www\.)?nuget\.org\/api\/v2\/?$/i;

export interface NugetConfig {
  /** The service index of the one source, without credentials. */
  source: URL;
  /** For requests to the source's own host. */
  request: RegistryRequest;
  /** For requests to any other host that it names: without credentials. */
  otherRequest: RegistryRequest;
  /** Why nothing may be planned with these settings; null where something may. */
  refused: string | null;
  /** What is set and not used, for warnings. */
  notes: string[];
}

interface Settings {
  sources: Map<string, string>;
  disabled: Set<string>;
  credentials: Map<string, ReadonlyMap<string, string>>;
  config: Map<string, string>;
  hasMapping: boolean;
}

/**
 * Reads the settings: the machine's, then the user's, of which Mono's nuget reads one file and Microsoft's dotnet the other.
 * @throws AegisError `invalid_config` naming what can't be used
 */
export function nugetConfig(
  env: Env,
  readText: (path: string) => string | null,
  list: (path: string) => string[],
): NugetConfig {
  const settings = readSettings(filesOf(env, list), readText);
  const own = env.AEGIS_NUGET_SOURCE ?? "";
  const enabled = [...settings.sources].filter(([name]) => !settings.disabled.has(name.toLowerCase()));
  const found = own === "" ? enabled : [...enabled.filter(([, value]) => value === own)].slice(0, 1);
  const [name, address = NUGET_ORG] = found[0] ?? [null, own === "" ? NUGET_ORG : own];
  const different = new Set(found.map(([, value]) => canonical(value)));
  const notes: string[] = [];
  if (settings.hasMapping) notes.push("NuGet's settings: packageSourceMapping is set and not used.");
  const source = addressOf(OLD_NUGET_ORG.test(address) ? NUGET_ORG : address);
  const authorization = passwordIn(source) ?? authorizationOf(name, settings, notes);
  source.username = "";
  source.password = "";
  const proxy = settings.config.get("http_proxy") ?? "";
  const otherRequest: RegistryRequest = proxy === "" ? {} : { proxy: proxyAddress(proxy) };
  const others = [...different].filter((one) => one !== canonical(address)).map(hostIn);
  return {
    source,
    request: authorization === null ? otherRequest : { ...otherRequest, headers: { authorization } },
    otherRequest,
    refused:
      others.length === 0
        ? null
        : `NuGet's settings name another source (${others.join(", ")}): whoever registers an id there could take the place of a package of ${source.host} (dependency confusion). Leave one source that has both, and disable the others`,
    notes,
  };
}

function filesOf(env: Env, list: (path: string) => string[]): string[] {
  const machine = "/etc/opt/NuGet/Config";
  const home = env.HOME ?? "";
  return [
    ...list(machine)
      .filter((name) => /\.config$/i.test(name))
      .map((name) => join(machine, name)),
    ...(home === ""
      ? []
      : [join(home, ".config/NuGet/NuGet.Config"), join(home, ".nuget/NuGet/NuGet.Config")]),
  ];
}

function readSettings(paths: readonly string[], readText: (path: string) => string | null): Settings {
  const settings: Settings = {
    ...{ sources: new Map(), disabled: new Set(), credentials: new Map(), config: new Map() },
    hasMapping: false,
  };
  for (const path of paths) {
    const text = readText(path);
    if (text === null) continue;
    try {
      addFile(parseXml(Buffer.from(text)), settings);
    } catch (error) {
      throw invalid(`${path}: ${messageOf(error)}`);
    }
  }
  return settings;
}

function addFile(root: XmlElement, settings: Settings): void {
  if (root.name !== "configuration") throw badArchive("it has no <configuration>");
  for (const { name, key, value } of entriesOf(childOf(root, "packageSources"))) {
    if (name === "clear") settings.sources.clear();
    if (name === "remove") settings.sources.delete(key);
    if (name === "add") settings.sources.set(key, value.trim());
  }
  for (const { name, key, value } of entriesOf(childOf(root, "disabledPackageSources"))) {
    if (name === "clear") settings.disabled.clear();
    if (name === "add" && /^true$/i.test(value)) settings.disabled.add(key.toLowerCase());
  }
  for (const { name, key, value } of entriesOf(childOf(root, "config"))) {
    if (name === "clear") settings.config.clear();
    if (name === "add") settings.config.set(key.toLowerCase(), value.trim());
  }
  for (const source of childOf(root, "packageSourceCredentials")?.children ?? []) {
    const pairs = entriesOf(source).map(({ key, value }): [string, string] => [key.toLowerCase(), value]);
    settings.credentials.set(elementName(source.name), new Map(pairs));
  }
  if (childrenOf(root, "packageSourceMapping").length > 0) settings.hasMapping = true;
}

function entriesOf(section: XmlElement | undefined): { name: string; key: string; value: string }[] {
  return (section?.children ?? []).map(({ name, attributes }) => ({
    name,
    key: attributes.get("key") ?? "",
    value: attributes.get("value") ?? "",
  }));
}

/** Names of sources stand as elements, with what isn't allowed there as `_x0020_`. */
function elementName(name: string): string {
  return name.replace(/_x([0-9a-f]{4})_/gi, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
}

function authorizationOf(name: string | null, { credentials }: Settings, notes: string[]): string | null {
  const found = name === null ? undefined : credentials.get(name);
  if (found === undefined) return null;
  const password = found.get("cleartextpassword");
  if (password === undefined) {
    notes.push(
      "NuGet's settings: the password of the source is encrypted, and only Windows can read it: not used.",
    );
    return null;
  }
  return basic(found.get("username") ?? "", password);
}

function basic(user: string, password: string): string {
  return `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`;
}

function passwordIn({ username, password }: URL): string | null {
  return username === "" && password === ""
    ? null
    : basic(decodeURIComponent(username), decodeURIComponent(password));
}

function addressOf(text: string): URL {
  if (!/^https?:\/\//i.test(text) || !URL.canParse(text))
    throw invalid(`the source ${hostIn(text)} is no http or https address; directories are not used`);
  const url = new URL(text);
  url.hash = "";
  return url;
}

function canonical(address: string): string {
  return (OLD_NUGET_ORG.test(address) ? NUGET_ORG : address).replace(/\/+$/, "").toLowerCase();
}

/** What an address may be called in a message: its host, since the rest may hold a password. */
function hostIn(address: string): string {
  return URL.canParse(address) && new URL(address).host !== "" ? new URL(address).host : "a directory";
}

function proxyAddress(text: string): string {
  const address = /^[a-z0-9+.-]+:\/\//i.test(text) ? text : `http://${text}`;
  if (!/^https?:/i.test(address) || !URL.canParse(address)) throw invalid("http_proxy is no http address");
  return address;
}

function invalid(problem: string): AegisError {
  return new AegisError(
    "invalid_config",
    `NuGet's settings can't be used: ${problem}`,
    "Correct them: https://learn.microsoft.com/nuget/reference/nuget-config-file",
  );
}
