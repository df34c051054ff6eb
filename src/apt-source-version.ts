import { isDebVersion } from "./apt-target.ts";
import type { SourcePackage } from "./doc-plan.ts";

/** `libbpf (1.1.2-0+deb12u1)`; the version is present only if it differs from the binary package's. */
const FIELD = /^([a-z0-9][a-z0-9+.-]*)(?:[ \t]*\(([^()\s]*)\))?$/;

/**
 * A binary package's source package, from the `Source` field of its stanza (deb-control(5), Debian Policy 5.6.1).
 * Missing or malformed parts default to the binary's name or version. In Debian 12, one binary in 22 has a source
 * version of its own.
 */
export function sourcePackageOf(name: string, version: string, field: string | undefined): SourcePackage {
  const [, source = name, given = ""] = FIELD.exec(field ?? "") ?? [];
  // A binary-only rebuild keeps its source version (Debian Developer's Reference 5.10.2.1).
  return { name: source, version: isDebVersion(given) ? given : version.replace(/\+b\d+$/, "") };
}
