/*
 * dpkg's own log (dpkg(1), --log): one line a step, in the local time of whoever ran dpkg.
 */

/** One package that dpkg changed, or a name whose state differs although no log says why. */
export interface PackageChange {
  /** `2026-01-31 12:00:00`, as dpkg wrote it: local time, to the second. Null where no log has it. */
  at: string | null;
  action: "install" | "upgrade" | "remove" | "purge" | "disappear" | "changed";
  name: string;
  architecture: string;
  /** Null where there was none, and none is left. */
  from: string | null;
  to: string | null;
}

const LINE =
  /^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (install|upgrade|remove|purge|disappear) ([a-z0-9][a-z0-9+.-]{0,255}):([a-z0-9][a-z0-9-]{0,63}) (\S{1,256})(?: (\S{1,256}))?$/;

/**
 * The change that a line of dpkg's log tells of; null for every other line, and for garbage. An upgrade to a lower or the
 * same version is one too: dpkg calls each of them `upgrade`.
 */
export function parseDpkgLine(line: string): PackageChange | null {
  const [, at, action, name, architecture, first, second] = LINE.exec(line) ?? [];
  if (at === undefined || action === undefined || name === undefined || architecture === undefined)
    return null;
  const version = (word: string | undefined) => (word === undefined || word === "<none>" ? null : word);
  const isChange = action === "install" || action === "upgrade";
  return {
    at,
    action: action as PackageChange["action"],
    name,
    architecture,
    from: version(first),
    to: isChange ? version(second) : null,
  };
}

/** `upgrade libc6:amd64 2.36-9 2.37-1`, for people and for digests. */
export function describeChange({ action, name, architecture, from, to }: PackageChange): string {
  return `${action} ${name}:${architecture} ${from ?? "none"} ${to ?? "none"}`;
}
