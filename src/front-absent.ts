import { trustsExecutionKey } from "./key-trust.ts";
import { SYSTEM } from "./paths.ts";
import { isInstalled } from "./sys-systemd.ts";

/** Why nobody answers at the executor's socket. */
export interface Absence {
  level: "warn" | "fail";
  why: string;
  /** What to type. */
  fix: string;
}

/** What it means that nothing listens: installed, the executor runs as soon as it believes anybody's signature. */
export function executorAbsence(
  look = { isInstalled, trusts: (): boolean => trustsExecutionKey() },
): Absence {
  if (!look.isInstalled()) {
    const fix = "Set it up as root: aegis daemon install; or start it by hand: aegis daemon --executor";
    return { level: "warn", why: "no executor runs on this host", fix };
  }
  let trusted = true;
  try {
    trusted = look.trusts();
  } catch {
    // A file that can't be read is told of by the check of the keys.
  }
  if (!trusted) {
    const fix = `Write an execution key into ${SYSTEM.trustedKeys}, then, as root: aegis daemon install`;
    return {
      level: "warn",
      why: "it is installed, and not started, since no execution key is trusted",
      fix,
    };
  }
  return {
    level: "fail",
    why: "it is installed, and does not run",
    fix: "Type as root: systemctl start aegisd.service; if that fails: journalctl -b -u aegisd",
  };
}
