import { isDebVersion } from "./apt-target.ts";
import type { SourcePackage } from "./doc-plan.ts";

/** `libbpf (1.1.2-0+deb12u1)`: the version stands there only where it differs from the binary package's. */
const FIELD = /^([a-z0-9][a-z0-9+.-]*)(?:[ \t]*\(([^()\s]*)\))?$/;

/**
 * The source package of a binary package, by the `Source` field of its stanza (deb-control(5), Debian Policy 5.6.1). Where
 * the field is left out, and for a part of it that can't be read, it is the binary's own name or version. One of Debian
 * 12's binaries in 22 has a source of another version.
 */
export function sourcePackageOf(name: string, version: string, field: string | undefined): SourcePackage {
  const [, source = name, given = ""] = FIELD.exec(field ?? "") ?? [];
  // A rebuild for one architecture keeps its source's version (Debian Developer's Reference 5.10.2.1).
  return { name: source, version: isDebVersion(given) ? given : version.replace(/\+b\d+$/, "") };
}
