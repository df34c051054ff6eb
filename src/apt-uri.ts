/** A URI split as apt does (URI::CopyFrom, apt-pkg/contrib/strutl.cc), without credentials. */
interface AptUri {
  scheme: string;
  /** Without the brackets of an IPv6 address. */
  host: string;
  /** As written, or empty. */
  port: string;
  path: string;
}

/**
 * Splits a URI as apt does, which differs from RFC 3986. Null without a scheme, and for a port or brackets that apt
 * would silently ignore.
 */
function parseAptUri(text: string): AptUri | null {
  const colon = text.indexOf(":");
  if (colon < 1) return null;
  const hasHost = text.startsWith("//", colon + 1);
  const start = colon + (hasHost ? 3 : 1);
  if (text.length === start && hasHost) return null;
  const end = endOfHost(text, hasHost ? start : colon);
  const path = text.slice(end) || "/";
  const authority = text.slice(Math.min(start, end), end);
  // A user name has at least one character: a leading `@` doesn't end one.
  const at = authority.lastIndexOf("@");
  const written = at < 1 ? authority : authority.slice(at + 1);
  const [, inBrackets, plain = "", port = ""] =
    /^(?:\[([^[\]]*)\]|([^[\]:]*))(?::([1-9][0-9]{0,4}))?$/.exec(written) ?? [];
  if (inBrackets === undefined && plain === "" && written !== "") return null;
  return { scheme: text.slice(0, colon), host: inBrackets ?? plain, port, path };
}

/** Index of the first `/` outside brackets. */
function endOfHost(text: string, start: number): number {
  let inBrackets = false;
  for (let i = start; i < text.length; i++) {
    if (text[i] === "/" && !inBrackets) return i;
    if (text[i] === "[") inBrackets = true;
    else if (text[i] === "]") inBrackets = false;
  }
  return text.length;
}

/**
 * A repository's URI as apt prints it (URI::ArchiveOnly): without credentials and trailing `/`. Null for text that apt
 * could read as another URI.
 */
export function archiveUri(text: string): string | null {
  const uri = parseAptUri(text);
  if (uri === null) return null;
  const host = /[/:]/.test(uri.host) ? `[${uri.host}]` : uri.host;
  const path = uri.path.endsWith("/") ? uri.path.slice(0, -1) : uri.path;
  const port = uri.port === "" || host === "" ? "" : `:${uri.port}`;
  return `${uri.scheme}:${host === "" ? "" : `//${host}${port}`}${path}`;
}

/**
 * File name of a downloaded index in Dir::State::lists: the Release file's URI (constructMetaIndexURI,
 * apt-pkg/deb/debmetaindex.cc) with the suite encoded, converted to a file name (URItoFileName, strutl.cc): no scheme,
 * `_` for each `/`, and encoded again.
 */
export function listFileName({ uri, suite }: { uri: string; suite: string }, file: string): string {
  const encoded = quote(suite, "+~ ");
  const base = suite === "/" ? "" : suite.endsWith("/") ? encoded : `dists/${encoded}/`;
  const { host = "", port = "", path = "" } = parseAptUri(`${uri}/`) ?? {};
  const site = `${host}${port === "" || host === "" ? "" : `:${port}`}`;
  return quote(`${site}${path}${base}${file}`, '\\|{}[]<>"^~_=!@#$%^&*').replaceAll("/", "_");
}

/** Percent-encodes the characters in `bad` and everything but printable ASCII (QuoteString, strutl.cc). */
function quote(text: string, bad: string): string {
  let quoted = "";
  for (const byte of Buffer.from(text)) {
    const c = String.fromCharCode(byte);
    const isBad = byte <= 0x20 || byte >= 0x7f || c === "%" || bad.includes(c);
    quoted += isBad ? `%${byte.toString(16).padStart(2, "0")}` : c;
  }
  return quoted;
}
