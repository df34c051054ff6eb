import * as v from "valibot";
import { AegisError } from "./errors.ts";
import { SYSTEM } from "./paths.ts";
import { readConfig } from "./sys-config.ts";
import { isProtected } from "./sys-fetch.ts";
import { secretFileProblem } from "./sys-files.ts";
import { readToml } from "./sys-toml.ts";

/*
 * Credentials of registries for the executor, which knows no user's settings. They become a header of the requests to their own host,
 * in planning and in the fetch process, and reach no plan, argv, log or message. So the messages here name keys and never values.
 */

/** Field values of RFC 9110, section 5.5, without what isn't ASCII. */
const isFieldValue = (value: unknown): value is string =>
  typeof value === "string" && /^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/.test(value);
const isText = (value: unknown): value is string => typeof value === "string" && value !== "";

const Registries = v.strictObject({
  registry: v.optional(
    v.array(
      v.strictObject({
        host: v.custom<string>((value) => hostOf(value) !== null, "not a host or host:port"),
        authorization: v.optional(v.custom<string>(isFieldValue, "not the value of a header")),
        // The colon separates them: RFC 7617, section 2.
        user: v.optional(
          v.custom<string>((value) => isText(value) && !value.includes(":"), "not a user's name"),
        ),
        password: v.optional(v.custom<string>(isText, "not a text in quotes")),
      }),
    ),
    [],
  ),
});
type Registry = v.InferOutput<typeof Registries>["registry"][number];

/** The header for one address: its host's credentials, or none. */
export type CredentialsOf = (url: URL) => Readonly<Record<string, string>>;

/**
 * The credentials in root's file, which is read with the first question. They are given for the exact host and port, and never over
 * plain HTTP except to this machine.
 * @throws AegisError `invalid_config` for a file that others than root can read or change, or that can't be used
 */
export function registryCredentials(path: string = SYSTEM.registries): CredentialsOf {
  let known: ReadonlyMap<string, string> | null = null;
  return (url) => {
    known ??= readCredentials(path);
    const authorization = isProtected(url) ? known.get(url.host) : undefined;
    return authorization === undefined ? {} : { authorization };
  };
}

/** Why the file's mode or owner is wrong, and what to type; null if they are right or there is no file. */
export function credentialsProblem(path: string = SYSTEM.registries): { why: string; fix: string } | null {
  const why = secretFileProblem(path);
  return why === null ? null : { why, fix: `Type: sudo chown root:root ${path} && sudo chmod 600 ${path}` };
}

function readCredentials(path: string): ReadonlyMap<string, string> {
  const problem = credentialsProblem(path);
  if (problem !== null) throw new AegisError("invalid_config", problem.why, problem.fix);
  const text = readConfig(path, true);
  if (text === null) return new Map();
  const read = readToml(text, Registries);
  if (read.problem !== null) throw invalid(path, read.problem);
  const found = new Map<string, string>();
  for (const registry of read.settings.registry) {
    const host = hostOf(registry.host) ?? "";
    if (found.has(host)) throw invalid(path, `${host} has two entries`);
    const authorization = authorizationOf(registry);
    if (authorization === null)
      throw invalid(path, `${host}: give authorization, or user and password, and not both`);
    found.set(host, authorization);
  }
  return found;
}

function authorizationOf({ authorization, user, password }: Registry): string | null {
  if (user === undefined && password === undefined) return authorization ?? null;
  if (authorization !== undefined || user === undefined || password === undefined) return null;
  return `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`;
}

/** As URLs have it: lower case, without the port of HTTPS. Null for anything that is more than a host and a port. */
function hostOf(value: unknown): string | null {
  const address = `https://${String(value)}/`;
  if (typeof value !== "string" || !/^[\w.:[\]-]+$/.test(value) || !URL.canParse(address)) return null;
  return new URL(address).host;
}

function invalid(path: string, problem: string): AegisError {
  return new AegisError("invalid_config", `${path}: ${problem}`, "See what it may hold: aegis help files");
}
