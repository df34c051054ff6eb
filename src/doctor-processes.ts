import { basename } from "node:path";
import { type OldCode, oldCode } from "./apt-processes.ts";
import { type Finding, ok, warn } from "./finding.ts";
import { minuteOf } from "./monitor-events.ts";
import { isInstalled } from "./sys-systemd.ts";
import { plural } from "./terminal.ts";

/*
 * The check of units that run old code, and of a reboot. It stays a warning until the restart or the reboot has happened; the monitor,
 * which runs doctor's checks, logs when each begins and when it is over.
 */

export const OLD_CODE_CHECK = "old code";
/** Most units that are listed one by one, and files of each. */
const LISTED = 20;
const FILES = 3;

/** Units that run old code, and why to reboot. A host without Aegis's services has nobody who looked, unless it is root who asks. */
export function oldCodeFindings(look: () => OldCode = oldCode): Finding[] {
  const found = look();
  // Nobody has looked for this user yet, who sees too little.
  if (found.unseen > 0 && process.getuid?.() !== 0 && found.units.length + found.reboot.length === 0)
    return isInstalled()
      ? [ok(OLD_CODE_CHECK, `not known: ${unseenText(found)}; the monitor looks hourly`)]
      : [];
  const units = found.units.map(({ unit, files, since }) => {
    const names = [...new Set(files.map((path) => basename(path)))].sort();
    const more = names.length > FILES ? ` and ${names.length - FILES} more` : "";
    const what = `${unit} runs code that is no longer on disk: ${names.slice(0, FILES).join(", ")}${more}`;
    return warn(OLD_CODE_CHECK, `${what}; since ${minuteOf(since)}`, adviceFor(unit));
  });
  const others = units.length - LISTED;
  const reboot = found.reboot.map(({ reason, since }) =>
    warn(
      "reboot",
      `a reboot is needed: ${reason}; since ${minuteOf(since)}`,
      "When it suits, as root: systemctl reboot",
    ),
  );
  if (units.length + reboot.length === 0) {
    const but = found.unseen > 0 ? `; ${unseenText(found)}` : "";
    return [
      ok(
        OLD_CODE_CHECK,
        `no unit runs replaced code, no reboot is needed (seen ${minuteOf(found.seen_at)})${but}`,
      ),
    ];
  }
  return [
    ...units.slice(0, LISTED),
    ...(others > 0
      ? [warn(OLD_CODE_CHECK, `and ${plural(others, "more unit")}`, "See: aegis daemon status --json")]
      : []),
    ...reboot,
  ];
}

function unseenText({ unseen }: OldCode): string {
  return `${plural(unseen, "process", "processes")} could not be looked into`;
}

function adviceFor(unit: string): string {
  if (unit === "init.scope") return "Type as root: systemctl daemon-reexec";
  const uid = /^user-(\d+)\.slice$/.exec(unit)?.[1];
  if (uid !== undefined) return `The logins of uid ${uid}: log out and in again.`;
  return unit.endsWith(".service")
    ? `Type: aegis plan services restart ${unit}`
    : "Start it anew when it suits.";
}
