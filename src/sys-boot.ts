/*
 * Which boot this is. The kernel makes an id at each boot; in a container its manager does, each time it starts (random(4),
 * systemd-nspawn(1)).
 */

/** Where the kernel says it. */
export const BOOT_ID = "/proc/sys/kernel/random/boot_id";
const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** How a unit says which boot this is, as PID 1 sees it (`%b` of systemd.unit(5)). */
export const BOOT_VARIABLE = "AEGIS_BOOT_ID";

/**
 * The id of this boot, a UUID, or null where there is none. `readText` gives a file's text, or null where it can't be read.
 * `boot` is the boot in the words of the unit: in a container the hardening of systemd before 255 gives a service a /proc
 * where the outer machine's id stands.
 */
export function bootId(readText: (path: string) => string | null, boot?: string): string | null {
  const id = boot === undefined ? (readText(BOOT_ID) ?? "").trim() : withDashes(boot);
  return UUID.test(id) ? id : null;
}

/** systemd writes ids without dashes (sd-id128(3)). */
function withDashes(id: string): string {
  return id.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
