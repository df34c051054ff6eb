import { trustsExecutionKey } from "./key-trust.ts";
import { SYSTEM } from "./paths.ts";
import { isInstalled } from "./sys-systemd.ts";

/** Why the executor's socket does not answer. */
export interface Absence {
  level: "warn" | "fail";
  why: string;
  /** What to type. */
  fix: string;
}

/** Explains a socket that does not answer. An installed executor runs as soon as an execution key is trusted. */
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
    // Doctor's check of the keys reports an unreadable file.
  }
  if (!trusted) {
    const fix = `Write an execution key into ${SYSTEM.trustedKeys}, then, as root: aegis daemon install`;
    return {
      level: "warn",
      why: "it is installed but not started, since no execution key is trusted",
      fix,
    };
  }
  return {
    level: "fail",
    why: "it is installed but not running",
    fix: "Type as root: systemctl start aegisd.service; if that fails: journalctl -b -u aegisd",
  };
}
