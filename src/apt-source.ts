import { archiveUri } from "./apt-uri.ts";

/** A repository configured for apt: one URI and one suite. */
export interface AptSource {
  /** `<uri> <suite>`, as in `apt-cache policy`. */
  id: string;
  /** Without credentials and trailing `/`. */
  uri: string;
  /** A suite; or with a trailing `/` the directory of a flat repository, which has no components. */
  suite: string;
  components: string[];
  configuredIn: string;
  /** Keyring paths, fingerprints, or an armored key, as written. */
  signedBy: string | null;
  trusted: boolean;
  allowInsecure: boolean;
  /** Architecture options in one-line form: `arch=amd64,i386`, `arch-=i386`. Empty for the host's default. */
  architectures: string[];
  /** False for `deb-src`. */
  binary: boolean;
}

/** The sources in a file, and what apt could read differently. */
export interface ParsedSources {
  sources: AptSource[];
  problems: string[];
}

/** Options of a line, or fields of a stanza (lower case). */
type Options = ReadonlyMap<string, string>;

/** Builds a source from either form. `options` have one-line names. Null for anything apt could read differently. */
export function aptSource(
  uri: string,
  suite: string,
  components: string[],
  rest: { options: Options; configuredIn: string; architecture: string; binary: boolean },
): AptSource | null {
  const { options, configuredIn, architecture, binary } = rest;
  const known = archiveUri(uri.replaceAll("$(ARCH)", architecture));
  // These two make apt fetch from elsewhere.
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

/** Whether an option may disable a check: anything apt doesn't clearly read as no. */
function isSet(text: string | undefined): boolean {
  return text !== undefined && stringToBool(text) !== false;
}

/** apt's StringToBool (apt-pkg/contrib/strutl.cc); null if apt would use the default. Numbers as in strtol(3). */
export function stringToBool(text: string): boolean | null {
  if (/^(?:no|false|without|off|disable)$/i.test(text)) return false;
  if (/^(?:yes|true|with|on|enable)$/i.test(text)) return true;
  if (/^$|^[ \t]*[+-]?0(?:x0+|0*)$/i.test(text)) return false;
  return /^[ \t]*\+?0*(?:x0*)?1$/i.test(text) ? true : null;
}
