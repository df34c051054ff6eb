import { AegisError } from "./errors.ts";

/*
 * Every argv that planning may spawn, as data. Nothing here changes the host: the list is the whole of what a plan can
 * make a machine do.
 */

/** One element of a form: a literal word, a word of a shape, a repeated pair, or one to `max` words of a shape at the end. */
type Part = string | RegExp | { pairs: readonly [string, RegExp] } | { many: RegExp; max: number };

/** `name`, `name:arch`, `name=version`, `name:arch=version`; deb-control(5), deb-version(7). A last `-` would mean removal. */
const DEB = /^[a-z0-9][a-z0-9+.-]*[a-z0-9+.](?::[a-z0-9][a-z0-9-]*)?(?:=[0-9A-Za-z][0-9A-Za-z.+~:-]*)?$/;
/** The same without a version: what is removed has whatever version is there. */
const DEB_NAME = /^[a-z0-9][a-z0-9+.-]*[a-z0-9+.](?::[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)?$/;
const NPM = /^(?:@[a-z0-9][a-z0-9._-]*\/)?[a-z0-9][a-z0-9._-]*(?:@[\^~]?[0-9A-Za-z][0-9A-Za-z.+-]*)?$/;
const PYPI = /^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?$/;
const IMAGE =
  /^[a-z0-9][a-z0-9._:/-]*(?:@sha256:[0-9a-f]{64})?$|^[a-z0-9][a-z0-9._/-]*:[A-Za-z0-9_][A-Za-z0-9_.-]*$/;
const NUGET = /^[A-Za-z0-9_][A-Za-z0-9_.-]*$/;
const MODULE = /^[A-Za-z0-9][A-Za-z0-9._~/-]*(?:@[A-Za-z0-9][A-Za-z0-9._+-]*)?$/;
const CRATE = /^[A-Za-z][A-Za-z0-9_-]*$/;
/** An absolute path without `.`, `..` or empty components. */
const FILE = /^(?:\/(?!\.{0,2}(?:\/|$))[^/\p{C}]+)+$/u;
const TOOL = /^(?:apt-get|dpkg|gpgv|sqv|npm|python3|docker|podman|dotnet|nuget|code|go|cargo)$/;

const some = (many: RegExp): Part => ({ many, max: 4000 });

const FORMS: readonly (readonly Part[])[] = [
  ["apt-get", "-s", "upgrade"],
  ["apt-get", "-s", "install", some(DEB)],
  ["apt-get", "-s", "install", "--allow-downgrades", some(DEB)],
  ["apt-get", "-s", "remove", some(DEB_NAME)],
  ["apt-cache", /^(?:policy|show)$/, some(DEB)],
  ["apt-config", "dump"],
  ["dpkg", "--audit"],
  ["gpgv", "--status-fd", "1", { pairs: ["--keyring", FILE] }, { many: FILE, max: 2 }],
  ["sqv", { pairs: ["--keyring", FILE] }, FILE, FILE],
  ["npm", "view", NPM, "--json"],
  ["python3", "-m", "pip", "index", "versions", PYPI],
  ["python3", "-m", "pip", "inspect"],
  [/^(?:docker|podman)$/, "manifest", "inspect", IMAGE],
  ["dotnet", "nuget", "search", NUGET],
  ["code", "--list-extensions", "--show-versions"],
  ["go", "env", "GOSUMDB", "GOPROXY", "GOPRIVATE", "GONOSUMDB"],
  ["go", "list", "-m", "-json", MODULE],
  ["cargo", "search", CRATE, "--limit", "5"],
  [TOOL, "--version"],
];

/**
 * Lets only the argv of planning through.
 * @throws AegisError `internal` for anything else: asking for it is a fault of this program
 */
export function assertPlanningArgv(argv: readonly string[]): void {
  if (!FORMS.some((form) => matches(form, argv))) {
    throw new AegisError("internal", `planning may not run ${JSON.stringify(argv)}`);
  }
}

function matches(form: readonly Part[], argv: readonly string[]): boolean {
  let at = 0;
  for (const part of form) {
    if (typeof part === "string" || part instanceof RegExp) {
      if (!fits(part, argv[at])) return false;
      at++;
    } else if ("pairs" in part) {
      const start = at;
      while (argv[at] === part.pairs[0] && fits(part.pairs[1], argv[at + 1])) at += 2;
      if (at === start) return false;
    } else {
      const rest = argv.slice(at);
      if (rest.length === 0 || rest.length > part.max) return false;
      if (!rest.every((word) => fits(part.many, word))) return false;
      at = argv.length;
    }
  }
  return at === argv.length;
}

function fits(shape: string | RegExp, word: string | undefined): boolean {
  if (word === undefined || word.length > 1024) return false;
  return typeof shape === "string" ? word === shape : shape.test(word);
}
