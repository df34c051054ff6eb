/** Upstream version and revision: what dpkg allows (parseversion, lib/dpkg/parsehelp.c). A `:` needs an epoch before it. */
const UPSTREAM = /^[0-9][0-9A-Za-z.+~:-]*$/;
const REVISION = /^[0-9A-Za-z.+~]+$/;
/** The largest epoch, dpkg's INT_MAX. */
const MAX_EPOCH = "2147483647";

/**
 * True for a Debian version as `dpkg --validate-version` takes it (deb-version(7)): no wildcard, no regular expression, no
 * white space. Stricter than dpkg in two ways that no archive uses: an epoch is digits alone, and the whole has a limit.
 */
export function isDebVersion(text: string): boolean {
  if (text.length > 256) return false;
  const colon = text.indexOf(":");
  const epoch = text.slice(0, Math.max(colon, 0));
  if (colon >= 0 && (!/^[0-9]+$/.test(epoch) || compareNumbers(epoch, MAX_EPOCH) > 0)) return false;
  const rest = text.slice(colon + 1);
  const dash = rest.lastIndexOf("-");
  if (dash < 0) return UPSTREAM.test(rest);
  // A last `-` is an empty revision, and apt would read it as "remove".
  return UPSTREAM.test(rest.slice(0, dash)) && REVISION.test(rest.slice(dash + 1));
}

/**
 * Orders two Debian versions: negative where `a` is older, 0 where they are equal, positive where `a` is newer.
 * @see deb-version(7), "Sorting algorithm"
 */
export function compareDebVersions(a: string, b: string): number {
  const [x, y] = [split(a), split(b)];
  return (
    compareNumbers(x.epoch, y.epoch) ||
    comparePart(x.upstream, y.upstream) ||
    comparePart(x.revision, y.revision)
  );
}

function split(version: string): { epoch: string; upstream: string; revision: string } {
  const colon = version.indexOf(":");
  const rest = version.slice(colon + 1);
  const dash = rest.lastIndexOf("-");
  return {
    epoch: colon < 0 ? "" : version.slice(0, colon),
    upstream: dash < 0 ? rest : rest.slice(0, dash),
    revision: dash < 0 ? "" : rest.slice(dash + 1),
  };
}

/** Alternating runs of non-digits, by {@link rank}, and of digits, by value. */
function comparePart(a: string, b: string): number {
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    while (isOther(a[i]) || isOther(b[j])) {
      const difference = rank(a[i]) - rank(b[j]);
      if (difference !== 0) return difference;
      i++;
      j++;
    }
    const [m, n] = [digitsFrom(a, i), digitsFrom(b, j)];
    const difference = compareNumbers(m, n);
    if (difference !== 0) return difference;
    i += m.length;
    j += n.length;
  }
  return 0;
}

function isOther(c: string | undefined): boolean {
  return c !== undefined && (c < "0" || c > "9");
}

/** `~` sorts before the end of a part, the end and digits before letters, letters before everything else. */
function rank(c: string | undefined): number {
  if (c === undefined || !isOther(c)) return 0;
  if (c === "~") return -1;
  const code = c.charCodeAt(0);
  return /[A-Za-z]/.test(c) ? code : code + 256;
}

function digitsFrom(text: string, start: number): string {
  let end = start;
  while (end < text.length && !isOther(text[end])) end++;
  return text.slice(start, end);
}

/** Decimal digits of any length, so no rounding; "" is zero. */
function compareNumbers(a: string, b: string): number {
  const [x, y] = [a.replace(/^0+/, ""), b.replace(/^0+/, "")];
  if (x.length !== y.length) return x.length - y.length;
  return x < y ? -1 : x > y ? 1 : 0;
}
