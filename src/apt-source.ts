import { archiveUri } from "./apt-uri.ts";

/** One repository that apt is configured to use: one URI and one suite. */
export interface AptSource {
  /** `<uri> <suite>`, as `apt-cache policy` names it. */
  id: string;
  /** Without credentials and without a last `/`. */
  uri: string;
  /** A suite, or with a last `/` the directory of a flat repository, which has no components. */
  suite: string;
  components: string[];
  configuredIn: string;
  /** Keyring paths, fingerprints, or an armored key, as written. */
  signedBy: string | null;
  trusted: boolean;
  allowInsecure: boolean;
  /** Options that choose architectures, as a line has them: `arch=amd64,i386`, `arch-=i386`. Empty for the host's own. */
  architectures: string[];
  /** False for `deb-src`. */
  binary: boolean;
}

/** What one file configures, and what of it can't be read as apt reads it. */
export interface ParsedSources {
  sources: AptSource[];
  problems: string[];
}

/** Options of a line, or fields of a stanza in lower case. */
type Options = ReadonlyMap<string, string>;

/** What the two forms have in common. `options` are by the names that a line has; null for what apt would read otherwise. */
export function aptSource(
  uri: string,
  suite: string,
  components: string[],
  rest: { options: Options; configuredIn: string; architecture: string; binary: boolean },
): AptSource | null {
  const { options, configuredIn, architecture, binary } = rest;
  const known = archiveUri(uri.replaceAll("$(ARCH)", architecture));
  // These two have apt fetch from elsewhere.
  const snapshot = options.get("snapshot");
  if (known === null || (snapshot !== undefined && stringToBool(snapshot) === null)) return null;
  if (options.has("inrelease-path")) return null;
  return {
    id: `${known} ${suite}`,
    uri: known,
    suite,
    components: suite.endsWith("/") ? [] : components,
    configuredIn,
    signedBy: options.get("signed-by") || null,
    trusted: isSet(options.get("trusted")),
    allowInsecure: ["allow-insecure", "allow-weak", "allow-downgrade-to-insecure"].some((name) =>
      isSet(options.get(name)),
    ),
    architectures: ["arch", "arch+", "arch-"].flatMap((name) => {
      const value = options.get(name);
      return value === undefined ? [] : [`${name}=${value}`];
    }),
    binary,
  };
}

/** Whether an option may switch something off: anything that apt does not plainly read as no. */
function isSet(text: string | undefined): boolean {
  return text !== undefined && stringToBool(text) !== false;
}

/** apt's StringToBool (apt-pkg/contrib/strutl.cc); null where it takes the default. Numbers are as strtol(3) reads them. */
export function stringToBool(text: string): boolean | null {
  if (/^(?:no|false|without|off|disable)$/i.test(text)) return false;
  if (/^(?:yes|true|with|on|enable)$/i.test(text)) return true;
  if (/^$|^[ \t]*[+-]?0(?:x0+|0*)$/i.test(text)) return false;
  return /^[ \t]*\+?0*(?:x0*)?1$/i.test(text) ? true : null;
}
