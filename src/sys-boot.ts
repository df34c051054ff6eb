import { UUID } from "./canonical.ts";

/*
 * The boot id. The kernel generates one at each boot; in a container, its manager does at each start (random(4),
 * systemd-nspawn(1)).
 */

/** The kernel's boot id. */
export const BOOT_ID = "/proc/sys/kernel/random/boot_id";

/** Environment variable in which a unit passes the boot id known to PID 1 (`%b` of systemd.unit(5)). */
export const BOOT_VARIABLE = "AEGIS_BOOT_ID";

/**
 * The id of this boot, a UUID, or null if unknown. `readText` returns a file's text, or null if unreadable. `boot` is
 * the value of {@link BOOT_VARIABLE}: in a container, systemd before 255 gives a hardened service a /proc with the
 * outer host's boot id.
 */
export function bootId(readText: (path: string) => string | null, boot?: string): string | null {
  const id = boot === undefined ? (readText(BOOT_ID) ?? "").trim() : withDashes(boot);
  return UUID.test(id) ? id : null;
}

/** systemd writes ids without dashes (sd-id128(3)). */
function withDashes(id: string): string {
  return id.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
