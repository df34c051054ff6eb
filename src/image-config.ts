import { join } from "node:path";
import * as v from "valibot";
import { parseJson } from "./canonical.ts";
import type { Planning } from "./eco-planning.ts";
import { AegisError } from "./errors.ts";
import { DOCKER_HUB, type ImageReference, repositoryOf } from "./image-reference.ts";

/*
 * How a registry is reached by the settings of whoever plans, read as data: the user name and password that `docker login` or `podman
 * login` left in a file, and certificates. The files can also name programs that know passwords: none is run.
 * containers-auth.json(5), containers-certs.d(5), https://docs.docker.com/reference/cli/docker/login/
 */

const AuthFile = v.looseObject({
  auths: v.optional(
    v.record(
      v.string(),
      v.nullable(
        v.looseObject({
          auth: v.optional(v.string()),
          username: v.optional(v.string()),
          password: v.optional(v.string()),
          identitytoken: v.optional(v.string()),
        }),
      ),
    ),
    {},
  ),
  credsStore: v.optional(v.string()),
  credHelpers: v.optional(v.record(v.string(), v.string()), {}),
});
type AuthFile = v.InferOutput<typeof AuthFile>;

/** The names that Docker's own file has for Docker Hub. */
const HUB_KEYS = ["index.docker.io/v1", "index.docker.io", "registry-1.docker.io"];

export interface ImageAccess {
  /** `Basic …` for the registry and for whoever gives out its tokens; null without a password. */
  authorization: string | null;
  /** In PEM, in place of the system's; left out without any. */
  certificates?: string;
  /** What the settings say and planning can't use, as sentences. */
  notes: string[];
}

type Reading = Pick<Planning, "env" | "readText" | "list">;

/**
 * Reads the settings for one repository.
 * @throws AegisError `invalid_config` naming the file that can't be used
 */
export function imageAccess(reference: ImageReference, planning: Reading): ImageAccess {
  const notes: string[] = [];
  const certificates = certificatesOf(reference.domain, planning);
  const access = (authorization: string | null): ImageAccess => ({
    authorization,
    notes,
    ...(certificates === "" ? {} : { certificates }),
  });
  for (const path of authFiles(planning.env)) {
    const text = planning.readText(path);
    if (text === null) {
      if (path === planning.env.REGISTRY_AUTH_FILE)
        notes.push(`REGISTRY_AUTH_FILE names ${path}, which can't be read.`);
      continue;
    }
    const file = readAuthFile(path, text);
    const found = entryOf(file, reference);
    const authorization = found === null ? null : basicOf(path, found);
    if (authorization !== null) return access(authorization);
    notes.push(...unusable(file, found, reference, path));
  }
  return access(null);
}

/** The files in the order of podman-login(1), Docker's last. */
function authFiles({
  REGISTRY_AUTH_FILE,
  XDG_RUNTIME_DIR,
  XDG_CONFIG_HOME,
  DOCKER_CONFIG,
  HOME,
}: Reading["env"]) {
  if ((REGISTRY_AUTH_FILE ?? "") !== "") return [REGISTRY_AUTH_FILE ?? ""];
  const home = HOME ?? "";
  const config = XDG_CONFIG_HOME ?? (home === "" ? undefined : join(home, ".config"));
  const docker = DOCKER_CONFIG ?? (home === "" ? undefined : join(home, ".docker"));
  return [
    ...(XDG_RUNTIME_DIR === undefined ? [] : [join(XDG_RUNTIME_DIR, "containers/auth.json")]),
    ...(config === undefined ? [] : [join(config, "containers/auth.json")]),
    ...(docker === undefined ? [] : [join(docker, "config.json")]),
  ];
}

function readAuthFile(path: string, text: string): AuthFile {
  let tree: unknown;
  try {
    tree = parseJson(text);
  } catch {
    // The parser's words might quote a password.
    throw invalid(path, "it is no JSON");
  }
  const parsed = v.safeParse(AuthFile, tree);
  if (parsed.success) return parsed.output;
  throw invalid(path, "it is no file of `docker login` or `podman login`");
}

type Entry = NonNullable<AuthFile["auths"][string]>;

/** The entry whose name covers most of the repository's: `host/namespace` before `host`. */
function entryOf({ auths }: AuthFile, reference: ImageReference): Entry | null {
  const entries = new Map<string, Entry>();
  for (const [key, entry] of Object.entries(auths)) if (entry !== null) entries.set(nameOf(key), entry);
  for (const name of namesOf(reference)) {
    const entry = entries.get(name);
    if (entry !== undefined) return entry;
  }
  return null;
}

/** Without scheme and last slash. */
function nameOf(key: string): string {
  return key.replace(/^https?:\/\//, "").replace(/\/+$/, "");
}

function namesOf(reference: ImageReference): string[] {
  const names: string[] = [];
  for (let name = repositoryOf(reference); name.includes("/"); name = name.slice(0, name.lastIndexOf("/")))
    names.push(name);
  return [...names, reference.domain, ...(reference.domain === DOCKER_HUB ? HUB_KEYS : [])];
}

/** The header that an entry's password becomes; null for an entry without one. */
function basicOf(path: string, { auth = "", username = "", password = "" }: Entry): string | null {
  if (auth === "" && username === "") return null;
  const pair = auth === "" ? `${username}:${password}` : Buffer.from(auth, "base64").toString("utf8");
  // An empty password is the way to say that a helper knows it, and `<token>` that there is a token instead.
  const [, user = "", secret = ""] = /^([^:]*):([^\0]*)\0*$/.exec(pair) ?? [];
  if (user === "") throw invalid(path, "an entry of auths is not a user name and a password in base64");
  return secret === "" || user === "<token>"
    ? null
    : `Basic ${Buffer.from(`${user}:${secret}`).toString("base64")}`;
}

function unusable(file: AuthFile, entry: Entry | null, reference: ImageReference, path: string): string[] {
  const { domain } = reference;
  const helper = namesOf(reference).find((name) => Object.hasOwn(file.credHelpers, name));
  const keeper = helper === undefined ? file.credsStore : file.credHelpers[helper];
  if (keeper !== undefined)
    return [`${path} leaves the password for ${domain} to a helper (${keeper}), which planning doesn't run.`];
  if ((entry?.identitytoken ?? "") !== "")
    return [`${path} has an identity token for ${domain}, which planning can't use: it only asks with GET.`];
  return [];
}

/** The certificates that both engines would believe a registry by. */
function certificatesOf(domain: string, { readText, list }: Reading): string {
  return ["/etc/containers/certs.d", "/etc/docker/certs.d"]
    .flatMap((directory) => {
      const place = join(directory, domain);
      return list(place)
        .filter((name) => name.endsWith(".crt"))
        .map((name) => readText(join(place, name)) ?? "");
    })
    .join("\n");
}

function invalid(path: string, problem: string): AegisError {
  return new AegisError(
    "invalid_config",
    `the registry passwords in ${path} can't be used: ${problem}`,
    "Log in again with docker login or podman login, or move the file away.",
  );
}
